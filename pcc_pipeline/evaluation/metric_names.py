"""Labels as parts of MLflow metric names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256

# MLflow takes word characters, "-", ".", " ", ":" and "/". The slash would make a level of its own, and the colon is
# refused on Windows; both are replaced like any other.
_UNSAFE = re.compile(r"[^\w.\- ]")
# MLflow takes names of 250 characters; "<split>/class/" and "/precision" need some of them.
_LONGEST = 180


def metric_names(labels: Sequence[str]) -> dict[str, str]:
    """A name for each label, safe inside an MLflow metric name and unlike every other label's.

    Characters that MLflow refuses become "_". Where two labels would then read alike (upper and lower case count as
    alike, for the sake of stores that fold it), those that had to change, or all but the first in code-point order,
    get eight digits of their SHA-256 appended. So the names do not depend on the labels' order.
    """
    every = sorted(set(labels), key=lambda label: (_safe(label) != label, label))
    alike = Counter(_safe(label).casefold() for label in every)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in every:
        name = base = _safe(label)
        digits = 8
        # Of two changed labels that read alike neither gets the bare name: it would not say which of them is meant.
        while name.casefold() in taken or (name == base != label and alike[base.casefold()] > 1):
            name = f"{base}_{sha256(label.encode()).hexdigest()[:digits]}"
            digits += 4
        taken.add(name.casefold())
        names[label] = name
    return names


def _safe(label: str) -> str:
    name = _UNSAFE.sub("_", label)[:_LONGEST].strip()
    # An empty part, "." and ".." are steps of a path, and MLflow refuses a name that is not its own shortest path.
    return name if name.strip(".") else "_" * max(1, len(name))
