"""Whatever was done to the files of a cache, a fetch brings the right image, and the next one finds it on disk."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from imagecache import ImageManager, ServedFrom
from imagecache.storage.index import INLINE_LIMIT
from imagecache.testing import ImageServer, picture

# Without compression this one is large enough for a file; the other lies in the index.
LARGE, SMALL = picture(200, 150, seed=1, format="BMP"), picture(16, 12, seed=2)
Harm = Callable[[Path], None]


def overwrite(path: Path, content: bytes) -> None:
    with path.open("r+b") as file:
        file.write(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def zero_the_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000] + bytes(3000))


def flip_a_bit(path: Path) -> None:
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def put_another_image(path: Path) -> None:
    path.write_bytes(picture(160, 120, seed=3, format="BMP"))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def scribble(path: Path) -> None:
    overwrite(path, random.Random(1).randbytes(path.stat().st_size))


def other_version(path: Path) -> None:
    change(path, "PRAGMA user_version=99")


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def body_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "imagecache-v2" / "bodies").rglob("*") if path.is_file()]


def index_of(folder: Path) -> Path:
    return folder / "imagecache-v2" / "index-1.sqlite"


async def sizes(images: ImageManager, urls: list[str]) -> list[tuple[int, int]]:
    return [(await images.fetch_image(url)).size for url in urls]


async def fetch_twice(images: ImageManager, server: ImageServer, url: str, body: bytes) -> None:
    """From the network, in full and without a condition; then from disk."""
    before = server.count()
    first = await images.fetch(url)
    assert first.served_from is ServedFrom.NETWORK
    assert (server.count() - before, server.requests[-1].status) == (1, 200)
    assert "if-none-match" not in server.requests[-1].headers, "there is nothing to confirm"
    await images.cache.disk.flush()
    images.clear_memory()
    second = await images.fetch(url)
    assert second.served_from is ServedFrom.DISK
    assert first.image.tobytes() == second.image.tobytes()
    assert await images.fetch_data(url) == body
    assert server.count() - before == 1


@pytest.mark.parametrize("is_open", [False, True], ids=["before it is opened", "under an open cache"])
@pytest.mark.parametrize(
    "harm",
    [cut_short, zero_the_tail, flip_a_bit, put_another_image, empty, replace_by_folder, scribble, Path.unlink],
    ids=lambda harm: harm.__name__,
)
async def test_a_damaged_body_is_fetched_again_once(
    server: ImageServer, tmp_path: Path, harm: Harm, is_open: bool
) -> None:
    assert len(LARGE) > INLINE_LIMIT
    url = server.add("/a.bmp", LARGE)
    async with ImageManager(directory=tmp_path) as images:
        await images.fetch_image(url)
        await images.cache.disk.flush()
        if is_open:
            images.clear_memory()
            harm(body_files(tmp_path)[0])
            await fetch_twice(images, server, url, LARGE)
    if not is_open:
        harm(body_files(tmp_path)[0])
        async with ImageManager(directory=tmp_path) as images:
            await fetch_twice(images, server, url, LARGE)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bodies SET body = substr(body, 1, 50)",
        "UPDATE bodies SET body = x''",
        "DELETE FROM bodies",
        "UPDATE entries SET metadata = replace(metadata, '200', '404')",
        "UPDATE entries SET metadata = CAST(x'5bff' AS TEXT)",
        "UPDATE entries SET stored_until = 'soon', lifetime = 'long'",
        "UPDATE entries SET cost = 'dear'",
    ],
)
async def test_a_damaged_row_is_fetched_again_once(server: ImageServer, tmp_path: Path, statement: str) -> None:
    url = server.add("/a.png", SMALL)
    async with ImageManager(directory=tmp_path) as images:
        await images.fetch_image(url)
        await images.cache.disk.flush()
        images.clear_memory()
        change(index_of(tmp_path), statement)
        await fetch_twice(images, server, url, SMALL)


@pytest.mark.parametrize("is_open", [False, True], ids=["before it is opened", "under an open cache"])
@pytest.mark.parametrize("harm", [scribble, empty, cut_short, other_version], ids=lambda harm: harm.__name__)
async def test_behind_a_damaged_index_every_image_is_right_and_soon_on_disk_again(
    server: ImageServer, tmp_path: Path, harm: Harm, is_open: bool
) -> None:
    urls = [server.add(f"/{number}.png", picture(20 + number, 12, seed=number)) for number in range(8)]
    expected = [(20 + number, 12) for number in range(8)]

    async def use(images: ImageManager) -> None:
        # What finds the damage may take along what was stored before it; the next round has it again.
        for _ in range(3):
            assert await sizes(images, urls) == expected
            await images.cache.disk.flush()
            images.clear_memory()
        before = server.count()
        assert await sizes(images, urls) == expected
        assert server.count() == before
        assert images.cache.disk.is_available

    async with ImageManager(directory=tmp_path) as images:
        assert await sizes(images, urls) == expected
        await images.cache.disk.flush()
        if is_open:
            images.clear_memory()
            change(index_of(tmp_path), "PRAGMA wal_checkpoint(TRUNCATE)")
            harm(index_of(tmp_path))
            await use(images)
    if not is_open:
        harm(index_of(tmp_path))
        async with ImageManager(directory=tmp_path) as images:
            await use(images)


async def test_an_image_under_anothers_key_is_not_shown_for_it(server: ImageServer, tmp_path: Path) -> None:
    urls = [server.add("/a.png", picture(20, 12, seed=1)), server.add("/b.png", picture(21, 12, seed=2))]
    async with ImageManager(directory=tmp_path) as images:
        await sizes(images, urls)
        await images.cache.disk.flush()
        images.clear_memory()
        change(
            index_of(tmp_path),
            "CREATE TEMP TABLE old AS SELECT * FROM entries",
            "UPDATE entries SET key = (SELECT key FROM old WHERE old.id <> entries.id), "
            "key_hash = (SELECT key_hash FROM old WHERE old.id <> entries.id)",
        )
        for _ in range(2):
            assert await sizes(images, urls) == [(20, 12), (21, 12)]
            await images.cache.disk.flush()
            images.clear_memory()
        assert server.count() == 4
