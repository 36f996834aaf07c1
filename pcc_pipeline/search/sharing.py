"""Hands one large object, such as an objective that holds the training rows, to every worker once and without copies.

The object is pickled one time into a file in memory; arrays lie beside the pickle (PEP 574) and the workers map them,
so that all share the same pages until one writes. Nothing of it reaches a disk on Linux, nor outlives the process.
"""

from __future__ import annotations

import itertools
import mmap
import os
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

_ALIGNMENT = 64
_serial = itertools.count()
_opened: dict[tuple[int, int], Any] = {}


class Shared(Protocol):
    """A small token that can be sent to a worker in place of the object."""

    def get(self) -> Any: ...


@dataclass(frozen=True)
class Inline:
    """The object itself, where the work is done in this process."""

    value: Any

    def get(self) -> Any:
        return self.value


@dataclass(frozen=True)
class Mapped:
    """An object in a file.

    Attributes:
        key: process and serial number of the sharing, unique on this machine.
        parts: offset and length in bytes of the pickle and of each of its buffers.
    """

    key: tuple[int, int]
    path: str
    parts: tuple[tuple[int, int], ...]

    def get(self) -> Any:
        """The object, loaded once in each process; arrays are writable, and private once written to."""
        if self.key not in _opened:
            # One at a time: a search that follows another in the same worker must not add its rows to the first one's.
            _opened.clear()
            with Path(self.path).open("rb") as file:
                pages = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
            pickled, *buffers = (pages[offset : offset + length] for offset, length in self.parts)
            _opened[self.key] = pickle.loads(pickled, buffers=buffers)
        return _opened[self.key]


class SharedFile:
    """Owns the file behind a `Mapped`; the workers lose it when it closes, save what they have mapped."""

    def __init__(self, value: Any) -> None:
        buffers: list[pickle.PickleBuffer] = []
        pickled = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        if hasattr(os, "memfd_create"):
            self._file: Any = os.fdopen(os.memfd_create("pcc-shared"), "wb")
            path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file = tempfile.NamedTemporaryFile(prefix="pcc-shared-")  # noqa: SIM115 # closed by close()
            path = self._file.name
        parts = []
        for part in (pickled, *(buffer.raw() for buffer in buffers)):
            self._file.seek(-self._file.tell() % _ALIGNMENT, os.SEEK_CUR)
            parts.append((self._file.tell(), len(part)))
            self._file.write(part)
        self._file.flush()
        self.token = Mapped((os.getpid(), next(_serial)), path, tuple(parts))

    def close(self) -> None:
        self._file.close()
