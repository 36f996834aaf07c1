"""A text file as decoded lines, in bounded memory whatever its bytes are: zipped, binary, without line ends."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from pcc_pipeline.errors import DataError

# Longer than any good row: a vector of 584 numbers takes some 13,000 characters and a text 10,000.
MAX_LINE_BYTES = 8_000_000
# Python's own 8 KiB hold one line with 584 numbers.
_BUFFER_BYTES = 2**18


class Lines:
    """An iterator over the decoded lines, which keep their ends; raises DataError where the bytes are no text.

    A reader whose rows may go on over several lines calls `row_begins` at each row: then a row is bounded as a line is.
    """

    def __init__(self, file: BinaryIO, path: Path, kind: str) -> None:
        self._lines = _decoded(file, path, kind)
        self._path = path
        self._kind = kind
        self._left = MAX_LINE_BYTES

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._left -= len(line)
        if self._left < 0:
            raise DataError(
                f"A row of the {self._kind} goes on for more than {MAX_LINE_BYTES:,} characters.",
                where=str(self._path),
                fix="close every quoted field; a row that long is none",
            )
        return line

    def row_begins(self) -> None:
        """Says that the next line belongs to another row."""
        self._left = MAX_LINE_BYTES


@contextmanager
def open_lines(path: Path, kind: str) -> Iterator[Lines]:
    """The lines of a file, unzipped where its name ends in .gz. `kind` is what messages call it: CSV, JSONL."""
    zipped = path.name.lower().endswith(".gz")
    with cast(BinaryIO, gzip.open(path, "rb")) if zipped else path.open("rb", _BUFFER_BYTES) as file:
        yield Lines(file, path, kind)


def _decoded(file: BinaryIO, path: Path, kind: str) -> Iterator[str]:
    offset = 0
    number = 0
    try:
        # readline with a limit: iteration would read a file without a line end as a whole.
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES + 1), b""), start=1):
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataError(f"The {kind} is in UTF-16.", where=str(path), fix="save it as UTF-8")
            if b"\0" in line:
                raise DataError(
                    f"The {kind} holds a NUL byte at byte {offset + line.index(0)}, line {number}.",
                    where=str(path),
                    fix="save it again as UTF-8 text; a binary file may have been renamed",
                )
            if len(line) > MAX_LINE_BYTES:
                raise DataError(
                    f"The {kind}'s line {number} is longer than {MAX_LINE_BYTES:,} bytes.",
                    where=str(path),
                    fix="end each row with a line end; a row that long is none",
                )
            text = line.decode("utf-8")
            yield text.removeprefix("\ufeff") if number == 1 else text
            offset += len(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"The {kind} is not UTF-8 at byte {offset + error.start}, line {number}.",
            where=str(path),
            fix="save it as UTF-8; for a Windows file: iconv -f cp1252 -t utf-8 old.csv > new.csv",
        ) from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        problem = "cut short" if isinstance(error, EOFError) else "no gzip file or damaged"
        raise DataError(
            f"The .gz file is {problem} (after {number} lines).", where=str(path), fix="download or compress it again"
        ) from None
