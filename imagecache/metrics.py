"""Where the time of one fetch went, and the counters of a manager. Values; whoever measures fills them in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from .units import format_size


@dataclass(slots=True)
class Metrics:
    """The timing breakdown of one fetch, in seconds; 0.0 for a stage that was not needed.

    ``shared`` says that this caller joined a flight that another had started. ``bytes_received`` counts
    body bytes off the wire (0 for a 304). Printing it gives a waterfall.
    """

    queue: float = 0.0
    connect: float = 0.0
    first_byte: float = 0.0
    transfer: float = 0.0
    disk_read: float = 0.0
    decode: float = 0.0
    process: float = 0.0
    total: float = 0.0
    bytes_received: int = 0
    tries: int = 0
    redirects: int = 0
    shared: bool = False

    STAGES = ("disk_read", "queue", "connect", "first_byte", "transfer", "decode", "process")

    def __str__(self) -> str:
        width, scale, offset = 32, max(self.total, sum(getattr(self, s) for s in self.STAGES), 1e-9), 0.0
        lines = []
        for stage in self.STAGES:
            seconds: float = getattr(self, stage)
            if seconds:
                start = int(width * offset / scale)
                bar = " " * start + "▇" * max(1, round(width * seconds / scale))
                lines.append(f"{stage.replace('_', ' '):<11}{seconds * 1e3:9.2f} ms  {bar[: width + 1]}")
                offset += seconds
        received = f", {format_size(self.bytes_received)} received" if self.bytes_received else ""
        joined = ", joined a flight under way" if self.shared else ""
        return "\n".join([*lines, f"{'total':<11}{self.total * 1e3:9.2f} ms{received}{joined}"])


@dataclass(slots=True)
class Counters:
    """What a manager has done since it was made. ``manager.counters`` is live; ``snapshot()`` is a copy."""

    requests: int = 0
    bytes_received: int = 0
    memory_hits: int = 0
    disk_hits: int = 0
    downloads: int = 0
    not_modified: int = 0
    decodes: int = 0
    processes: int = 0
    encodes: int = 0
    joined: int = 0
    failures: int = 0
    store_faults: int = 0
    refused_too_large: int = 0
    by_processor: dict[str, int] = field(default_factory=dict)

    def snapshot(self) -> Counters:
        """These numbers as they are now."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Counters(**{**values, "by_processor": dict(self.by_processor)})
