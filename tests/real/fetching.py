"""What a program does that fetches every URL it is given: run by tests as a process of its own, so that its memory
can be measured and limited, and a crash is told from an error.

It reads a :class:`Job` from its input, and writes one line for each URL as it ends, and one in the end.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile, PngImagePlugin

from imagecache import ImageCacheError, ImageManager, ImageResult

ROOT = Path(__file__).parents[2]
FRAMES = 20
"""Of an animation, this many are looked at."""
DECODED = "decoded"
FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Job:
    """What to fetch, into which folder, and with which options of :class:`ImageManager`."""

    urls: list[str]
    directory: str
    at_once: int
    """So many URLs are under way at one time, each until its image has been looked at and let go."""
    is_untrusted: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    memory: int | None = None
    """Bytes of memory that may be written to, the limit of the process; None for no limit."""


@dataclass(slots=True)
class Report:
    """What became of each URL, in the words of the program, and of the program itself."""

    outcomes: dict[str, str]
    code: int | None
    """How the process ended; None where it had to be stopped."""
    errors: str
    before: int = 0
    peak: int = 0
    settings_changed: bool = False

    @property
    def counts(self) -> Counter[str]:
        """How often each outcome came, without its details."""
        return Counter(outcome.partition(":")[0] for outcome in self.outcomes.values())

    def of(self, kind: str) -> dict[str, str]:
        """The outcomes that begin so."""
        return {url: outcome for url, outcome in self.outcomes.items() if outcome.startswith(kind)}

    def __str__(self) -> str:
        mebibytes = f"{self.before / 2**20:.0f} MiB before, {self.peak / 2**20:.0f} MiB at most"
        return f"{dict(self.counts.most_common())}; {mebibytes}; ended with {self.code}\n{self.errors}"


def run(job: Job, *, seconds: float) -> Report:
    """Run the program on a job; one that is not over after so many seconds hangs, and is stopped."""
    command = [sys.executable, "-X", "faulthandler", "-W", "always", "-m", "tests.real.fetching"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            output, errors = child.communicate(json.dumps(asdict(job)), timeout=seconds)
            code: int | None = child.returncode
        except subprocess.TimeoutExpired:
            child.kill()
            output, errors = child.communicate()
            code = None
    report = Report({}, code, errors)
    for line in map(json.loads, output.splitlines()):
        if "url" in line:
            report.outcomes[line["url"]] = line["outcome"]
        else:
            report.before, report.peak, report.settings_changed = line["before"], line["peak"], line["changed"]
    return report


def peak_memory() -> int:
    """The most bytes of memory that this process has held; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: there, Linux counts in what the parent held when it started this process.
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limit_memory(limit: int) -> None:
    """From here on, this process gets no more private memory than that: what is over ends in a MemoryError."""
    if sys.platform == "win32":
        raise NotImplementedError("Windows has no limits of a process's own")
    import resource

    # It counts what is reserved, where a container counts what is used: of a thread's stack, next to nothing.
    threading.stack_size(2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def settings() -> tuple[object, ...]:
    """All that Pillow and Python keep for the whole process and that decides over images."""
    return (
        Image.MAX_IMAGE_PIXELS,
        Image.WARN_POSSIBLE_FORMATS,
        ImageFile.LOAD_TRUNCATED_IMAGES,
        ImageFile.MAXBLOCK,
        ImageFile.SAFEBLOCK,
        PngImagePlugin.MAX_TEXT_CHUNK,
        PngImagePlugin.MAX_TEXT_MEMORY,
        tuple(warnings.filters),
        warnings.showwarning,
    )


def manager_for(job: Job) -> ImageManager:
    """The manager that the job asks for."""
    make = ImageManager.untrusted if job.is_untrusted else ImageManager
    return make("fetching", directory=job.directory, **job.options)


async def outcome_of(images: ImageManager, url: str) -> str:
    """What becomes of one URL, in a word and its details."""
    try:
        result = await images.fetch(url)
        # It is whole: its last pixel can be had at once. Who keeps an image longer pays for its memory himself.
        result.image.getpixel((result.image.width - 1, result.image.height - 1))
        outcome = f"{DECODED}: {result.format} {result.image.mode} {result.image.width} x {result.image.height}"
        await see_frames(result)
    except ImageCacheError as error:
        return f"{type(error).__name__}: {error.message} <- {error.__cause__!r}"
    except Exception as error:  # The very thing that is looked for.
        return f"{FOREIGN}: {type(error).__name__}: {error}"
    return outcome


async def see_frames(result: ImageResult) -> None:
    """Decode the first frames of an animation."""
    animation = await result.animation()
    if animation.frame_count > 1:
        for index in range(min(animation.frame_count, FRAMES)):
            await asyncio.to_thread(animation.frame, index)
    animation.close()


async def fetch_all(job: Job) -> tuple[int, int]:
    """Fetch all at once, as a program does that was handed a page; returns the memory before and the peak."""
    async with manager_for(job) as images:
        room = asyncio.Semaphore(job.at_once)

        async def fetch(url: str) -> None:
            async with room:
                tell(url=url, outcome=await outcome_of(images, url))

        before = peak_memory()
        await asyncio.gather(*map(fetch, job.urls))
        return before, peak_memory()


def tell(**line: object) -> None:
    """One line of output, there even if the process ends badly a moment later."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    job = Job(**json.load(sys.stdin))
    as_before = settings()
    if job.memory is not None:
        limit_memory(job.memory)
    before, peak = asyncio.run(fetch_all(job))
    tell(before=before, peak=peak, changed=settings() != as_before)


if __name__ == "__main__":
    main()
