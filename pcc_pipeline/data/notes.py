"""What is worth knowing about a file that its rows do not show."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class ReadNotes:
    """Lines for whoever reads the summary; each is logged when it comes. None quotes a text of the file."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self.blank_lines = 0  # that are no rows

    def add(self, line: str) -> None:
        """Adds a line once."""
        if line not in self._lines:
            self._lines[line] = None
            logger.warning("%s", line)

    def add_blank_lines(self, count: int, first: int, path: Path) -> None:
        """Counts the blank lines of a file, the first of them at line `first` (from 1), that were left out."""
        self.blank_lines += count
        lines_are = "1 blank line is" if count == 1 else f"{count:,} blank lines are"
        self.add(f"{path}: {lines_are} no row and left out (first at line {first})")

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)
