"""What is aimed at: ratios to the floor of the same round, so that they hold on any machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """``most`` is the highest ratio to the floor; ``requests`` what the server may be asked, None for any number.

    ``below`` names candidates that are to be slower than imagecache.
    """

    most: float | None = None
    requests: int | None = None
    below: tuple[str, ...] = ()


TARGETS = {
    "thumbnails, cold": Target(0.80),
    "thumbnails, prefetched": Target(0.35, below=("curl --parallel",)),
    "photos, cold": Target(1.05),
    "photos, prefetched": Target(0.10),
    "thumbnails, from disk": Target(1.05, requests=0),
    "photos, from disk": Target(1.05, requests=0),
    "thumbnails, 304": Target(1.25),
}
COALESCED_SECONDS = 0.005
"""How much longer a hundred callers of one URL may take than one."""
