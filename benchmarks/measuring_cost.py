"""What measuring costs: thumbnails fetched, stored and decoded with and without the times and counters.

*Without* is a second copy of the library in the same process, from which every statement that does nothing but measure
was taken out before it was compiled; *again* is a third one, the same, and shows how much is chance. *With spans* makes
a span for each fetch besides, where OpenTelemetry is installed. They take turns in any order, so that what the machine
does meanwhile meets each of them. Prometheus costs nothing until it reads.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
IMAGES, AT_ONCE, ROUNDS = 200, 16, 40
CLOCKS, PURE = {"monotonic", "perf_counter"}, {"max", "len"}
MEASURED = {"_metrics", "metrics", "counters", "dns_time", "connect_time", "tls_time"}
MEASURING = {"spent", "downloaded", "opened", "resolved", "_time", "_report"}
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
        if isinstance(node.func, ast.Attribute) and node.func.attr == "copy":
            copied = node.func.value
            if isinstance(copied, ast.Attribute) and copied.attr == "metrics":
                self.taken += 1
                return copied
        if isinstance(node.func, ast.Attribute) and node.func.attr == "_metrics" and len(node.args) == 3:
            self.taken += 1
            return ast.Attribute(node.args[1], "metrics", ast.Load())
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def _without(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> ast.AST | None:
        path = {_name(part) for part in ast.walk(target) if isinstance(part, ast.expr)}
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


class Copy:
    """A copy of the library, with or without what only measures; one at a time is what `import` gives."""

    def __init__(self, *, is_measuring: bool) -> None:
        _forget()
        finder = UnmeasuredFinder()
        if not is_measuring:
            sys.meta_path.insert(0, finder)
        try:
            import imagecache

            for name in imagecache.__all__:
                getattr(imagecache, name)
        finally:
            if not is_measuring:
                sys.meta_path.remove(finder)
        self.taken = finder.transformer.taken
        self._modules = _forget()

    def round(self, urls: Sequence[str], *, has_spans: bool = False) -> float:
        """Seconds of CPU an image: all of them into a new folder, the first one, which opens it, aside."""
        sys.modules.update(self._modules)
        try:
            gc.collect()
            return asyncio.run(_round(urls, has_spans=has_spans))
        finally:
            self._modules = _forget()


def _forget() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name == "imagecache" or name.startswith("imagecache.")]
    return {name: sys.modules.pop(name) for name in names}


async def _round(urls: Sequence[str], *, has_spans: bool) -> float:
    from imagecache import ImageManager

    turns = asyncio.Semaphore(AT_ONCE)
    with tempfile.TemporaryDirectory() as folder:
        async with ImageManager(directory=folder) as images:
            if has_spans:
                from opentelemetry.sdk.trace import TracerProvider

                from imagecache.instrumentation.opentelemetry import trace_fetches

                trace_fetches(images, TracerProvider())

            async def fetch(url: str) -> None:
                async with turns:
                    await images.fetch(url)

            await fetch(urls[0])
            began = time.process_time()
            await asyncio.gather(*(fetch(url) for url in urls[1:]))
            await images.cache.disk.flush()
            return (time.process_time() - began) / (len(urls) - 1)


def serve(count: int) -> None:
    """A process's whole life: thumbnails as they are served, some 10 KiB of JPEG; it tells their URLs."""
    from imagecache.testing import ImageServer, picture

    with ImageServer.in_thread() as server:
        print(*(server.add(f"/{n}", picture(256, 256, seed=n, format="JPEG")) for n in range(count)), flush=True)
        sys.stdin.read()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the medians, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="few images and rounds, to see that it works")
    options = parser.parse_args(arguments)
    images, rounds = (20, 2) if options.quick else (IMAGES, options.rounds)
    copies = {"with": Copy(is_measuring=True), "without": Copy(is_measuring=False)}
    copies["again"] = Copy(is_measuring=False)
    if copies["with"].taken or not copies["without"].taken:
        raise RuntimeError("what only measures was taken out of the wrong copy")
    variants = {name: partial(each.round) for name, each in copies.items()}
    if importlib.util.find_spec("opentelemetry.sdk"):
        variants["with spans"] = partial(copies["with"].round, has_spans=True)
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    # In a process of its own: what it spends is not ours.
    command = [sys.executable, "-c", f"from benchmarks.measuring_cost import serve; serve({images})"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        urls = server.stdout.readline().split()
        names = list(variants)
        for number in range(-1, rounds):
            # In any order; the first round is for warming up.
            for name in random.sample(names, len(names)):
                taken = variants[name](urls)
                if number >= 0:
                    seconds[name].append(taken)
        server.stdin.close()
    base = statistics.median(seconds["without"])
    print(f"{images} thumbnails fetched, stored and decoded, {AT_ONCE} at a time, {rounds} rounds: µs of CPU an image")
    for name, each in seconds.items():
        told = "" if name != "again" else "  (the same once more: how far apart chance puts two)"
        print(f"{name:<11}{statistics.median(each) * 1e6:8.0f} {statistics.median(each) / base:8.3f} of without{told}")


if __name__ == "__main__":
    main()
