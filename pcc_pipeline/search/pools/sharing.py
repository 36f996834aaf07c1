"""Hands one large object, such as the training rows, to every worker without copies of its arrays.

The object is pickled one time into a file in memory; arrays lie beside the pickle (PEP 574) and the workers map them,
so that all share the same pages until one writes. Nothing of it reaches a disk on Linux, nor outlives the process.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cloudpickle

_ALIGNMENT = 64


@dataclass(frozen=True)
class Mapped:
    """An object in a file: small, and sent to a worker in place of the object.

    Attributes:
        parts: offset and length in bytes of the pickle and of each of its buffers.
    """

    path: str
    parts: tuple[tuple[int, int], ...]

    def get(self) -> Any:
        """The object; its arrays are writable, and private once written to. Nothing is kept for a next call."""
        with Path(self.path).open("rb") as file:
            pages = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        pickled, *buffers = (pages[offset : offset + length] for offset, length in self.parts)
        return pickle.loads(pickled, buffers=buffers)


class SharedFile:
    """Owns the file behind a `Mapped`; a context manager. When it closes, workers keep what they have mapped."""

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        pickled = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        if hasattr(os, "memfd_create"):
            self._file: Any = os.fdopen(os.memfd_create("pcc-shared"), "wb")
            path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="pcc-shared-")  # noqa: SIM115 # closed by __exit__
            path = self._file.name
        parts = []
        for part in (pickled, *(buffer.raw() for buffer in buffers)):
            self._file.seek(-self._file.tell() % _ALIGNMENT, os.SEEK_CUR)
            parts.append((self._file.tell(), len(part)))
            self._file.write(part)
        self._file.flush()
        self.token = Mapped(path, tuple(parts))

    def __enter__(self) -> Mapped:
        return self.token

    def __exit__(self, *_: object) -> None:
        self._file.close()
