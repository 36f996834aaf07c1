"""What the files of a server at work hold."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def files_of(*places: Path) -> dict[Path, bytes]:
    """The content of each file at and below `places`; what a running server removes meanwhile is left out."""
    contents: dict[Path, bytes] = {}
    for place in places:
        below = (Path(folder) / name for folder, _, names in os.walk(place) for name in names)
        for path in below if place.is_dir() else (place,):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file():  # no socket
                    contents[path] = path.read_bytes()
    return contents
