"""What bytes are, by their first bytes and nothing else: no label, no file name, no decoder is asked.

Names are Pillow's where Pillow knows the format. Those of things that are no picture (HTML, PDF, JSON …)
exist so that an error can say what came instead.
"""

from __future__ import annotations

import re

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\1\0", "ICO"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\xff\x0a", "JXL"),
    (b"qoif", "QOI"),
    (b"8BPS", "PSD"),
    (b"DDS ", "DDS"),
    (b"icns", "ICNS"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\x1f\x8b", "GZIP"),
    (b"PK\3\4", "ZIP"),
)

# The major brand of an ISO media file (ISO/IEC 14496-12, 4.3; AV1 Image File Format, 5; HEIF, 10).
_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF",
    b"heic": "HEIF", b"heix": "HEIF", b"hevc": "HEIF", b"hevx": "HEIF", b"heim": "HEIF", b"heis": "HEIF",
}  # fmt: skip
_SHARED_BRANDS = {b"mif1", b"msf1"}

_NO_IMAGES = frozenset({"PDF", "EPS", "GZIP", "ZIP"})
SNIFFED_FORMATS = frozenset({"MPO", "WEBP", *_BRANDS.values(), *(name for _, name in _MAGIC)}) - _NO_IMAGES
"""The image formats that :func:`sniff` tells apart (an MPO begins as the JPEG it is)."""

_LOOKED_AT = 1024
_MARKUP = re.compile(rb"<(?:[a-z0-9]+:)?([a-z!?][a-z0-9]*)", re.IGNORECASE)
_PROLOGUE = re.compile(rb"\s*(?:<\?.*?\?>|<!--.*?-->|<!doctype\s+(?:svg|xml)[^>]*>)\s*", re.IGNORECASE | re.DOTALL)
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

_SUFFIXES = {
    "PNG": (".png", "image/png"),
    "JPEG": (".jpg", "image/jpeg"),
    "MPO": (".jpg", "image/jpeg"),
    "GIF": (".gif", "image/gif"),
    "WEBP": (".webp", "image/webp"),
    "AVIF": (".avif", "image/avif"),
    "BMP": (".bmp", "image/bmp"),
    "ICO": (".ico", "image/x-icon"),
    "TIFF": (".tif", "image/tiff"),
    "JPEG2000": (".jp2", "image/jp2"),
    "JXL": (".jxl", "image/jxl"),
    "HEIF": (".heic", "image/heic"),
    "QOI": (".qoi", "image/qoi"),
    "PSD": (".psd", "image/vnd.adobe.photoshop"),
    "SVG": (".svg", "image/svg+xml"),
    "HTML": (".html", "text/html"),
    "XML": (".xml", "application/xml"),
    "JSON": (".json", "application/json"),
    "PDF": (".pdf", "application/pdf"),
    "EPS": (".eps", "application/postscript"),
    "GZIP": (".gz", "application/gzip"),
    "ZIP": (".zip", "application/zip"),
}


def sniff(data: bytes) -> str | None:
    """The format of bytes by how they begin: Pillow's name, or HTML, SVG, XML, JSON, PDF, GZIP, ZIP; None if unknown.

    Only the first kilobyte is looked at, so the beginning of a body is enough.

    >>> sniff(b"GIF89a..."), sniff(b"<!DOCTYPE html><p>Not here"), sniff(b"hello")
    ('GIF', 'HTML', None)
    """
    if data[:3] == b"\xff\xd8\xff":
        # Of a hundred images on the web some seventy.
        return "JPEG"
    head = bytes(data[:_LOOKED_AT])
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    return _text(head)


def suffix_for(name: str | None) -> str:
    """The file suffix of a format, with its dot; "" where none is known."""
    return _SUFFIXES.get(name or "", ("", ""))[0]


def media_type_for(name: str | None) -> str:
    """The media type of a format (IANA's registry); ``application/octet-stream`` where none is known."""
    return _SUFFIXES.get(name or "", ("", "application/octet-stream"))[1]


def _iso_media(head: bytes) -> str | None:
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head)), 4))]
    if brands[0] in _BRANDS:
        return _BRANDS[brands[0]]
    if brands[0] in _SHARED_BRANDS:
        # Both families may put the common brand first; the compatible ones tell them apart.
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    return None


def _text(head: bytes) -> str | None:
    for mark in _BYTE_ORDER_MARKS:
        head = head.removeprefix(mark)
    # UTF-16 markup: its ASCII half is enough to name it.
    text = head.replace(b"\0", b"").lstrip()
    if text[:1] in (b"{", b"["):
        return "JSON"
    if not text.startswith(b"<"):
        return None
    has_declaration = text[:5].lower() == b"<?xml"
    while (prologue := _PROLOGUE.match(text)) is not None and prologue.end():
        text = text[prologue.end() :]
    match = _MARKUP.match(text)
    name = match[1].lower() if match else b""
    if name == b"svg":
        return "SVG"
    return "XML" if has_declaration and name != b"html" else "HTML"
