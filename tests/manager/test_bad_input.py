"""Whatever comes over the wire or is asked for wrongly: a clear error of ours, and nothing lost or stuck."""

from __future__ import annotations

import io
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from PIL import Image

import imagecache
from imagecache import (
    BadStatusError,
    BodyTooLargeError,
    ConnectionFailedError,
    DecodeError,
    ImageCacheError,
    ImageLimits,
    ImageManager,
    ImageTooLargeError,
    NotAnImageError,
    RedirectError,
    ServedFrom,
    TruncatedBodyError,
)  # fmt: skip
from imagecache.default import _DefaultManagers
from imagecache.testing import Answer, ImageServer, picture

NOISE = picture(200, 150, seed=3, format="PNG")
CUT = picture(200, 150, seed=4, format="JPEG")[:-400]


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[ImageManager]:
    async with ImageManager(
        directory=tmp_path / "cache", max_body=100_000, limits=ImageLimits(max_pixels=1_000_000)
    ) as manager:
        yield manager


def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


def serve(content: bytes, **options: object) -> Callable[[ImageServer], str]:
    return lambda server: server.add("/bad", content, **options)  # type: ignore[arg-type]  # passed on


def scripted(answer: Answer) -> Callable[[ImageServer], str]:
    def prepare(server: ImageServer) -> str:
        server.add("/bad", NOISE)
        return server.always("/bad", answer)

    return prepare


BAD: list[tuple[str, Callable[[ImageServer], str], type[ImageCacheError]]] = [
    ("refused", lambda _: f"http://127.0.0.1:{closed_port()}/a.png", ConnectionFailedError),
    ("unresolvable", lambda _: "http://no-such-host.invalid/a.png", ConnectionFailedError),
    ("404", lambda server: server.url("/nothing"), BadStatusError),
    ("500", scripted(Answer(status=500)), BadStatusError),
    ("204", scripted(Answer(status=204)), BadStatusError),
    ("206 unasked", scripted(Answer(status=206, content=NOISE)), BadStatusError),
    ("HTML", serve(b"<!doctype html><title>Sorry</title>", headers={"Content-Type": "image/png"}), NotAnImageError),
    ("SVG", serve(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), NotAnImageError),
    ("PDF", serve(b"%PDF-1.7 ..."), NotAnImageError),
    ("empty", serve(b""), NotAnImageError),
    ("nonsense", serve(b"\x00\x01\x02" * 50), NotAnImageError),
    ("truncated", scripted(Answer(cut_at=1000)), TruncatedBodyError),
    ("cut image", serve(CUT), DecodeError),
    ("too large", serve(NOISE + b"\0" * 100_000), BodyTooLargeError),
    ("endless", scripted(Answer(is_endless=True)), BodyTooLargeError),
    ("bomb", serve(png(2000, 2000)), ImageTooLargeError),
    ("redirect loop", scripted(Answer.redirect("/bad")), RedirectError),
    ("redirect to a file", scripted(Answer.redirect("file:///etc/passwd")), RedirectError),
]


@pytest.mark.parametrize(("prepare", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_bad_input_is_a_clear_error_and_leaves_the_cache_as_it_was(
    server: ImageServer, images: ImageManager, prepare: Callable[[ImageServer], str], expected: type[ImageCacheError]
) -> None:
    good = server.add("/good.png", NOISE)
    await images.fetch_image(good)
    url = prepare(server)
    for _ in range(2):
        with pytest.raises(expected) as caught:
            await images.fetch_image(url)
        assert caught.value.url == url
        assert url in str(caught.value)
    await images.cache.disk.flush()
    assert await images.cache.disk.count() == 1
    assert len(images._flights) == 0
    assert (await images.fetch(good)).served_from is ServedFrom.MEMORY
    server.always("/bad", None)
    if url == server.url("/bad"):
        server.add("/bad", NOISE)
        assert (await images.fetch_image(url)).size == (200, 150)


async def test_an_error_has_its_cause(images: ImageManager) -> None:
    with pytest.raises(ConnectionFailedError) as caught:
        await images.fetch_image(f"http://127.0.0.1:{closed_port()}/")
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_bad_answer_to_a_refresh_keeps_the_good_copy(server: ImageServer, images: ImageManager) -> None:
    url = server.add("/bad", NOISE)
    before = await images.fetch_image(url)
    for answer in (
        Answer(status=500),
        Answer(content=b"<html>", ignores_conditions=True),
        Answer(cut_at=10, ignores_conditions=True),
    ):
        server.always("/bad", answer)
        with pytest.raises(ImageCacheError):
            await images.fetch_image(url, force_refresh=True)
        assert (await images.fetch_image(url)).tobytes() == before.tobytes()
        images.clear_memory()
        assert (await images.fetch_image(url)).tobytes() == before.tobytes()


async def test_userinfo_is_shown_nowhere_and_stored_nowhere(
    server: ImageServer, images: ImageManager, tmp_path: Path
) -> None:
    url = server.add("/a.png", NOISE).replace("http://", "http://user:hunter2@")
    result = await images.fetch(url)
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert "hunter2" not in result.url + result.final_url
    with pytest.raises(BadStatusError) as caught:
        await images.fetch_image(url + ".absent")
    assert "hunter2" not in str(caught.value)
    await images.aclose()
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


async def test_an_unusable_folder_still_gives_the_image(
    server: ImageServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"not a folder")
    async with ImageManager(directory=blocked) as images:
        url = server.add("/a.png", NOISE)
        assert (await images.fetch(url)).served_from is ServedFrom.NETWORK
        assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
        assert not images.cache.disk.is_available
        assert await images.fetch_data(url) == NOISE
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("answer", [RuntimeError("Could not determine home directory."), Path("~/.cache/imagecache")])
@pytest.mark.parametrize("is_default", [False, True])
async def test_without_a_home_there_is_memory_only_and_one_warning(
    server: ImageServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: Exception | Path,
    is_default: bool,
) -> None:
    import platformdirs

    def nowhere(*args: object, **options: object) -> Path:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.delenv("IMAGECACHE_DIR", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_path", nowhere)
    if is_default:
        monkeypatch.setattr("imagecache.default._defaults", _DefaultManagers())
        imagecache.configure("homeless")
    async with imagecache.default_manager() if is_default else ImageManager("homeless") as images:
        url = server.add("/a.png", NOISE)
        await images.fetch_image(url)
        assert (await images.fetch(url)).served_from is ServedFrom.MEMORY
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


async def test_a_stored_image_that_no_longer_decodes_is_dropped_and_loaded_again(
    server: ImageServer, images: ImageManager
) -> None:
    body = picture(900, 700, seed=5, format="JPEG", quality=80)
    url = server.add("/big.jpg", body)
    await images.fetch_image(url)
    await images.cache.disk.flush()
    images.clear_memory()
    folder = images.cache.disk.directory
    assert folder is not None
    damaged = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == len(body)]
    assert len(damaged) == 1
    damaged[0].chmod(0o600)
    damaged[0].write_bytes(body[:5000] + b"\0" * (len(body) - 5000))
    result = await images.fetch(url)
    assert result.served_from is ServedFrom.NETWORK
    assert server.count() == 2
