"""What is worth knowing about a file that its rows do not show."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class ReadNotes:
    """Lines for whoever reads the summary; each is logged when it comes. None quotes a text of the file."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def add(self, line: str) -> None:
        """Adds a line once."""
        if line not in self._lines:
            self._lines[line] = None
            logger.warning("%s", line)

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines)
