"""From a manager's first use to its end, in programs that close it, forget it, or fail."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import imagecache
from imagecache import ImageManager, ManagerClosedError, ServedFrom, WrongLoopError
from imagecache.testing import ImageServer


@pytest.fixture
def served() -> Iterator[ImageServer]:
    with ImageServer.in_thread() as server:
        yield server


def run(program: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program with every warning an error and asyncio's debug mode on, on a cache folder of its own."""
    environment = {**os.environ, "IMAGECACHE_DIR": os.fspath(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    # A warning while an object is being collected is only printed, whatever -W says; so stderr must be empty.
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_clean(done: subprocess.CompletedProcess[str], output: str, code: int = 0) -> None:
    # How long a step of the loop took on a busy machine is no warning of ours.
    said = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert said == []
    assert (done.stdout.strip(), done.returncode) == (output, code)


def test_a_program_that_never_closes_ends_in_silence_and_keeps_what_it_stored(
    served: ImageServer, tmp_path: Path
) -> None:
    program = """
        import asyncio, sys, imagecache
        async def main():
            result = await imagecache.fetch(sys.argv[1])
            print(result.served_from.value)
        asyncio.run(main())
    """
    url = served.add("/a.png")
    assert_clean(run(program, tmp_path, url), "network")
    assert_clean(run(program, tmp_path, url), "disk")
    assert served.count() == 1


def test_two_runs_in_one_program_have_a_manager_each(served: ImageServer, tmp_path: Path) -> None:
    program = """
        import asyncio, sys, imagecache
        async def main():
            await imagecache.fetch_image(sys.argv[1])
            return (await imagecache.fetch(sys.argv[1])).served_from.value, imagecache.default_manager()
        first, one = asyncio.run(main())
        second, other = asyncio.run(main())
        print(first, second, one is other)
    """
    assert_clean(run(program, tmp_path, served.add("/a.png")), "memory memory False")
    assert served.count() == 1


def test_a_program_that_fails_ends_without_a_word_of_ours(served: ImageServer, tmp_path: Path) -> None:
    program = """
        import asyncio, sys, imagecache
        async def main():
            asyncio.create_task(imagecache.fetch_image(sys.argv[2]))
            await imagecache.fetch_image(sys.argv[1])
            raise SystemExit(7)
        asyncio.run(main())
    """
    url, held = served.add("/a.png"), served.add("/held.png")
    served.hold("/held.png")
    assert_clean(run(program, tmp_path, url, held), "", code=7)


def test_a_runner_and_a_loop_closed_by_hand_end_in_silence_too(served: ImageServer, tmp_path: Path) -> None:
    program = """
        import asyncio, sys, imagecache
        with asyncio.Runner() as runner:
            runner.run(imagecache.fetch_image(sys.argv[1]))
            print(runner.run(imagecache.fetch(sys.argv[1])).served_from.value)
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(imagecache.fetch(sys.argv[1])).served_from.value)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    """
    assert_clean(run(program, tmp_path, served.add("/a.png")), "memory\ndisk")


def test_configure_sets_up_the_modules_own_functions(served: ImageServer, tmp_path: Path) -> None:
    program = """
        import asyncio, sys, imagecache
        imagecache.configure("mine", memory_limit="1 MiB", user_agent="configured/1")
        async def main():
            await imagecache.fetch_image(sys.argv[1])
            manager = imagecache.default_manager()
            try:
                imagecache.configure("other")
            except RuntimeError as error:
                print(manager.name, manager.cache.memory.limit, error)
        asyncio.run(main())
    """
    done = run(program, tmp_path, served.add("/a.png"))
    assert_clean(done, "mine 1048576 configure() comes before the first use of imagecache's own functions")
    assert served.requests[0].headers["user-agent"] == "configured/1"
    assert (tmp_path / "mine").is_dir()


def test_configure_refuses_what_makes_no_sense_at_once() -> None:
    with pytest.raises(ValueError, match="memory_limit"):
        imagecache.configure("mine", memory_limit="lots")


async def test_a_thousand_managers_leave_nothing_behind(tmp_path: Path, served: ImageServer) -> None:
    url = served.add("/a.png")

    async def one(number: int) -> None:
        async with ImageManager(directory=tmp_path) as images:
            if number % 10 == 0:
                await images.fetch_image(url)

    def resources() -> tuple[int, int]:
        gc.collect()
        descriptors = Path("/proc/self/fd")
        return threading.active_count(), len(list(descriptors.iterdir())) if descriptors.is_dir() else 0

    for number in range(30):
        await one(number)
    threads, descriptors = resources()
    objects = len(gc.get_objects())
    for number in range(1000):
        await one(number)
    after_threads, after_descriptors = resources()
    assert after_threads <= threads + 1
    assert after_descriptors <= descriptors + 2
    assert len(gc.get_objects()) <= objects + 2000


async def test_a_closed_manager_says_so_and_can_be_closed_again(served: ImageServer, tmp_path: Path) -> None:
    images = ImageManager(directory=tmp_path)
    url = served.add("/a.png")
    await images.fetch_image(url)
    await images.aclose()
    await images.aclose()
    for call in (images.fetch_image(url), images.fetch_data(url), images.fetch(url)):
        with pytest.raises(ManagerClosedError):
            await call


def test_a_manager_used_on_another_loop_says_so(served: ImageServer, tmp_path: Path) -> None:
    images = ImageManager(directory=tmp_path)
    url, other = served.add("/a.png"), served.add("/b.png")
    with asyncio.Runner() as runner:
        runner.run(images.fetch_image(url))
        with asyncio.Runner() as second, pytest.raises(WrongLoopError):
            second.run(images.fetch_image(other))
        runner.run(images.aclose())


async def test_two_managers_on_one_folder_share_one_store(served: ImageServer, tmp_path: Path) -> None:
    url = served.add("/a.png")
    async with ImageManager(directory=tmp_path) as one, ImageManager(directory=tmp_path) as other:
        await one.fetch_image(url)
        assert (await other.fetch(url)).served_from is ServedFrom.DISK
    assert served.count() == 1


async def test_what_another_process_replaces_or_clears_the_memory_follows(served: ImageServer, tmp_path: Path) -> None:
    url = served.add("/a.png")
    program = """
        import asyncio, sys, imagecache
        async def main():
            async with imagecache.ImageManager(directory=sys.argv[2]) as images:
                await images.remove(sys.argv[1])
        asyncio.run(main())
    """
    async with ImageManager(directory=tmp_path / "shared") as images:
        await images.fetch_image(url)
        await images.cache.disk.flush()
        done = await asyncio.to_thread(run, program, tmp_path, url, os.fspath(tmp_path / "shared"))
        assert_clean(done, "")
        await images.cache.disk.poll()
        await asyncio.sleep(0)
        assert len(images.cache.memory) == 0
        assert (await images.fetch(url)).served_from is ServedFrom.NETWORK


async def test_when_two_processes_want_the_same_missing_image_one_loads_it(served: ImageServer, tmp_path: Path) -> None:
    url, other = served.add("/a.png"), served.add("/other.png")
    program = """
        import asyncio, sys, imagecache
        async def main():
            async with imagecache.ImageManager(directory=sys.argv[2]) as images:
                await images.fetch_image(sys.argv[1])
        asyncio.run(main())
    """
    gate = served.hold("/a.png")
    async with ImageManager(directory=tmp_path / "shared") as images:
        await images.fetch_image(other)
        process = asyncio.create_task(asyncio.to_thread(run, program, tmp_path, url, os.fspath(tmp_path / "shared")))
        await gate.arrived(1, timeout=30)
        # The look whether anybody shares the folder is repeated once a second.
        await images.cache.disk.poll()
        images.cache.disk._leases._seen = float("-inf")
        call = asyncio.create_task(images.fetch(url))
        await asyncio.sleep(0)
        gate.open()
        assert (await call).served_from is ServedFrom.DISK
        assert_clean(await process, "")
    assert served.count("/a.png") == 1


def test_importing_loads_neither_aiohttp_nor_pillow_and_knows_every_name() -> None:
    program = """
        import sys, imagecache, imagecache.http.decision, imagecache.cli.main
        assert not {"aiohttp", "PIL", "sqlite3", "asyncio"} & sys.modules.keys() - {"asyncio"}, sys.modules.keys()
        names = imagecache.__all__
        assert all(getattr(imagecache, name) is not None for name in names)
        assert set(names) <= set(dir(imagecache))
        try:
            imagecache.nonsense
        except AttributeError:
            print("fine")
    """
    done = run(program, Path())
    assert_clean(done, "fine")
