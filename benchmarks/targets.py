"""What imagecache has to reach in each workload: figures of one run against the floor of that run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of one candidate in one workload that targets are about; NaN or None where it has no such figure."""

    ratio: float
    """Wall time, of the floor's."""
    requests: float | None = None
    decodes: float | None = None
    extra: float | None = None
    """Seconds that many callers at once take more than one caller."""


@dataclass(frozen=True, slots=True)
class Target:
    """Upper bounds; None where there is none."""

    ratio: float | None = None
    less_than: str | None = None
    """The candidate whose time has to be undercut, where it takes part."""
    requests: int | None = None
    decodes: int | None = None
    extra: float | None = None

    def __str__(self) -> str:
        parts = []
        if self.ratio is not None:
            parts.append(f"{self.ratio:.2f} of floor")
        if self.less_than is not None:
            parts.append(f"less than {self.less_than}")
        if self.requests is not None:
            parts.append("no request" if self.requests == 0 else f"{self.requests} request")
        if self.decodes is not None:
            parts.append(f"{self.decodes} decode")
        if self.extra is not None:
            parts.append(f"at most +{self.extra * 1e3:.0f} ms")
        return ", ".join(parts)

    def misses(self, ours: Figures, others: Mapping[str, Figures]) -> list[str]:
        """What is missed, in words; empty where all is met."""
        missed = []
        # Compared as they are printed, so that no table says that 1.05 misses 1.05.
        if self.ratio is not None and not round(ours.ratio, 2) <= self.ratio:
            missed.append(f"{ours.ratio:.2f} of the floor, not {self.ratio:.2f}")
        rival = others.get(self.less_than or "")
        if rival is not None and not ours.ratio < rival.ratio:
            missed.append(f"{ours.ratio:.2f} of the floor, {self.less_than} {rival.ratio:.2f}")
        for name, most, count in (
            ("requests", self.requests, ours.requests),
            ("decodes", self.decodes, ours.decodes),
        ):
            if most is not None and count is not None and count > most:
                missed.append(f"{count:g} {name}, not {most}")
        if self.extra is not None and ours.extra is not None and ours.extra > self.extra:
            missed.append(f"{ours.extra * 1e3:.1f} ms more than one caller, not {self.extra * 1e3:.0f}")
        return missed


TARGETS: Mapping[str, Target] = {
    "thumbnails-cold": Target(ratio=0.80),
    "thumbnails-prefetched": Target(ratio=0.35, less_than="curl"),
    "photos-cold": Target(ratio=1.05),
    "photos-prefetched": Target(ratio=0.10),
    "thumbnails-disk": Target(ratio=1.05, requests=0),
    "photos-disk": Target(ratio=1.05, requests=0),
    "refreshes": Target(ratio=1.25),
    "coalesced": Target(requests=1, decodes=1, extra=0.005),
}
