"""What makes an image of an image, one file each: frozen values whose ``identifier`` names what they do.

A processor is any object of the protocol ``ImageProcessor``; those here keep alpha, the colour profile and
EXIF, stay within the modes L, LA, RGB and RGBA when given one of them, and do not look at anything but
their arguments and the image. The package's own names (``imagecache.Blur`` and so on) are resolved one file at a
time: decoding needs one of them, and should not load them all.
"""
