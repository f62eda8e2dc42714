"""Where the time of one fetch went, and the counters of a manager. Values; whoever measures fills them in."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from .units import format_size

if TYPE_CHECKING:
    from .errors import ImageCacheError
    from .result import ServedFrom


@dataclass(slots=True)
class Metrics:
    """The timing breakdown of one fetch, in seconds; 0.0 for a stage that was not needed.

    ``queue`` is the wait for a connection slot, ``dns`` the resolving of the name, ``connect`` the way to its host,
    ``tls`` the handshake; the last three are 0.0 over a connection that was there already. ``first_byte`` goes from
    there to the answer's head, ``transfer`` is the body. Each is the sum over all tries and redirects. ``store`` goes
    on behind the call: it is 0.0 until the bytes are committed, and no part of ``total``. ``shared`` says that this
    caller joined a flight that another had started. ``bytes_received`` counts body bytes off
    the wire (0 for a 304). Printing it gives a waterfall.
    """

    queue: float = 0.0
    dns: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    first_byte: float = 0.0
    transfer: float = 0.0
    disk_read: float = 0.0
    decode: float = 0.0
    process: float = 0.0
    store: float = 0.0
    total: float = 0.0
    bytes_received: int = 0
    tries: int = 0
    redirects: int = 0
    shared: bool = False

    STAGES = ("disk_read", "queue", "dns", "connect", "tls", "first_byte", "transfer", "decode", "process", "store")

    def copy(self) -> Metrics:
        """The same for another caller. By hand: `dataclasses.replace` takes three times as long."""
        return Metrics(
            self.queue, self.dns, self.connect, self.tls, self.first_byte, self.transfer, self.disk_read, self.decode,
            self.process, self.store, self.total, self.bytes_received, self.tries, self.redirects, self.shared,
        )  # fmt: skip

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
        tries = f", {self.tries} tries" if self.tries > 1 else ""
        redirects = f", {self.redirects} redirect{'s' * (self.redirects > 1)}" if self.redirects else ""
        joined = ", joined a flight under way" if self.shared else ""
        return "\n".join([*lines, f"{'total':<11}{self.total * 1e3:9.2f} ms{received}{tries}{redirects}{joined}"])


@dataclass(slots=True)
class Counters:
    """What a manager has done since it was made. ``manager.counters`` is live; ``snapshot()`` is a copy.

    ``seconds`` is by stage of :class:`Metrics`, the sum over all that succeeded; ``retries`` are tries after the first.
    """

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
    retries: int = 0
    redirects: int = 0
    by_processor: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(Metrics.STAGES, 0.0))

    def spent(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage."""
        self.seconds[stage] += seconds

    def downloaded(self, metrics: Metrics) -> None:
        """Add what a download took."""
        self.bytes_received += metrics.bytes_received
        self.retries += metrics.tries - 1
        self.redirects += metrics.redirects
        seconds = self.seconds
        seconds["queue"] += metrics.queue
        seconds["dns"] += metrics.dns
        seconds["connect"] += metrics.connect
        seconds["tls"] += metrics.tls
        seconds["first_byte"] += metrics.first_byte
        seconds["transfer"] += metrics.transfer

    def snapshot(self) -> Counters:
        """These numbers as they are now."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Counters(**{**values, "by_processor": dict(self.by_processor), "seconds": dict(self.seconds)})


@dataclass(frozen=True, slots=True)
class FetchReport:
    """How a call ended that memory alone did not answer: what an observer is told, in the caller's own context.

    One for each source where a call has alternatives. ``url`` is without userinfo; ``served_from`` and ``status`` are
    None where ``error`` is not.
    """

    url: str
    metrics: Metrics
    served_from: ServedFrom | None = None
    status: int | None = None
    error: ImageCacheError | None = None
