"""Far away: thumbnails over TLS from a server that is 80 ms away, against bare aiohttp.

What counts there is how many connections are opened, and what one costs before its first image is there: a name to be
resolved, and three round trips. Each sample is a fresh process (``far_sample``), the clients take turns, and every
ratio and difference is that of one round; ``far_server`` says what of a distance it imitates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.far_sample import CLIENTS, Figures, Waterfall
from benchmarks.far_server import HOSTS, Counts, FarServer, serve
from benchmarks.targets import FAR_FIRST_IMAGE
from benchmarks.workloads import AT_ONCE

ROUNDS, THUMBNAILS, PAGE, URGENT = 9, 200, 60, 10
FIRSTS = 3
"""Single images a round: what is looked for in them is a few milliseconds."""
ROUND_TRIP, DNS = 0.080, 0.020
SLOWEST = 300
"""Seconds after which a sample is given up."""
OURS, AS_MANY, BARE = "imagecache", "aiohttp-6", "aiohttp"
"""Ours, bare aiohttp with as many connections to a host, and with its defaults."""


@dataclass(frozen=True, slots=True)
class Work:
    """One block of the table."""

    name: str
    title: str
    job: str
    count: int
    clients: tuple[str, ...]
    hosts: int = 1
    with_priorities: bool = False
    times: int = 1
    """How often in a round."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process told, and the server of it."""

    figures: Figures
    counts: Counts

    @property
    def connections(self) -> int:
        """To all hosts."""
        return sum(self.counts["connections"].values())

    @property
    def requests(self) -> int:
        """To all hosts."""
        return sum(self.counts["requests"].values())


Samples = dict[str, list[Sample]]
"""By client, in the order of the rounds."""


def works(thumbnails: int, page: int, urgent: int) -> list[Work]:
    """All that is measured."""
    three, everybody = (OURS, AS_MANY, BARE), tuple(CLIENTS)
    urgently = f"a page from one host, its last {urgent} urgent"
    return [
        Work("first", "a single image", "batch", 1, three, times=FIRSTS),
        Work("batch", f"{thumbnails} thumbnails, {AT_ONCE} at a time", "batch", thumbnails, everybody),
        Work("page", f"a page of {page} thumbnails from one host, all at once", "page", page, three),
        Work("page-3", f"the same from {len(HOSTS)} hosts", "page", page, three, hosts=len(HOSTS)),
        Work("page-urgent", urgently, "page", page, (OURS,), with_priorities=True),
    ]


class Run:
    """One run: the server and what it serves."""

    def __init__(self, server: FarServer, files: Sequence[Path], scratch: Path, urgent: int, dns: float) -> None:
        self._server = server
        self._files = files
        self._urls = scratch / "urls.txt"
        self._scratch = scratch
        self._urgent = urgent
        self._dns = dns

    def sample(self, client: str, work: Work) -> Sample:
        """One client's turn."""
        more = ["--priorities"] if work.with_priorities else []
        figures: Figures = self._told(client, work.job, self._server.urls(self._files[: work.count], work.hosts), more)
        sample = Sample(figures, self._server.counts())
        if sample.requests != work.count or figures["images"] != work.count:
            raise SystemExit(f"{client} made {sample.requests} requests for {figures['images']} of {work.count} images")
        return sample

    def waterfalls(self) -> list[Waterfall]:
        """Where the time of an image over a new connection went, and of one over the same connection."""
        waterfalls: list[Waterfall] = self._told(OURS, "waterfall", self._server.urls(self._files[:2]), [])
        return waterfalls

    def counts(self) -> Counts:
        """What the server has seen since it was last asked."""
        return self._server.counts()

    def _told(self, client: str, job: str, urls: Sequence[str], more: Sequence[str]) -> Any:
        self._urls.write_text("\n".join(urls), "utf-8")
        line = [sys.executable, "-m", "benchmarks.far_sample", client, job, "--urls", str(self._urls)]
        line += ["--urgent", str(self._urgent), "--dns", str(self._dns), *more]
        # Read by Python's own default context, on every system.
        environment = {**os.environ, "SSL_CERT_FILE": str(self._server.authority), "TMPDIR": str(self._scratch)}
        root = Path(__file__).parents[1]
        done = subprocess.run(line, cwd=root, env=environment, stdout=subprocess.PIPE, timeout=SLOWEST, check=True)
        return json.loads(done.stdout)


def measure(run: Run, work: Sequence[Work], rounds: int) -> dict[str, Samples]:
    """All rounds of everything; what is compared lies side by side, in an order that turns round by round."""
    samples: dict[str, Samples] = {one.name: {client: [] for client in one.clients} for one in work}
    for number in range(rounds):
        for one in work:
            for turn in range(one.times):
                for client in one.clients if (number + turn) % 2 == 0 else reversed(one.clients):
                    samples[one.name][client].append(run.sample(client, one))
        told = f"round {number + 1} of {rounds}"
        print(told, flush=True)
    return samples


def median(samples: Sequence[Sample], figure: Callable[[Sample], float]) -> float:
    """Over the rounds."""
    return statistics.median(map(figure, samples))


def ratio(ours: Sequence[Sample], others: Sequence[Sample]) -> float:
    """Of the whole time, closing and storing included; the median of each round's."""
    pairs = zip(ours, others, strict=True)
    return statistics.median(one.figures["wall"] / other.figures["wall"] for one, other in pairs)


def later(ours: Sequence[Sample], others: Sequence[Sample]) -> float:
    """Seconds that our first image comes after the other's: the median of each round's."""
    pairs = zip(ours, others, strict=True)
    return statistics.median(one.figures["first"] - other.figures["first"] for one, other in pairs)


def soonest(samples: Sequence[Sample]) -> float:
    """The first image in the quickest of all rounds: the one that the machine has disturbed least."""
    return min(sample.figures["first"] for sample in samples)


def table(work: Sequence[Work], samples: dict[str, Samples]) -> Iterator[str]:
    """A block for each work."""
    for one in work:
        taken = samples[one.name]
        yield f"\n{one.title}"
        yield (
            f"{'':<16}{'first':>9}{'last':>9}{'urgent':>9}{'wall':>9}{'of ' + AS_MANY:>14}{'of ' + BARE:>12}"
            f"{'connections':>13}{'TLS':>5}{'resumed':>9}{'requests':>10}{'CPU':>9}"
        )
        for client, rounds in taken.items():
            # One by one: a key of a TypedDict in a loop is a text to mypy.
            times = (
                median(rounds, lambda sample: sample.figures["first"]),
                median(rounds, lambda sample: sample.figures["last"]),
                median(rounds, lambda sample: sample.figures["urgent"]),
                median(rounds, lambda sample: sample.figures["wall"]),
            )
            ratios = "".join(
                f"{ratio(rounds, taken[other]):>{width}.2f}" if other in taken else f"{'':>{width}}"
                for other, width in ((AS_MANY, 14), (BARE, 12))
            )
            yield (
                f"{client:<16}{''.join(f'{seconds * 1e3:>6.0f} ms' for seconds in times)}{ratios}"
                f"{median(rounds, lambda sample: sample.connections):>13g}"
                f"{median(rounds, lambda sample: sample.counts['handshakes']):>5g}"
                f"{median(rounds, lambda sample: sample.counts['resumed']):>9g}"
                f"{median(rounds, lambda sample: sample.requests):>10g}"
                f"{median(rounds, lambda sample: sample.figures['cpu']) * 1e3:>6.0f} ms"
            )


def verdicts(samples: dict[str, Samples]) -> Iterator[str]:
    """What came of the promise: the first image, and what priorities do."""
    yield f"\ntarget: the first image at most {FAR_FIRST_IMAGE * 1e3:g} ms after bare aiohttp's"
    for name, where in (("first", "alone"), ("batch", "of the batch"), ("page", "of a page")):
        taken = samples[name]
        for other in (AS_MANY, BARE):
            seconds = later(taken[OURS], taken[other])
            missed = "" if seconds <= FAR_FIRST_IMAGE else "   missed"
            quickest = soonest(taken[OURS]) - soonest(taken[other])
            yield (
                f"  {where + ', after ' + other:<32}{seconds * 1e3:+7.1f} ms, "
                f"{quickest * 1e3:+.1f} between the quickest of each{missed}"
            )
    without, urgently = samples["page"][OURS], samples["page-urgent"][OURS]
    shares = [
        median(rounds, lambda sample: sample.figures["urgent"] / sample.figures["last"])
        for rounds in (without, urgently)
    ]
    yield f"the last urgent image is there after {shares[0]:.2f} of the page, with a high priority {shares[1]:.2f}"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--thumbnails", type=int, default=THUMBNAILS, metavar="N", help="in the batch")
    parser.add_argument("--page", type=int, default=PAGE, metavar="N", help="thumbnails on a page")
    parser.add_argument("--urgent", type=int, default=URGENT, metavar="N", help="of those on the page")
    parser.add_argument("--round-trip", type=float, default=ROUND_TRIP, metavar="SECONDS")
    parser.add_argument("--dns", type=float, default=DNS, metavar="SECONDS", help="to resolve a name")
    parser.add_argument("--corpus", type=Path, help="where the pictures are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all samples")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    options = parse(arguments)
    count = max(options.thumbnails, options.page, 2)
    folder = options.corpus or corpus.default_folder(None)
    files = corpus.make(folder, "thumbnails", count, None)
    work = works(options.thumbnails, options.page, options.urgent)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        with serve(files[0].parent, scratch, options.round_trip) as server:
            run = Run(server, files, scratch, options.urgent, options.dns)
            # The first one of all waits for the disk.
            run.waterfalls()
            run.counts()
            waterfalls, counts = run.waterfalls(), run.counts()
            samples = measure(run, work, options.rounds)
    print(
        f"\nTLS, {options.round_trip * 1e3:g} ms round trips, {options.dns * 1e3:g} ms for a name; "
        f"medians of {options.rounds} rounds"
    )
    for line in (*table(work, samples), *verdicts(samples)):
        print(line)
    for told, waterfall in zip(("the first image", "the next one, same connection"), waterfalls, strict=True):
        print(f"\n{told}\n{waterfall['printed']}")
    print("\n'connect' is loopback's; the round trip that it would take is added by the server and is in 'tls'")
    if options.json is not None:
        document = {
            "samples": {
                name: {
                    client: [{"figures": sample.figures, "counts": sample.counts} for sample in rounds]
                    for client, rounds in taken.items()
                }
                for name, taken in samples.items()
            },
            "waterfalls": {"stages": [waterfall["stages"] for waterfall in waterfalls], "counts": counts},
        }
        options.json.write_text(json.dumps(document, indent=1), "utf-8")


if __name__ == "__main__":
    main()
