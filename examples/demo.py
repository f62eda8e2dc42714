"""``make demo``: a server with a few hundred pictures on this machine, and what a cache saves when they are wanted.

Every number in the table is counted, requests and bytes by the server.

Usage: python -m examples.demo [FOLDER FOR THE CONTACT SHEET]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from imagecache import Downsample, ImageManager, ImageResult, PrefetchStatus
from imagecache.testing import ImageServer, picture_set
from imagecache.units import format_size

PREFETCHED = 300
NEW = 12
CALLERS = 25
AT_ONCE = 32
TILE, GAP, COLUMNS = 88, 8, 24


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was done, where the images came from, and what it cost."""

    step: str
    origins: Counter[str]
    requests: int
    bytes_sent: int
    seconds: float


class Demo:
    """The steps, in the order in which they are told, over one server and one manager."""

    def __init__(self, server: ImageServer, images: ImageManager, urls: Sequence[str], new: Sequence[str]) -> None:
        self.server = server
        self.images = images
        self.urls = urls
        self.new = new
        self.rows: list[Row] = []

    async def run(self, console: Console) -> None:
        """All steps, each measured."""
        count = len(self.urls)
        await self.measure(f"prefetch {count} images", lambda: self.prefetch(console))
        await self.measure(f"fetch all {count}, decoded", lambda: self.fetch_all(self.urls))
        await self.measure(f"fetch all {count} again", lambda: self.fetch_all(self.urls))
        crowd = list(self.new) * CALLERS
        await self.measure(f"{len(self.new)} new, {CALLERS} callers each", lambda: self.fetch_all(crowd))
        await self.measure(f"ask about all {count}", lambda: self.fetch_all(self.urls, force_refresh=True))
        for url in self.urls[:3]:
            self.server.replace(url.removeprefix(self.server.origin))
        await self.measure("again, 3 have changed", lambda: self.fetch_all(self.urls, force_refresh=True))

    async def measure(self, step: str, action: Callable[[], Awaitable[Counter[str]]]) -> None:
        """Do one step, and note what the server saw of it."""
        self.server.reset()
        began = time.perf_counter()
        origins = await action()
        seconds = time.perf_counter() - began
        self.rows.append(Row(step, origins, self.server.count(), self.server.bytes_sent, seconds))

    async def prefetch(self, console: Console) -> Counter[str]:
        """Bring all into the cache, under a progress bar."""
        columns = (TextColumn("prefetching"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=len(self.urls))
            async for _ in (job := self.images.prefetch(self.urls, concurrency=AT_ONCE)):
                progress.advance(task)
        return Counter("network" if o.status is PrefetchStatus.STORED else o.status.value for o in job.report)

    async def fetch_all(self, urls: Iterable[str], *, force_refresh: bool = False) -> Counter[str]:
        """Fetch all at the same time; returns how many came from where."""
        results = await asyncio.gather(*(self.images.fetch(url, force_refresh=force_refresh) for url in urls))
        return Counter(map(origin_of, results))

    async def contact_sheet(self, path: Path) -> None:
        """A thumbnail of every image, made in worker threads from what is cached, on one large picture."""
        shrink = Downsample(TILE, TILE)
        tiles = await asyncio.gather(
            *(self.images.fetch_image(url, processors=[shrink]) for url in (*self.urls, *self.new))
        )
        await asyncio.to_thread(lambda: paste_up(tiles).save(path))


def origin_of(result: ImageResult) -> str:
    """Where an image came from, and whether the server was asked if there is a newer one."""
    if result.revalidated:
        return f"{result.served_from.value} (304)"
    return result.served_from.value


def paste_up(tiles: Sequence[Image.Image]) -> Image.Image:
    """All tiles on one sheet, each in the middle of its square."""
    step = TILE + GAP
    rows = -(-len(tiles) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * step + GAP, rows * step + GAP), "#f4f4f2")
    for index, tile in enumerate(tiles):
        left = GAP + index % COLUMNS * step + (TILE - tile.width) // 2
        top = GAP + index // COLUMNS * step + (TILE - tile.height) // 2
        shown = tile.convert("RGBA")
        sheet.paste(shown, (left, top), shown)
    return sheet


def table_of(rows: Sequence[Row]) -> Table:
    """What was done, for people."""
    caption = "304: the server was asked, says that nothing has changed, and sends no image."
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column("what was done")
    table.add_column("images came from")
    for heading in ("requests", "bytes sent", "time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        came_from = "\n".join(f"{count:>4} {origin}" for origin, count in row.origins.most_common())
        sent, took = format_size(row.bytes_sent), f"{row.seconds:.2f} s"
        table.add_row(row.step, came_from, str(row.requests), sent, took)
    return table


async def show(console: Console, server: ImageServer, folder: Path) -> list[Row]:
    """Draw, run, tell; returns the rows of the table."""
    with console.status(f"drawing {PREFETCHED + NEW} pictures for the server on this machine"):
        pictures = await asyncio.to_thread(picture_set, PREFETCHED + NEW)
    urls = server.add_all(pictures)
    with tempfile.TemporaryDirectory(prefix="imagecache-demo-", ignore_cleanup_errors=True) as cache:
        async with ImageManager("demo", directory=cache) as images:
            demo = Demo(server, images, urls[:PREFETCHED], urls[PREFETCHED:])
            await demo.run(console)
            path = folder / "contact-sheet.png"
            await demo.contact_sheet(path)
    console.print(table_of(demo.rows))
    console.print(f"A thumbnail of each, made from the cache: {path}", soft_wrap=True)
    return demo.rows


def main(folder: Path) -> list[Row]:
    """Run the demonstration; the contact sheet goes into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with ImageServer.in_thread() as server:
        return asyncio.run(show(Console(), server, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo-output"))
