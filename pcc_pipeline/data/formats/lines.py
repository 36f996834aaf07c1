"""A text file as blocks of whole lines, in bounded memory whatever its bytes are: zipped, binary, without line ends."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from pcc_pipeline.errors import DataError

# Longer than any good row: a vector of 584 numbers takes some 13,000 characters and a text 10,000.
MAX_LINE_BYTES = 8_000_000
# Smaller ones cost pyarrow, which hands each to a thread of its own, several times as long a byte.
_BLOCK_BYTES = 2**21


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file, the last of which may lack its end where the file does.

    data: their bytes, without the file's byte order mark. n_lines_before, offset: lines and bytes of the file before.
    """

    data: bytes
    path: Path
    kind: str
    n_lines_before: int
    offset: int

    @cached_property
    def n_lines(self) -> int:
        return count_ends(self.data) + (self.data != b"" and not self.data.endswith(b"\n"))

    @cached_property
    def is_text(self) -> bool:
        """Whether it is UTF-8 without NUL: then `lines` raises nothing."""
        if b"\0" in self.data:
            return False
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return False
        return True

    def lines(self) -> Iterator[str]:
        """The decoded lines, which keep their ends. Raises DataError at the first that is no text."""
        # Bytes are looked at by the block, so that a line costs no call of Python's.
        return map(bytes.decode, io.BytesIO(self.data)) if self.is_text else self._up_to_the_fault()

    def _up_to_the_fault(self) -> Iterator[str]:
        offset = self.offset
        for number, line in enumerate(io.BytesIO(self.data), start=self.n_lines_before + 1):
            if b"\0" in line:
                raise DataError(
                    f"the {self.kind} holds a NUL byte at byte {offset + line.index(0)}, line {number}",
                    where=str(self.path),
                    fix="save it again as UTF-8 text; a binary file may have been renamed",
                )
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"the {self.kind} is not UTF-8 at byte {offset + error.start}, line {number}",
                    where=str(self.path),
                    fix="save it as UTF-8; for a Windows file: iconv -f cp1252 -t utf-8 old.csv > new.csv",
                ) from None
            yield text
            offset += len(line)


class Lines:
    """The blocks or the decoded lines of a file; iterating raises DataError where the bytes are no text.

    A reader whose rows may go on over several lines calls `row_begins` at each row: then a row is bounded as a line is.
    """

    def __init__(self, file: io.BufferedReader | gzip.GzipFile, path: Path, kind: str) -> None:
        self.taken = 0
        """Bytes of the file so far, in whole blocks."""
        self.blocks: Iterator[Block] = self._blocks(file)
        self._path = path
        self._kind = kind
        self._n_lines = 0
        self._row_start = 0

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(block.lines() for block in self.blocks)

    def row_begins(self) -> None:
        """Says that the next line belongs to another row."""
        self._row_start = self.taken

    def _blocks(self, file: io.BufferedReader | gzip.GzipFile) -> Iterator[Block]:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := file.read(_BLOCK_BYTES):
                end = piece.rfind(b"\n") + 1
                if size + (piece.find(b"\n") + 1 or len(piece)) > MAX_LINE_BYTES:
                    raise DataError(
                        f"the {self._kind}'s line {self._n_lines + 1} is longer than {MAX_LINE_BYTES:,} bytes",
                        where=str(self._path),
                        fix="end each row with a line end; a row that long is none",
                    )
                if end:
                    yield self._block(b"".join([*pieces, piece[:end]]))
                    pieces, size = [], 0
                pieces.append(piece[end:])
                size += len(piece) - end
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = "cut short" if isinstance(error, EOFError) else "no gzip file or damaged"
            raise DataError(
                f"the .gz file is {problem} (after {self._n_lines} lines)",
                where=str(self._path),
                fix="download or compress it again",
            ) from None
        if size:
            yield self._block(b"".join(pieces))

    def _block(self, data: bytes) -> Block:
        # Whatever was handed out since the row began belongs to it, since its reader asks for more.
        if self.taken - self._row_start > MAX_LINE_BYTES:
            raise DataError(
                f"a row of the {self._kind} goes on for more than {MAX_LINE_BYTES:,} bytes",
                where=str(self._path),
                fix="close every quoted field; a row that long is none",
            )
        if self.taken == 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"the {self._kind} is in UTF-16", where=str(self._path), fix="save it as UTF-8")
        n_lines_before, offset = self._n_lines, self.taken
        self._n_lines += count_ends(data)
        self.taken += len(data)
        if offset == 0 and data.startswith(codecs.BOM_UTF8):
            offset = len(codecs.BOM_UTF8)
            data = data[offset:]
        return Block(data, self._path, self._kind, n_lines_before, offset)


def count_ends(data: bytes) -> int:
    """The line feeds; ten times as fast as `bytes.count`."""
    return int(np.count_nonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")))


@contextmanager
def open_lines(path: Path, kind: str) -> Iterator[Lines]:
    """The lines of a file, unzipped where its name ends in .gz. `kind` is what messages call it: CSV, JSONL."""
    zipped = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        yield Lines(file, path, kind)
