"""What feeds and follows a prefetch: reading lists of URLs, counting what became of them, telling it.

Fetching and storing are the manager's; printing is the command line's.
"""
