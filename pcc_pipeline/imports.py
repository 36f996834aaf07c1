"""Importing a package without something that it would bring along."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def import_without(name: str, unwanted: str) -> Any:
    """The module `name`, imported as on a machine that does not have the package `unwanted`.

    Where either is imported already, nothing is hidden.
    """
    if name in sys.modules or unwanted in sys.modules:
        return importlib.import_module(name)
    sys.modules[unwanted] = None  # type: ignore[assignment] # None is how Python marks a module that is not to be had
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[unwanted]
