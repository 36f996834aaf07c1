"""What a benchmark is: one thing done by us and by a peer in the same run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

# Among comparisons of one title.
Size = Literal["", "1x", "4x", "16x"]
# Seconds of ours and of the peer (None where the peer was left out), and what shows that the work is the same.
Pair = Callable[[], tuple[float, float | None, str]]


@dataclass(frozen=True)
class Comparison:
    """One line of the table.

    Attributes:
        goal: the ratio to reach; None where there is none.
        most_runs: for pairs that take minutes; None for as many as asked for.
        size: its place among comparisons of the same title, where they show the growth with size.
    """

    title: str
    pair: Pair
    goal: float | None = None
    most_runs: int | None = None
    size: Size = ""
