"""What a section is made of: plain text in plain shapes, which `as_html` and `as_markdown` write each in its own way.

Text stands here as it is, also where it holds marks of HTML or Markdown: whoever writes it escapes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "open"]


@dataclass(frozen=True)
class Paragraph:
    """Sentences; a tone makes them stand out as an answer does."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True)
class Code:
    """A line to copy."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """One line each."""

    items: Sequence[str]


@dataclass(frozen=True)
class Tile:
    """A number that is read first: what it is, the number, and what to know with it."""

    title: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Tiles:
    """Numbers beside each other."""

    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Verdict:
    """A cell that says how something stands."""

    word: str
    tone: Tone


@dataclass(frozen=True)
class Range:
    """A cell with the 95 % interval of a share, 0..1, drawn where there is room; `value` is where its mark stands."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


@dataclass(frozen=True)
class Amount:
    """A cell with a number and, where there is room, a bar of this share, 0..1, of the longest."""

    text: str
    share: float


Cell = str | Verdict | Range | Amount


@dataclass(frozen=True)
class Table:
    """Rows of cells; without columns' names, pairs of a title and what is to be said of it.

    Attributes:
        words: how many columns, from the left, hold words; the others hold numbers, which stand to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure of the evaluation by its file's stem, and what it shows, for who cannot see it."""

    stem: str
    shows: str


Block = Paragraph | Code | Bullets | Tiles | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the page; `name` is one word by which it is linked to."""

    name: str
    title: str
    blocks: Sequence[Block]
