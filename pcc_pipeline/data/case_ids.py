"""Case ids for rows that have none: the same row gets the same id in every run and file format."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


class CaseIds:
    """Makes ids from text and label, unique in a file: the nth copy of the same row gets its own."""

    def __init__(self) -> None:
        self._copies: dict[bytes, int] = {}

    def make(self, texts: Iterable[str], labels: Iterable[str]) -> list[str]:
        """Returns an id per row, `case-<20 hex>`, with `-1`, `-2`, … for later copies; call it in the file's order."""
        return [self._one(text, label) for text, label in zip(texts, labels, strict=True)]

    def _one(self, text: str, label: str) -> str:
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        digest = blake2b(f"{len(text)}:{text}{label}".encode(), digest_size=10).digest()
        copies = self._copies.get(digest, 0)
        self._copies[digest] = copies + 1
        # The prefix keeps spreadsheets from reading an id as a number.
        return f"case-{digest.hex()}" if copies == 0 else f"case-{digest.hex()}-{copies}"
