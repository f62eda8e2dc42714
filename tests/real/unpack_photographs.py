"""Takes the data folder out of the scikit-image wheel. ``make test`` runs it once; nothing else does.

Usage: unpack_photographs.py FOLDER_WITH_THE_WHEEL DESTINATION
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

DATA = PurePosixPath("skimage/data")


def unpack(wheel: Path, destination: Path) -> int:
    """Write every file of the wheel's data folder, flat; returns how many there were."""
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if PurePosixPath(name).parent == DATA and not name.endswith("/"):
                with archive.open(name) as source, (destination / PurePosixPath(name).name).open("wb") as target:
                    shutil.copyfileobj(source, target)
                count += 1
    return count


def main() -> None:
    folder, destination = map(Path, sys.argv[1:])
    (wheel,) = folder.glob("scikit_image-*.whl")
    if not unpack(wheel, destination):
        sys.exit(f"{wheel} has no {DATA}")


if __name__ == "__main__":
    main()
