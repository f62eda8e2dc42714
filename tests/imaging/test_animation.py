"""Animations are read frame by frame, with a decoder of their own, within the limits."""

from __future__ import annotations

import struct
import threading

import pytest
from PIL import Image

from imagecache.errors import DecodeError, ImageTooLargeError, NotAnImageError
from imagecache.imaging.animation import PillowAnimation, open_animation
from imagecache.imaging.limits import ImageLimits
from imagecache.protocols import Animation

from .samples import ANIMATED_FORMATS, FORMATS, LIMITS, URL, animated, decoded, pattern, sample, saved

AT = (30, 20)  # untouched by the moving dot


def opened(data: bytes) -> PillowAnimation:
    return open_animation(data, LIMITS, URL)


def colour(image: Image.Image) -> tuple[int, ...]:
    found = image.convert("RGB").getpixel(AT)
    assert isinstance(found, tuple)
    return found


def frame_colour(index: int) -> object:
    return pytest.approx((60 * index, 255 - 60 * index, 30), abs=8)


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_frames_come_composed_and_in_any_order(name: str) -> None:
    animation: Animation = opened(animated(name))
    assert animation.frame_count == 4
    for index in (0, 1, 2, 3, 1, 3, 0):
        frame = animation.frame(index)
        assert type(frame) is Image.Image
        assert frame.mode in ("RGB", "RGBA")
        assert frame.format == name
        assert colour(frame) == frame_colour(index)


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_durations_are_told_without_decoding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    animation = opened(animated(name))
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    assert [animation.duration(index) for index in range(4)] == pytest.approx([0.1, 0.25, 0.04, 0.5], abs=0.01)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
@pytest.mark.parametrize(("milliseconds", "seconds"), [(0, 0.1), (10, 0.1), (20, 0.02), (1000, 1.0)])
def test_absurdly_short_durations_become_a_tenth_of_a_second(name: str, milliseconds: int, seconds: float) -> None:
    animation = opened(animated(name, duration=milliseconds))
    assert animation.duration(1) == pytest.approx(seconds)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP"])
def test_how_often_it_plays(name: str) -> None:
    assert opened(animated(name, loop=0)).loop_count == 0
    # GIF counts repetitions, the others showings.
    assert opened(animated(name, loop=3)).loop_count == (4 if name == "GIF" else 3)


def test_a_gif_that_says_nothing_plays_once() -> None:
    assert opened(animated("GIF", loop=None)).loop_count == 1


@pytest.mark.parametrize("name", FORMATS)
def test_a_still_image_has_one_frame(name: str) -> None:
    animation = opened(sample(name))
    assert (animation.frame_count, animation.duration(0)) == (1, 0.1)
    assert animation.frame(0) == animation.frame(0) == decoded(sample(name))


def test_the_picture_for_those_who_know_no_apng_is_no_frame() -> None:
    data = animated("PNG", default_image=True)
    animation = opened(data)
    assert animation.frame_count == 3
    assert [colour(animation.frame(index)) for index in range(3)] == [frame_colour(index) for index in (1, 2, 3)]


def test_frames_belong_to_whoever_asked() -> None:
    animation = opened(animated("GIF"))
    first = animation.frame(0)
    first.paste("black", (0, 0, 32, 24))
    assert colour(animation.frame(1)) == frame_colour(1)
    assert colour(animation.frame(0)) == frame_colour(0)


def test_there_are_no_other_frames() -> None:
    animation = opened(animated("WEBP"))
    for index in (-1, 4, 1000):
        with pytest.raises(IndexError):
            animation.frame(index)
        with pytest.raises(IndexError):
            animation.duration(index)


def test_a_closed_animation_says_so() -> None:
    with opened(animated("GIF")) as animation:
        animation.frame(2)
    animation.close()
    with pytest.raises(ValueError, match="closed"):
        animation.frame(0)


def test_limits_hold() -> None:
    with pytest.raises(ImageTooLargeError):
        open_animation(animated("GIF"), ImageLimits(max_frames=3), URL)
    with pytest.raises(NotAnImageError):
        open_animation(b"<html>", LIMITS, URL)


def test_a_frame_that_enlarges_the_canvas_is_counted_before_anything_is_decoded() -> None:
    data = bytearray(animated("GIF", size=(16, 16)))
    last = data.rindex(b"\x2c\0\0")  # an image descriptor: left, top, width, height
    data[last + 1 : last + 5] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(ImageTooLargeError):
        opened(bytes(data))


@pytest.mark.parametrize("name", ANIMATED_FORMATS)
def test_a_damaged_later_frame_is_our_error(name: str) -> None:
    data = bytearray(animated(name, size=(64, 64)))
    for at in range(len(data) * 2 // 3, len(data) - 40):
        data[at] ^= 0xA5
    try:
        animation = opened(bytes(data))
        for index in range(animation.frame_count):
            animation.frame(index)
    except (DecodeError, ImageTooLargeError):
        pass


def test_threads_take_turns() -> None:
    animation = opened(animated("GIF"))
    wrong: list[int] = []

    def look(order: tuple[int, ...]) -> None:
        wrong.extend(index for index in order if colour(animation.frame(index)) != frame_colour(index))

    threads = [threading.Thread(target=look, args=(order,)) for order in ((0, 1, 2, 3) * 5, (3, 1, 0, 2) * 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_frames_are_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    images = [pattern((40, 20)), pattern((40, 20)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    data = saved(images[0], "WEBP", save_all=True, append_images=images[1:], duration=100, exif=exif.tobytes())
    animation = opened(data)
    assert [animation.frame(index).size for index in range(2)] == [(20, 40), (20, 40)]
