"""The workloads and the candidates: which there are, what each of them needs, and who takes part in what."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from enum import Enum
from typing import Literal

AT_ONCE = 32
"""Fetches under way at one time, for everybody."""
CALLERS = 100
"""Callers of one URL at once in the coalescing workload."""
PAIRS = 3
"""How often one caller and many are timed in one process, in turn."""

Kind = Literal["thumbnails", "photos"]


class Job(Enum):
    """What is done with a batch of URLs."""

    COLD = "cold"
    PREFETCHED = "prefetched"
    DISK = "disk"
    REFRESH = "refresh"
    COALESCED = "coalesced"


@dataclass(frozen=True, slots=True)
class Workload:
    """One panel of the chart and one block of the table."""

    name: str
    title: str
    kind: Kind
    job: Job
    candidates: tuple[str, ...]

    @property
    def prefix(self) -> str:
        """The server's folder: under ``again/`` the same files have to be revalidated before each use."""
        return f"again/{self.kind}" if self.job is Job.REFRESH else self.kind


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody to measure. ``modules`` have to be importable, ``tool`` on the PATH."""

    name: str
    modules: tuple[str, ...] = ()
    tool: str | None = None

    def lacks(self) -> str | None:
        """Why it cannot be run here, or None."""
        missing = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if missing:
            return f"{', '.join(missing)} not installed"
        if self.tool is not None and find_tool(self.tool) is None:
            return f"{self.tool} is not on the PATH"
        return None


def find_tool(name: str) -> str | None:
    """Where a program lies. Debian keeps nginx where only root looks."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(("/usr/sbin", "/usr/local/sbin")))


FLOOR, OURS = "floor", "imagecache"
CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate(FLOOR),
        Candidate(OURS),
        Candidate("acc-file", modules=("aiohttp_client_cache", "aiofiles", "aiosqlite")),
        Candidate("acc-sqlite", modules=("aiohttp_client_cache", "aiosqlite")),
        Candidate("hishel", modules=("hishel", "httpx", "anysqlite")),
        Candidate("diskcache", modules=("diskcache",)),
        Candidate("requests-cache", modules=("requests_cache",)),
        Candidate("curl", tool="curl"),
        Candidate("wget", tool="wget"),
        Candidate("aria2c", tool="aria2c"),
        Candidate("img2dataset", tool="img2dataset"),
    )
}
QUICK = (FLOOR, OURS, "acc-sqlite", "diskcache", "curl")
"""Who takes part in the quick run."""

_CACHES = (FLOOR, OURS, "acc-file", "acc-sqlite", "hishel", "diskcache", "requests-cache")
_VALIDATING = (FLOOR, OURS, "acc-file", "acc-sqlite", "hishel", "requests-cache")
_COALESCING = (FLOOR, OURS, "acc-file", "acc-sqlite", "hishel")
_TOOLS = ("curl", "wget", "aria2c")

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "thumbnails-cold",
            "thumbnails, cold: fetched, stored, decoded",
            "thumbnails",
            Job.COLD,
            (*_CACHES, "img2dataset"),
        ),
        Workload(
            "thumbnails-prefetched",
            "thumbnails, prefetched: fetched, checked, stored",
            "thumbnails",
            Job.PREFETCHED,
            (FLOOR, OURS, *_TOOLS),
        ),
        Workload(
            "photos-cold", "photos, cold: fetched, stored, decoded", "photos", Job.COLD, (*_CACHES, "img2dataset")
        ),
        Workload(
            "photos-prefetched",
            "photos, prefetched: fetched, checked, stored",
            "photos",
            Job.PREFETCHED,
            (FLOOR, OURS, *_TOOLS),
        ),
        Workload("thumbnails-disk", "thumbnails from disk, in a fresh process", "thumbnails", Job.DISK, _CACHES),
        Workload("photos-disk", "photos from disk, in a fresh process", "photos", Job.DISK, _CACHES),
        Workload("refreshes", "thumbnails force-refreshed, answered 304", "thumbnails", Job.REFRESH, _VALIDATING),
        Workload("coalesced", f"{CALLERS} callers of one photo at once", "photos", Job.COALESCED, _COALESCING),
    )
}
