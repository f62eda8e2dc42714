"""What importing costs, in fresh processes, A B A B …, as the median of the ratios of each round."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
FLOOR = "import aiohttp, PIL.Image"
CANDIDATES = {
    "import imagecache": "import imagecache",
    "import imagecache; imagecache.ImageManager": "import imagecache; imagecache.ImageManager",
}


def seconds(program: str) -> float:
    """The wall time of a fresh interpreter that runs a program."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Print a line for each candidate."""
    for program in (FLOOR, *CANDIDATES.values()):
        seconds(program)
    for name, program in CANDIDATES.items():
        nothing, floors, ours = [], [], []
        for _ in range(ROUNDS):
            nothing.append(seconds("pass"))
            floors.append(seconds(FLOOR))
            ours.append(seconds(program))
        start = statistics.median(nothing)
        ratios = [(our - start) / (floor - start) for our, floor in zip(ours, floors, strict=True)]
        print(f"{name:<46} {statistics.median(ratios):5.2f} of importing aiohttp and PIL.Image")


if __name__ == "__main__":
    main()
