"""The libraries that scores depend on: those of the same candidate differ where they do."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

_LIBRARIES = ("pcc-pipeline", "scikit-learn", "imbalanced-learn", "numpy", "scipy")


@cache
def library_versions() -> dict[str, str]:
    """Distribution -> the version that is installed here."""
    return {name: version(name) for name in _LIBRARIES}
