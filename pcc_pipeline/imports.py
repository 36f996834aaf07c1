"""Importing a package without others that it would bring along."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def import_without(name: str, *unwanted: str) -> Any:
    """The module `name`, imported as on a machine that does not have the packages `unwanted`.

    Packages that are imported already are not hidden, and no package is where `name` is imported already.
    """
    hidden = [] if name in sys.modules else [package for package in unwanted if package not in sys.modules]
    for package in hidden:
        sys.modules[package] = None  # type: ignore[assignment] # how Python marks a module that is not to be had
    try:
        return importlib.import_module(name)
    finally:
        for package in hidden:
            del sys.modules[package]
