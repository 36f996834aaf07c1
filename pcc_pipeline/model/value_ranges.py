"""What a hyperparameter may be: the one place that says which values params.yaml and a search may give it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Domain(Protocol):
    """A set of admissible values."""

    def fault(self, value: Any) -> str:
        """Why `value` is outside, as a phrase after the value; empty if it is inside."""
        ...


@dataclass(frozen=True)
class Number:
    """A number in [low, high], whole where `whole`; `optional` admits null."""

    low: float
    high: float = math.inf
    whole: bool = False
    optional: bool = False

    def fault(self, value: Any) -> str:
        if value is None and self.optional:
            return ""
        kind = "a whole number" if self.whole else "a number"
        fits = isinstance(value, int) if self.whole else isinstance(value, int | float)
        if not fits or isinstance(value, bool) or value == math.inf or not self.low <= value <= self.high:
            top = "up" if math.isinf(self.high) else f"to {self.high:g}"
            return f"is not {kind} from {self.low:g} {top}" + (", or null" if self.optional else "")
        return ""


@dataclass(frozen=True)
class Choice:
    """One of the named values."""

    values: tuple[Any, ...]

    def fault(self, value: Any) -> str:
        # 1 == True in Python: the type is compared too.
        if any(value == choice and type(value) is type(choice) for choice in self.values):
            return ""
        return f"is not one of {', '.join('null' if choice is None else str(choice) for choice in self.values)}"


@dataclass(frozen=True)
class ListOf:
    """A list of `least` or more values of one domain, such as layer sizes; `optional` admits null."""

    item: Domain
    least: int = 1
    optional: bool = False

    def fault(self, value: Any) -> str:
        if value is None and self.optional:
            return ""
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < self.least:
            return f"is not a list of at least {self.least}"
        return next((f"holds {item!r}, which {self.item.fault(item)}" for item in value if self.item.fault(item)), "")
