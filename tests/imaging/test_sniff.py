"""What bytes are is told by their beginning alone."""

from __future__ import annotations

import pytest

from imagecache.imaging.sniff import media_type_for, sniff, suffix_for

from .samples import FORMATS, animated, sample


@pytest.mark.parametrize("name", FORMATS)
def test_real_files_are_recognised(name: str) -> None:
    assert sniff(sample(name)) == name


def test_an_avif_sequence_is_an_avif() -> None:
    assert sniff(animated("AVIF")) == "AVIF"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"  \r\n<html lang=en>", "HTML"),
        (b"\xef\xbb\xbf<!doctype HTML>", "HTML"),
        (b"<!-- a comment --><HEAD>", "HTML"),
        (b"<script>", "HTML"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- made by hand -->\n<svg width='1'>", "SVG"),
        (b"<?xml version='1.0'?><!DOCTYPE svg PUBLIC 'x' 'y'><svg>", "SVG"),
        (b"<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><feed>", "XML"),
        (b"<?xml version='1.0'?><html xmlns='x'>", "HTML"),
        ("\ufeff<html>".encode("utf-16-le"), "HTML"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.7", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
        (b"\xc5\xd0\xd3\xc6....", "EPS"),
        (b"II*\0", "TIFF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\xff\x0a", "JXL"),
        (b"\x1f\x8b\x08", "GZIP"),
        (b"RIFF\0\0\0\0WAVE", None),
        (b"\0\0\0\x18ftypisom\0\0\0\0", None),
        (b"plain text", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_what_else_comes_is_named(data: bytes, name: str | None) -> None:
    assert sniff(data) == name


def test_suffix_and_media_type_follow_the_format() -> None:
    assert [suffix_for("JPEG"), suffix_for("MPO"), suffix_for(None), suffix_for("TGA")] == [".jpg", ".jpg", "", ""]
    assert media_type_for("WEBP") == "image/webp"
    assert media_type_for(None) == "application/octet-stream"
