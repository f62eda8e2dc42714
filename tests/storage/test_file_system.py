"""What lies on another machine is told from what lies on this one, by the table of mounts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from imagecache.storage.disk import DiskStorage
from imagecache.storage.file_system import NETWORK, kind_at, network_file_system
from imagecache.storage.stored import DiskState, StoreStatus
from imagecache.testing.clock import FakeClock

from .entries import entry_for

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
40 22 0:40 / /home rw,relatime shared:20 - nfs4 server:/export/home rw,vers=4.2
41 40 8:2 / /home/me/local rw - xfs /dev/sdb1 rw
42 22 0:42 / /mnt/my\040share rw master:1 propagate_from:2 - cifs //server/share rw
43 22 0:43 / /srv rw - ext4 /dev/sdc1 rw
44 43 0:44 / /srv rw - fuse.sshfs me@server:/srv rw
45 22 0:45 / /host rw - 9p host rw
46 22 0:46 / /homestead rw - btrfs /dev/sdd1 rw
a line that is none
47 22 0:47
""".strip()  # fmt: skip


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/cache", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/.cache", "nfs4"),
        ("/home/me/local/cache", "xfs"),
        ("/homestead/cache", "btrfs"),
        ("/mnt/my share/cache", "cifs"),
        ("/srv/cache", "fuse.sshfs"),
        ("/host/cache", "9p"),
    ],
)
def test_a_path_lies_where_the_longest_mount_point_above_it_is(path: str, kind: str) -> None:
    assert kind_at(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("path", "kind"), [("/var/cache", None), ("/home/me", "nfs4"), ("/home/me/local", None), ("/host", None)]
)
def test_only_other_machines_are_told(tmp_path: Path, path: str, kind: str | None) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert network_file_system(Path(path), tmp_path / "mounts") == kind


def test_where_there_is_no_table_everything_is_local(tmp_path: Path) -> None:
    assert network_file_system(Path("/home/me"), tmp_path / "mounts") is None
    assert network_file_system(tmp_path) is None


@given(st.text())
def test_no_table_is_too_odd_to_be_read(text: str) -> None:
    assert kind_at(Path("/home"), text) in {None, *NETWORK, *text.split()}


async def test_a_network_folder_means_memory_only_said_once(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("imagecache.storage.folder.network_file_system", lambda path: "nfs4")
    told: list[tuple[str, Exception]] = []
    disk = DiskStorage(tmp_path, clock=clock, on_fault=lambda *fault: told.append(fault))
    for number in range(3):
        result = await disk.put(entry_for(clock, b"x", str(number)), b"x")
        assert result.status is StoreStatus.UNAVAILABLE
    assert disk.state is DiskState.UNAVAILABLE
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "network file system (nfs4); give a local folder; images are kept in memory only" in record.getMessage()
    await asyncio.sleep(0)
    assert [what for what, _ in told] == ["open"]
    assert not (tmp_path / "imagecache-v2").exists()
    await disk.aclose()
