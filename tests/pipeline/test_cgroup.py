"""The least that any control group above this process allows counts, wherever the kernel shows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagecache.pipeline import machine
from imagecache.pipeline.cgroup import memory_limits
from imagecache.pipeline.machine import MEMORY_CAP, default_memory_limit, usable_memory

MIB = 2**20
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
HYBRID = (
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu\n" + V1 + "41 31 0:38 / "
    "/sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
)
UNLIMITED_V1 = "9223372036854771712"

# What the process belongs to, what is mounted where, the limit files, and the limits that are found.
MACHINES: dict[str, tuple[str, str, dict[str, str], set[int]]] = {
    "v2, the group itself": ("0::/app\n", V2, {"app/memory.max": "1000"}, {1000}),
    "v2, all above it": (
        "0::/a/b/c\n",
        V2,
        {"a/memory.max": "3000", "a/b/memory.max": "max", "a/b/c/memory.max": "2000", "memory.max": "9000"},
        {2000, 3000, 9000},
    ),
    "v2, throttled before it is full": ("0::/a\n", V2, {"a/memory.max": "3000", "a/memory.high": "2000"}, {2000, 3000}),
    "v2, not its siblings and what is below": (
        "0::/a\n",
        V2,
        {"b/memory.max": "10", "a/c/memory.max": "10", "a/memory.max": "max"},
        set(),
    ),
    "v2, in a namespace of its own": ("0::/\n", V2, {"memory.max": "1000"}, {1000}),
    "v2, the host's path in a container": ("0::/system.slice/docker-1.scope\n", V2, {"memory.max": "1000"}, {1000}),
    "v2, a path from outside the namespace": (
        "0::/../../other\n",
        V2,
        {"memory.max": "1000", "../../other/memory.max": "7"},
        {1000},
    ),
    "v2, a mount from outside the namespace": (
        "0::/app\n",
        V2.replace(" / /sys", " /../.. /sys"),
        {"memory.max": "1000", "app/memory.max": "7"},
        {1000},
    ),
    "v1, beside names that are no text": (
        "8:name=memory:/b\n5:devices:/\udce9\n4:memory:/a\n7:memory-watch:/b\n",
        V1,
        {"memory/a/memory.limit_in_bytes": "1000", "memory/b/memory.limit_in_bytes": "7"},
        {1000},
    ),
    "v2, mounted from the group on": (
        "0::/pod/app/worker\n",
        V2.replace(" / /sys", " /pod/app /sys"),
        {"memory.max": "2000", "worker/memory.max": "1000", "pod/app/worker/memory.max": "7"},
        {1000, 2000},
    ),
    "v2, mounted elsewhere": (
        "0::/app\n",
        "30 23 0:26 / /run/my\\040groups rw - cgroup2 none rw\n",
        {"../../../run/my groups/app/memory.max": "1000"},
        {1000},
    ),
    "v2, the group was deleted": ("0::/a/b (deleted)\n", V2, {"a/memory.max": "1000"}, {1000}),
    "v1": (
        "5:devices:/other\n4:memory:/a/b\n3:cpu,cpuacct:/a\n",
        V1,
        {
            "memory/a/b/memory.limit_in_bytes": UNLIMITED_V1,
            "memory/a/memory.limit_in_bytes": "2000",
            "memory/memory.limit_in_bytes": UNLIMITED_V1,
            "memory/a/b/memory.memsw.limit_in_bytes": "1",
            "memory/other/memory.limit_in_bytes": "1",
        },
        {2000},
    ),
    "v1, in a container": (
        "4:memory:/docker/1\n",
        V1.replace(" / /sys", " /docker/1 /sys"),
        {"memory/memory.limit_in_bytes": "1000"},
        {1000},
    ),
    "v1, in a container whose pod has a limit": (
        "4:memory:/pod/1\n",
        V1.replace(" / /sys", " /pod/1 /sys"),
        {
            "memory/memory.limit_in_bytes": UNLIMITED_V1,
            "memory/memory.stat": "cache 5\nhierarchical_memory_limit 3000\nhierarchical_memsw_limit 10\nrss 7",
        },
        {3000},
    ),
    "v1, controllers mounted together": (
        "4:cpu,memory:/a\n",
        "35 31 0:32 / /sys/fs/cgroup/cpu,memory rw - cgroup cgroup rw,cpu,memory\n",
        {"cpu,memory/a/memory.limit_in_bytes": "1000"},
        {1000},
    ),
    "hybrid": (
        "4:memory:/a\n1:cpu:/\n0::/b\n",
        HYBRID,
        {"memory/a/memory.limit_in_bytes": "2000", "unified/b/memory.max": "3000", "cpu/memory.max": "1"},
        {2000, 3000},
    ),
    "mounts unknown, v2": ("0::/a\n", "", {"a/memory.max": "1000"}, {1000}),
    "mounts unknown, v1": ("4:memory:/a\n", "", {"memory/a/memory.limit_in_bytes": "1000"}, {1000}),
    "groups unknown": ("", V2, {"memory.max": "1000"}, {1000}),
    "nothing but nonsense": (
        "\n::\nx\n0::\n4:memory\n0::a\x00b\n",
        (
            "- - -\n1 2 3\n30 23 0:26 / - cgroup2\n30 23 0:26 / /x rw - cgroup\n"
            "30 23 0:26 ../.. /../.. rw - cgroup2 none rw\n"
        ),
        {"memory.max": "lots", "memory.high": "-5", "memory/memory.limit_in_bytes": "٣"},
        set(),
    ),
    "no memory at all is no limit": ("0::/\n", V2, {"memory.max": "0", "memory.high": ""}, set()),
    "without control groups": ("", "", {}, set()),
}


def lay_out(root: Path, groups: str, mounts: str, limits: dict[str, str]) -> Path:
    own = root / "proc" / "self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(groups, encoding="utf-8", errors="surrogateescape")
    (own / "mountinfo").write_text(mounts, encoding="utf-8")
    for name, text in limits.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        path.resolve().write_text(f"{text}\n", encoding="utf-8")
    return root


@pytest.mark.parametrize("name", MACHINES)
def test_every_limit_above_the_process_is_found_and_no_other(tmp_path: Path, name: str) -> None:
    groups, mounts, limits, found = MACHINES[name]
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    assert set(memory_limits(lay_out(tmp_path, groups, mounts, limits))) == found


def test_what_cannot_be_read_limits_nothing(tmp_path: Path) -> None:
    assert memory_limits(tmp_path / "nowhere") == []
    for name in ("proc/self/cgroup", "proc/self/mountinfo", "sys/fs/cgroup/memory.max"):
        # A folder where a file should be, on any system and for root too.
        (tmp_path / name).mkdir(parents=True)
    assert memory_limits(tmp_path) == []
    folder = tmp_path / "sys" / "fs" / "cgroup"
    (folder / "memory.high").write_bytes(b"\xff\xfe1000")
    assert memory_limits(tmp_path) == []


def test_memory_takes_an_eighth_of_the_least_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_physical_memory", lambda: 1024 * MIB)
    limits = {"a/memory.max": str(512 * MIB), "a/b/memory.max": "max", "memory.max": str(800 * MIB)}
    root = lay_out(tmp_path, "0::/a/b\n", V2, limits)
    assert usable_memory(root) == 512 * MIB
    assert default_memory_limit(root) == 64 * MIB


def test_a_limit_beyond_the_machine_gives_no_more_than_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lay_out(tmp_path, "0::/\n", V2, {"memory.max": str(2**50)})
    monkeypatch.setattr(machine, "_physical_memory", lambda: 1024 * MIB)
    assert default_memory_limit(root) == 128 * MIB
    monkeypatch.setattr(machine, "_physical_memory", lambda: 2**40)
    assert default_memory_limit(root) == MEMORY_CAP


def test_where_nothing_is_known_the_cap_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_physical_memory", lambda: None)
    assert default_memory_limit(tmp_path) == MEMORY_CAP


def test_this_machine_says_something_sensible() -> None:
    assert 0 < default_memory_limit() <= MEMORY_CAP
