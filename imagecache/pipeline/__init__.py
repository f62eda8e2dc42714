"""What is in flight: joined work, and the stages from a URL to bytes, to pixels, to a processed image.

Here the three neighbours, ``network``, ``storage`` and ``imaging``, meet. A stage's function reads from top
to bottom as its policy; the waiting is in ``flight``, the threads are in ``workers``.
"""
