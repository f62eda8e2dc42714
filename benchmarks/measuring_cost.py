"""What measuring costs: thumbnails fetched, stored and decoded with and without the times and counters.

*Without* is the same code with every statement taken out that does nothing but measure, before it is compiled, in a
process of its own; a third one makes a span for each fetch, too, if OpenTelemetry is installed. New processes take turns,
so that what the machine does besides, and where the memory of a process happens to lie, meets each of them. What Prometheus reads costs nothing until it reads.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import importlib.abc
import importlib.machinery
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
IMAGES, AT_ONCE, ROUNDS, IN_A_ROW = 200, 16, 25, 3
VARIANTS = ("with", "without", "with spans")
CLOCKS, PURE = {"monotonic", "perf_counter"}, {"max", "len"}
MEASURED = {"_metrics", "metrics", "counters", "dns_time", "connect_time"}
MEASURING = {"spent", "downloaded", "resolved", "_time", "_report"}
"""Calls of these do nothing else."""


class Unmeasured(ast.NodeTransformer):
    """Takes out what only measures; ``taken`` counts the statements."""

    def __init__(self) -> None:
        self.taken = 0

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        return self._without(node, node.target, node.value)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        self.generic_visit(node)
        is_made = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        return node if is_made else self._without(node, node.targets[0], node.value)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        self.generic_visit(node)
        called = node.value.func if isinstance(node.value, ast.Call) else None
        sets = isinstance(node.value, ast.Call) and any(
            isinstance(part, ast.Name) and part.id == "setattr" for part in ast.walk(node.value)
        )
        if (isinstance(called, ast.Attribute) and called.attr in MEASURING) or (sets and "metrics" in ast.dump(node)):
            self.taken += 1
            return None
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "replace" and node.args:
            first, is_metrics = node.args[0], {keyword.arg for keyword in node.keywords} <= {"disk_read"}
            if isinstance(first, ast.Attribute) and first.attr == "metrics" and is_metrics:
                self.taken += 1
                return first
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_metrics" and len(node.args) == 3:
            self.taken += 1
            return ast.Attribute(node.args[1], "metrics", ast.Load())
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _without(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> ast.AST | None:
        path = {part.attr for part in ast.walk(target) if isinstance(part, ast.Attribute)}
        if not isinstance(target, ast.Attribute) or not path & MEASURED:
            return node
        self.taken += 1
        calls = [part.func for part in ast.walk(value) if isinstance(part, ast.Call)]
        does = any(_name(called) not in CLOCKS | PURE for called in calls)
        return ast.copy_location(ast.Expr(value), node) if does else None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if node.name == "__init__":
            return node
        self.generic_visit(node)
        before = -1
        while before != self.taken:
            before = self.taken
            self._take_unused(node)
        return node

    def _take_unused(self, node: ast.AST) -> None:
        """Take out the times that nobody reads any more."""
        used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}
        for part in ast.walk(node):
            for name in ("body", "orelse", "finalbody"):
                statements = getattr(part, name, None)
                if isinstance(statements, list):
                    kept = [one for one in statements if not self._is_unused_time(one, used)]
                    needs_one = name == "body" or (name == "finalbody" and statements != kept)
                    setattr(part, name, kept or ([ast.Pass()] if needs_one else []))
            # A try that came to have nothing in its finally, as it came from the visits.
            if isinstance(part, ast.Try) and not part.finalbody and not part.handlers:
                part.finalbody = [ast.Pass()]

    def _is_unused_time(self, node: ast.stmt, used: set[str]) -> bool:
        if not isinstance(node, ast.Assign):
            return False
        names = [part for part in ast.walk(node.targets[0]) if isinstance(part, ast.Name)]
        text = ast.unparse(node.value)
        is_time = any(word in text for word in (*CLOCKS, *MEASURED))
        calls = sum(isinstance(part, ast.Call) for part in ast.walk(node.value))
        is_dead = bool(names) and not {name.id for name in names} & used and is_time
        if is_dead and calls <= sum(text.count(word) for word in CLOCKS):
            self.taken += 1
            return True
        return False


def _name(called: ast.expr) -> str:
    match called:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


class UnmeasuredFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the library without what only measures."""

    def __init__(self) -> None:
        self.transformer = Unmeasured()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith(("imagecache.network.", "imagecache.pipeline.", "imagecache.manager")):
            return None
        found = importlib.machinery.PathFinder.find_spec(name, path)
        if found is None or found.origin is None or found.submodule_search_locations is not None:
            return found
        return importlib.util.spec_from_file_location(name, found.origin, loader=_Unmeasured(self, name, found.origin))


class _Unmeasured(importlib.machinery.SourceFileLoader):
    def __init__(self, finder: UnmeasuredFinder, name: str, path: str) -> None:
        super().__init__(name, path)
        self._finder = finder

    def get_code(self, fullname: str) -> object:  # type: ignore[override]  # a code object, as of every loader
        source = Path(self.path).read_text(encoding="utf-8")
        tree = ast.fix_missing_locations(self._finder.transformer.visit(ast.parse(source)))
        return compile(tree, self.path, "exec", dont_inherit=True)


def run_variant(variant: str, urls: Sequence[str], rounds: int) -> None:
    """A process's whole life: a round to warm up, then some more; it tells the seconds of CPU an image of the best."""
    finder = UnmeasuredFinder()
    if variant == "without":
        sys.meta_path.insert(0, finder)
    from imagecache import ImageManager

    async def one_round() -> float:
        turns = asyncio.Semaphore(AT_ONCE)
        with tempfile.TemporaryDirectory() as folder:
            async with ImageManager(directory=folder) as images:
                if variant == "with spans":
                    start_tracing(images)

                async def fetch(url: str) -> None:
                    async with turns:
                        await images.fetch(url)

                await fetch(urls[0])
                began = time.process_time()
                await asyncio.gather(*(fetch(url) for url in urls[1:]))
                await images.cache.disk.flush()
                return (time.process_time() - began) / (len(urls) - 1)

    def start_tracing(images: ImageManager) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        from imagecache.instrumentation.opentelemetry import trace_fetches

        trace_fetches(images, TracerProvider())

    asyncio.run(one_round())
    print(finder.transformer.taken, min(asyncio.run(one_round()) for _ in range(rounds)))


def process_of(variant: str, urls: Sequence[str], rounds: int) -> float:
    """Seconds of CPU an image, in a new process of a variant: one may be slower than another by its layout alone."""
    program = f"from benchmarks import measuring_cost as m; m.run_variant({variant!r}, {list(urls)!r}, {rounds})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    taken, seconds = done.stdout.split()
    if (variant == "without") != (taken != "0"):
        raise RuntimeError(f"{taken} statements were taken out of {variant!r}")
    return float(seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the medians, and the ratios of rounds that were neighbours."""
    from imagecache.testing import ImageServer, picture

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few images and rounds, to see that it works")
    options = parser.parse_args(arguments)
    images, rounds = (20, 2) if options.quick else (IMAGES, options.rounds)
    variants = VARIANTS if importlib.util.find_spec("opentelemetry.sdk") else VARIANTS[:2]
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    with ImageServer.in_thread() as server:
        # A thumbnail as they are served: some 10 KiB of JPEG.
        urls = [server.add(f"/{number}", picture(256, 256, seed=number, format="JPEG")) for number in range(images)]
        for number in range(rounds):
            # Each goes first as often as the others.
            for turn in range(len(variants)):
                variant = variants[(turn + number) % len(variants)]
                seconds[variant].append(process_of(variant, urls, IN_A_ROW))
    base = seconds["without"]
    print(f"{images} thumbnails fetched, stored and decoded, {AT_ONCE} at a time, {rounds} rounds: µs of CPU an image")
    for variant, each in seconds.items():
        ratio = statistics.median(own / other for own, other in zip(each, base, strict=True))
        best = min(each) / min(base)
        print(f"{variant:<11}{statistics.median(each) * 1e6:8.0f} {ratio:8.3f} of without ({best:.3f} at best)")


if __name__ == "__main__":
    main()
