"""Tools of the command line that write files unchecked and decode nothing: what a prefetch is held against."""

from __future__ import annotations

import shutil
from pathlib import Path

AT_ONCE = 32


def _curl(folder: Path, urls: list[str]) -> list[str]:
    lines = [f'url = "{url}"\noutput = "{folder / str(number)}"' for number, url in enumerate(urls)]
    configuration = folder / "curl.conf"
    configuration.write_text("\n".join(lines))
    return [
        "curl",
        "--silent",
        "--no-progress-meter",
        "--parallel",
        "--parallel-max",
        str(AT_ONCE),
        "--config",
        str(configuration),
    ]


def _wget(folder: Path, urls: list[str]) -> list[str]:
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    return ["wget", "--quiet", "--input-file", str(listed), "--directory-prefix", str(folder)]


def _aria2(folder: Path, urls: list[str]) -> list[str]:
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    return ["aria2c", "--quiet", f"-j{AT_ONCE}", "--input-file", str(listed), "--dir", str(folder)]


def _img2dataset(folder: Path, urls: list[str]) -> list[str]:
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    output = str(folder / "output")
    return [
        "img2dataset", "--url_list", str(listed), "--output_folder", output, "--thread_count", str(AT_ONCE),
        "--resize_mode", "no", "--processes_count", "1",
    ]  # fmt: skip


TOOLS = {"curl --parallel": _curl, "wget -i": _wget, "aria2c": _aria2, "img2dataset": _img2dataset}
"""By name: the command that brings these URLs into a folder."""


def missing(name: str) -> str | None:
    """Why a tool cannot be measured, None if it can."""
    program = name.split(maxsplit=1)[0]
    return None if shutil.which(program) else f"{program} is not installed"
