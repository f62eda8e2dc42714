"""The download tools of the command line: how each is told to write a list of URLs, unchecked, into a folder."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workloads import AT_ONCE, find_tool


def command(tool: str, urls: Sequence[str], folder: Path) -> list[str]:
    """Its command line; a list of URLs is written where it wants one."""
    binary = find_tool(tool)
    assert binary is not None
    files = folder / "files"
    files.mkdir()
    listed = folder / "urls.txt"
    listed.write_text("".join(f'url = "{url}"\n' if tool == "curl" else f"{url}\n" for url in urls))
    match tool:
        case "curl":
            return [
                binary, "--silent", "--show-error", "--fail", "--parallel", "--parallel-max", str(AT_ONCE),
                "--remote-name-all", "--output-dir", str(files), "--config", str(listed),
            ]  # fmt: skip
        case "wget":
            return [binary, "--quiet", "--directory-prefix", str(files), "--input-file", str(listed)]
        case "aria2c":
            return [
                binary, "--quiet", "--no-conf", f"--max-concurrent-downloads={AT_ONCE}",
                f"--dir={files}", f"--input-file={listed}",
            ]  # fmt: skip
        case "img2dataset":
            return [
                binary, f"--url_list={listed}", f"--output_folder={files}", "--output_format=files",
                "--resize_mode=no", "--processes_count=1", f"--thread_count={AT_ONCE}",
            ]  # fmt: skip
        case _:
            raise ValueError(tool)


def run(tool: str, urls: Sequence[str], folder: Path) -> dict[str, float | None]:
    """Wall and CPU time of the whole process, its start included: 10 to 20 ms, seconds with img2dataset."""
    line = command(tool, urls, folder)
    before, began = os.times(), time.perf_counter()
    subprocess.run(line, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    if tool != "img2dataset":
        written = [path for path in (folder / "files").rglob("*") if path.stat().st_size]
        if len(written) != len(urls):
            raise RuntimeError(f"{tool} wrote {len(written)} files of {len(urls)}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall": wall, "cpu": cpu}
