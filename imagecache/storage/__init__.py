"""What is kept and where: memory, disk, the index over rows and files, the ETag registry, `ImageCache` over all.

Nothing here knows how an image is downloaded, decoded or processed; values in memory are opaque, bodies are bytes.
"""
