"""Takes Pillow's own test images out of its source distribution. ``make test`` runs it once; nothing else does.

Usage: unpack_pillow_images.py FOLDER_WITH_THE_ARCHIVE DESTINATION
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path, PurePosixPath

IMAGES = ("Tests", "images")


def unpack(archive: Path, destination: Path) -> int:
    """Write every file of the archive's image folder, folders kept; returns how many there were."""
    count = 0
    with tarfile.open(archive) as source:
        for member in source:
            parts = PurePosixPath(member.name).parts
            content = source.extractfile(member) if member.isfile() and parts[1:3] == IMAGES else None
            if content is None or ".." in parts:
                continue
            target = destination.joinpath(*parts[3:])
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as file:
                shutil.copyfileobj(content, file)
            count += 1
    return count


def main() -> None:
    folder, destination = map(Path, sys.argv[1:])
    (archive,) = folder.glob("pillow-*.tar.gz")
    if not unpack(archive, destination):
        sys.exit(f"{archive} has no {'/'.join(IMAGES)}")


if __name__ == "__main__":
    main()
