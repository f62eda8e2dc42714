"""The hash of a key: one name for an entry in the registry, in the news for delegates, and on the disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from imagecache import ImageManager, hash_for_key, key_for_url
from imagecache.testing import ImageServer, picture


@pytest.mark.parametrize("key", ["http://a.example/x.png", "avatar-7", "http://a.example/ü?a=1&b=2", "", "\ud800"])
def test_it_is_the_sha_256_of_the_key(key: str) -> None:
    assert hash_for_key(key) == hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@pytest.mark.parametrize(
    ("path", "key"),
    [("/a.jpg", None), ("/a.jpg?size=2#part", None), ("/a.jpg?signature=1", "avatar-7")],
)
async def test_stored_and_held_files_begin_with_it(tmp_path: Path, path: str, key: str | None) -> None:
    async with ImageServer() as server, ImageManager(directory=tmp_path) as images:
        body = picture(900, 700, format="JPEG", quality=95)
        server.add("/a.jpg", body)
        url = f"{server.origin}{path}"
        held = await images.fetch_file(url, cache_key=key) if key else await images.fetch_file(url)
        expected = hash_for_key(key or key_for_url(url))
        assert held.name.startswith(expected)
        await images.cache.disk.flush()
        (stored,) = [file for file in tmp_path.rglob("bodies/*/*") if file.is_file()]
        assert stored.name.startswith(expected)
        assert stored.read_bytes() == body
        assert await images.etags.get(expected) == server.etag("/a.jpg")
