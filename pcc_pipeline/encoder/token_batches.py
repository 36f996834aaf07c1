"""Forward passes of bounded size, whatever the lengths of the texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Positions = np.ndarray[Any, np.dtype[np.intp]]


def token_batches(lengths: np.ndarray, budget: int, *, equal: bool) -> Iterator[Positions]:
    """Positions of all texts, some at a time, longest first, so that memory peaks at once and not at the end.

    Args:
        lengths: (n,) tokens of each text, at least 1.
        budget: tokens of one pass, padding included; a single text longer than that is a pass of its own.
        equal: only texts of one length come together, so that nothing is padded.
    """
    order = np.argsort(-lengths, kind="stable")
    descending = lengths[order]
    start = 0
    while start < len(order):
        longest = descending[start]
        stop = start + max(1, budget // int(longest))
        if equal:
            stop = min(stop, int(np.searchsorted(-descending, -longest, side="right")))
        yield order[start:stop]
        start = stop
