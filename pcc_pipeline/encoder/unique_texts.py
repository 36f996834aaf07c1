"""Each different text once, and the way back to the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def unique_texts(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The different texts in order of appearance, and (len(texts),) positions: row i is `unique[positions[i]]`."""
    place: dict[str, int] = {}
    positions = [place.setdefault(text, len(place)) for text in texts]
    return list(place), np.asarray(positions, dtype=np.int64)
