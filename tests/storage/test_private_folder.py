"""Our folder is ours alone, whatever the umask; nothing in it is followed out of it, and what is foreign stays."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagecache.storage.disk import DiskStorage
from imagecache.storage.index import INLINE_LIMIT
from imagecache.storage.stored import StoreStatus
from imagecache.testing.clock import FakeClock

from . import harm
from .entries import URL, entry_for
from .test_disk import body_files, body_of, swept

SMALL = b"small body"
LARGE = os.urandom(INLINE_LIMIT + 1)
MakeDisk = Callable[..., DiskStorage]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="rights, links and pipes are another matter there")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rights_in(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


def contents_of(folder: Path) -> dict[str, object]:
    """What lies in a folder, links not followed."""
    return {
        str(path.relative_to(folder)): os.readlink(path)  # noqa: PTH115 - as text
        if path.is_symlink()
        else path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
    }  # fmt: skip


def put_file(path: Path, content: bytes = b"somebody's") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def move_behind_a_link(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def resolves_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


@posix_only
@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777], ids=oct)
async def test_folders_are_0700_and_files_0600_whatever_the_umask(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path, mask: int
) -> None:
    with umask(mask):
        disk = make_disk()
        await disk.put(entry_for(clock, SMALL), SMALL)
        await disk.aclose()
        harm.scribble(folder / "index-1.sqlite")
        other = make_other()
        await other.put(entry_for(clock, LARGE), LARGE)
        assert await body_of(other, entry_for(clock, LARGE)) == LARGE
        held = await other.hold(entry_for(clock, SMALL), SMALL, ".png")
        # What is abandoned is removed meanwhile.
        await swept(other)
        modes = rights_in(folder)
    assert modes.pop(str(held.relative_to(folder))) == 0o400, "a copy that others are handed cannot be changed"
    folders = {name: mode for name, mode in modes.items() if "." not in name.strip(".") and name != "current"}
    assert set(folders) >= {".", "bodies", "writers", "held"}
    assert set(folders.values()) == {0o700}
    files = {name: mode for name, mode in modes.items() if name not in folders}
    assert {"current", "index-2.sqlite", "index-2.sqlite-wal", "index-2.sqlite-shm"} <= set(files)
    assert any(name.endswith(".lock") for name in files)
    assert any(name.startswith("bodies/") for name in files)
    assert set(files.values()) == {0o600}, files


@posix_only
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o644, 0o666])
async def test_an_index_with_other_rights_gets_its_own_back(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, mode: int
) -> None:
    disk, entry = make_disk(), entry_for(clock, SMALL)
    await disk.put(entry, SMALL)
    await disk.aclose()
    set_mode(folder / "index-1.sqlite", mode)
    disk = make_disk()
    assert await body_of(disk, entry) == SMALL
    assert (await disk.put(entry_for(clock, SMALL, "2"), SMALL)).status is StoreStatus.STORED
    assert {mode for name, mode in rights_in(folder).items() if name.startswith("index")} == {0o600}


@posix_only
async def test_a_folder_of_another_user_is_refused_and_left_alone(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, entry = make_disk(), entry_for(clock, SMALL)
    await disk.put(entry, SMALL)
    await disk.aclose()
    before = contents_of(folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    disk = make_disk()
    assert await body_of(disk, entry) is None
    assert (await disk.put(entry, SMALL)).status is StoreStatus.UNAVAILABLE
    assert "another user" in str(disk.last_fault)
    assert contents_of(folder) == before
    monkeypatch.undo()
    assert rights_in(folder)["."] == 0o700


@posix_only
@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o755, 0o777])
async def test_a_folder_that_was_opened_to_others_is_refused_at_the_next_start(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, mode: int
) -> None:
    disk, entry = make_disk(), entry_for(clock, SMALL)
    await disk.put(entry, SMALL)
    await disk.aclose()
    set_mode(folder, mode)
    disk = make_disk()
    assert await body_of(disk, entry) is None
    assert (await disk.put(entry, SMALL)).status is StoreStatus.UNAVAILABLE
    assert mode_of(folder) == mode


@posix_only
@pytest.mark.parametrize("name", ["bodies", "writers", "held"])
async def test_a_link_in_the_place_of_one_of_our_folders_is_refused(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path, name: str
) -> None:
    disk, entry = make_disk(), entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    await disk.aclose()
    move_behind_a_link(folder / name, tmp_path / "elsewhere")
    before = contents_of(tmp_path / "elsewhere")
    disk = make_disk()
    assert await body_of(disk, entry) is None
    assert (await disk.put(entry, LARGE)).status is StoreStatus.UNAVAILABLE
    assert "no folder" in str(disk.last_fault)
    assert not resolves_inside(await disk.hold(entry, LARGE, ".png"), tmp_path)
    assert contents_of(tmp_path / "elsewhere") == before


@posix_only
async def test_a_link_in_the_place_of_a_sub_folder_is_not_followed(
    disk: DiskStorage, make_other: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    entry = entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    shard = body_files(folder)[0].parent
    put_file(shard / f"{entry.row.key_hash}-{'0' * 16}0.png")
    move_behind_a_link(shard, tmp_path / "elsewhere")
    before = contents_of(tmp_path / "elsewhere")
    assert len(before) == 2
    for storage in (disk, make_other()):
        assert await body_of(storage, entry) is None
        assert (await storage.put(entry, LARGE)).status is StoreStatus.FAILED
        assert await body_of(storage, entry) is None
        assert (await storage.put(entry_for(clock, SMALL), SMALL)).status is StoreStatus.STORED
        await storage.remove(entry.row.key_hash)
        await storage.clean()
        await swept(storage)
        assert contents_of(tmp_path / "elsewhere") == before
    shard.unlink()
    assert (await disk.put(entry, LARGE)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == LARGE


@posix_only
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
async def test_a_link_in_the_place_of_an_index_is_passed_over(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, tmp_path: Path, suffix: str
) -> None:
    disk, entry = make_disk(), entry_for(clock, SMALL)
    await disk.put(entry, SMALL)
    await disk.aclose()
    foreign = tmp_path / "notes.txt"
    put_file(foreign, b"")
    set_mode(foreign, 0o640)
    if not suffix:
        (folder / "index-1.sqlite").unlink()
    link(folder / f"index-1.sqlite{suffix}", foreign)
    disk = make_disk()
    assert (await disk.put(entry, SMALL)).status is StoreStatus.STORED
    assert await body_of(disk, entry) == SMALL
    await disk.clean()
    await swept(disk)
    assert contents_of(tmp_path)["notes.txt"] == b""
    assert mode_of(foreign) == 0o640


@posix_only
async def test_a_link_among_the_signs_of_life_is_nobodys_and_stays(
    disk: DiskStorage, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    await disk.put(entry_for(clock, SMALL), SMALL)
    put_file(tmp_path / "notes.txt")
    put_file(folder / "writers" / "notes.lock")
    link(folder / "writers" / f"{'1' * 16}.lock", tmp_path / "notes.txt")
    (folder / "writers" / f"{'2' * 16}.lock").mkdir()
    os.mkfifo(folder / "writers" / f"{'3' * 16}.lock")
    before = contents_of(folder / "writers")
    store = disk._store
    assert store is not None
    await disk.clean()
    await swept(disk)
    assert not await asyncio.to_thread(store.has_company)
    assert contents_of(folder / "writers") == before
    assert contents_of(tmp_path)["notes.txt"] == b"somebody's"


@posix_only
async def test_a_link_among_the_held_files_is_neither_handed_out_nor_changed(
    disk: DiskStorage, clock: FakeClock, folder: Path, tmp_path: Path
) -> None:
    entry, foreign = entry_for(clock, SMALL), tmp_path / "notes.txt"
    path = await disk.hold(entry, SMALL, ".png")
    put_file(foreign, SMALL)
    set_mode(foreign, 0o640)
    path.unlink()
    link(path, foreign)
    held = await disk.hold(entry, SMALL, ".png")
    assert held.read_bytes() == SMALL
    assert not held.is_symlink()
    held.unlink()
    link(held, foreign)
    clock.advance(7200)
    await disk.clean()
    await swept(disk)
    assert not held.is_symlink(), "its hour is over"
    assert mode_of(foreign) == 0o640
    assert contents_of(tmp_path)["notes.txt"] == SMALL


@pytest.mark.parametrize("content", [b"", b"x" * len(SMALL), SMALL + b"x"], ids=repr)
async def test_a_held_file_with_other_bytes_is_not_handed_out_again(
    disk: DiskStorage, clock: FakeClock, content: bytes
) -> None:
    entry = entry_for(clock, SMALL)
    path = await disk.hold(entry, SMALL, ".png")
    set_mode(path, 0o600)
    put_file(path, content)
    held = await disk.hold(entry, SMALL, ".png")
    assert held.read_bytes() == SMALL
    assert held == path


async def test_a_folder_in_the_place_of_a_held_file_stays(disk: DiskStorage, clock: FakeClock) -> None:
    entry = entry_for(clock, SMALL)
    path = await disk.hold(entry, SMALL, ".png")
    set_mode(path, 0o600)
    harm.replace_by_folder(path)
    held = await disk.hold(entry, SMALL, ".png")
    assert held != path
    assert held.read_bytes() == SMALL
    assert contents_of(path.parent) == {path.name: path.stat().st_mode, f"{path.name}/notes.txt": b"somebody's"}


FOREIGN = [
    "notes.txt",
    "index.sqlite",
    "index-x.sqlite",
    "index-1.sqlite.bak",
    "current.old",
    "folder/notes.txt",
    "bodies/notes.txt",
    "bodies/ab/notes.txt",
    "bodies/ab/deeper/notes.txt",
    "bodies/zz/notes.txt",
    "bodies/abc/notes.txt",
    f"bodies/zz/{'a' * 64}-{'0' * 16}0.png",
    f"bodies/ab/{'b' * 63}-{'0' * 16}0.png",
    f"bodies/{'a' * 64}-{'0' * 16}0.png",
    "bodies/ba",
    "writers/notes.txt",
    "writers/notes.lock",
    "held/notes.txt",
    "held/folder/notes.txt",
]


async def test_foreign_files_and_folders_stay_and_do_no_harm(
    make_disk: MakeDisk, make_other: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk = make_disk()
    await disk.put(entry_for(clock, LARGE), LARGE)
    for name in FOREIGN:
        put_file(folder / name)
    if sys.platform != "win32":
        os.mkfifo(folder / "bodies" / "ab" / "pipe")
        link(folder / "bodies" / "ab" / "link", folder.parent)
        link(folder / "bodies" / "cd", folder.parent)
    for storage in (disk, make_other()):
        assert await body_of(storage, entry_for(clock, LARGE)) == LARGE
        await storage.clean()
        await swept(storage)
    await disk.clear()
    await disk.aclose()
    disk = make_disk()
    await disk.clean()
    await swept(disk)
    found = contents_of(folder)
    assert [found.get(name) for name in FOREIGN] == [b"somebody's"] * len(FOREIGN)
    assert disk.faults == 0


async def test_a_folder_with_the_name_of_a_body_stays_and_stops_no_sweep(
    make_disk: MakeDisk, clock: FakeClock, folder: Path
) -> None:
    disk, entry = make_disk(), entry_for(clock, LARGE)
    await disk.put(entry, LARGE)
    kept = body_files(folder)[0]
    orphan = kept.with_name(f"{entry.row.key_hash}-{'0' * 16}0.png")
    folder_in_place = kept.with_name(f"{entry.row.key_hash}-{'0' * 16}1.png")
    put_file(orphan)
    put_file(folder_in_place / "notes.txt")
    await disk.clean()
    await swept(disk)
    assert sorted(body_files(folder)) == sorted([kept, folder_in_place / "notes.txt"])
    assert await body_of(disk, entry) == LARGE


@posix_only
@pytest.mark.parametrize("name", ["current", "index-1.sqlite", "held", "bodies", "writers"])
async def test_a_pipe_or_a_socket_stops_no_thread(
    make_disk: MakeDisk, clock: FakeClock, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir(mode=0o700)
    if name in ("current", "index-1.sqlite"):
        os.mkfifo(folder / name)
    else:
        monkeypatch.chdir(folder)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    disk = make_disk()
    result = await disk.put(entry_for(clock, LARGE), LARGE)
    is_ours = name in ("current", "index-1.sqlite")
    assert result.status is (StoreStatus.STORED if is_ours else StoreStatus.UNAVAILABLE)
    stored = await disk.load(entry_for(clock, LARGE).row.key_hash, key=URL)
    assert (stored is not None) is is_ours
