"""From bytes to pixels and back: sniffing, decoding, sharing, processing and encoding images.

Everything here is plain synchronous code over values: no network, no disk, no event loop. It runs in worker
threads, but for :meth:`SharedImage.view`, which is quick enough for the loop. No setting of Pillow's that
the whole process shares is ever changed. Nothing is re-exported, so that importing a part loads that part.
"""
