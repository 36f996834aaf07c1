"""A text file as decoded lines, in bounded memory whatever its bytes are: zipped, binary, without line ends."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pcc_pipeline.errors import DataError

# Longer than any good row: a vector of 584 numbers takes some 13,000 characters and a text 10,000.
MAX_LINE_BYTES = 8_000_000
_BLOCK_BYTES = 2**18


class Lines:
    """The decoded lines, which keep their ends; iterating raises DataError where the bytes are no text.

    A reader whose rows may go on over several lines calls `row_begins` at each row: then a row is bounded as a line is.
    Bytes are looked at by the block, so that a line costs no call of Python's.
    """

    def __init__(self, file: io.BufferedReader | gzip.GzipFile, path: Path, kind: str) -> None:
        self.taken = 0
        """Bytes of the file so far, in whole blocks."""
        self._path = path
        self._kind = kind
        self._n_lines = 0
        self._row_start = 0
        self._lines = chain.from_iterable(self._blocks(file))

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def row_begins(self) -> None:
        """Says that the next line belongs to another row."""
        self._row_start = self.taken

    def _blocks(self, file: io.BufferedReader | gzip.GzipFile) -> Iterator[Iterable[str]]:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := file.read1(_BLOCK_BYTES):
                end = piece.rfind(b"\n") + 1
                if size + (piece.find(b"\n") + 1 or len(piece)) > MAX_LINE_BYTES:
                    raise DataError(
                        f"The {self._kind}'s line {self._n_lines + 1} is longer than {MAX_LINE_BYTES:,} bytes.",
                        where=str(self._path),
                        fix="end each row with a line end; a row that long is none",
                    )
                if end:
                    yield self._decoded(b"".join([*pieces, piece[:end]]))
                    pieces, size = [], 0
                pieces.append(piece[end:])
                size += len(piece) - end
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            problem = "cut short" if isinstance(error, EOFError) else "no gzip file or damaged"
            raise DataError(
                f"The .gz file is {problem} (after {self._n_lines} lines).",
                where=str(self._path),
                fix="download or compress it again",
            ) from None
        if size:
            yield self._decoded(b"".join(pieces))

    def _decoded(self, block: bytes) -> Iterable[str]:
        """The lines of a block of whole lines."""
        # Whatever was handed out since the row began belongs to it, since its reader asks for more.
        if self.taken - self._row_start > MAX_LINE_BYTES:
            raise DataError(
                f"A row of the {self._kind} goes on for more than {MAX_LINE_BYTES:,} bytes.",
                where=str(self._path),
                fix="close every quoted field; a row that long is none",
            )
        if self.taken == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"The {self._kind} is in UTF-16.", where=str(self._path), fix="save it as UTF-8")
        n_before, n_bytes = self._n_lines, self.taken
        self._n_lines += block.count(b"\n")
        self.taken += len(block)
        if n_bytes == 0 and block.startswith(codecs.BOM_UTF8):
            n_bytes = len(codecs.BOM_UTF8)
            block = block[n_bytes:]
        if b"\0" in block or not _is_utf_8(block):
            return self._up_to_the_fault(block, n_before, n_bytes)
        return map(bytes.decode, io.BytesIO(block))

    def _up_to_the_fault(self, block: bytes, n_lines: int, offset: int) -> Iterator[str]:
        for number, line in enumerate(io.BytesIO(block), start=n_lines + 1):
            if b"\0" in line:
                raise DataError(
                    f"The {self._kind} holds a NUL byte at byte {offset + line.index(0)}, line {number}.",
                    where=str(self._path),
                    fix="save it again as UTF-8 text; a binary file may have been renamed",
                )
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"The {self._kind} is not UTF-8 at byte {offset + error.start}, line {number}.",
                    where=str(self._path),
                    fix="save it as UTF-8; for a Windows file: iconv -f cp1252 -t utf-8 old.csv > new.csv",
                ) from None
            yield text
            offset += len(line)


@contextmanager
def open_lines(path: Path, kind: str) -> Iterator[Lines]:
    """The lines of a file, unzipped where its name ends in .gz. `kind` is what messages call it: CSV, JSONL."""
    zipped = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if zipped else path.open("rb") as file:
        yield Lines(file, path, kind)


def _is_utf_8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
