"""`model.search_space` as typed dimensions, and what is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcc_pipeline.config.schema import SearchMethod
from pcc_pipeline.errors import SearchError
from pcc_pipeline.model.families import FAMILIES, agreeing, no_such_hyperparameter
from pcc_pipeline.model.selection import CHOICE
from pcc_pipeline.model.value_ranges import Domain

_INTERVAL_KEYS = ("low", "high", "log", "grid")
_EXAMPLE = "{low: 0.01, high: 100, log: true, grid: [0.1, 1, 10]}"


@dataclass(frozen=True)
class Categorical:
    """One of the listed values, which may be lists themselves."""

    choices: tuple[Any, ...]

    @property
    def size(self) -> float:
        return len(self.choices)

    @property
    def points(self) -> tuple[Any, ...]:
        return self.choices


@dataclass(frozen=True)
class Interval:
    """A number in [low, high], whole where both bounds are; on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool = False
    grid: tuple[float, ...] = ()

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> float:
        """How many values there are; infinite unless whole."""
        return self.high - self.low + 1 if self.whole else math.inf

    @property
    def points(self) -> tuple[float, ...]:
        return self.grid


Dimension = Categorical | Interval
Space = Mapping[str, Dimension]


def space_of(family: str, space: Mapping[str, Any] | str | None, fixed: Mapping[str, Any] | None = None) -> Space:
    """The dimensions of `space`: the family's own where it is None, the older system's where it is `older`.

    Args:
        fixed: hyperparameters as in `model.hyperparameters`. The family's own space leaves them as they are, and may be
            empty then; any other space was written, or chosen, with them in view, and goes over them.

    Raises:
        SearchError: the space has a fault that `space_faults` finds whatever the search method.
    """
    if problems := space_faults(family, space, "random"):
        raise SearchError(
            "The search space cannot be used: " + "; ".join(": ".join(filter(None, pair)) for pair in problems) + ".",
            where="model.search_space",
            fix=f"give a list of choices or a range such as {_EXAMPLE} for each hyperparameter to search",
        )
    chosen = _own(family, fixed or {}) if space is None else _chosen(family, space)
    return {name: _dimension(spec) for name, spec in chosen.items()}


def points_of(space: Space) -> dict[str, tuple[Any, ...]]:
    """Values that a search tries of each dimension: its choices or, of a range, both ends."""
    return {
        name: dimension.choices if isinstance(dimension, Categorical) else (dimension.low, dimension.high)
        for name, dimension in space.items()
    }


def space_faults(
    family: str, space: Mapping[str, Any] | str | None, search_method: SearchMethod
) -> list[tuple[str, str]]:
    """What is wrong with `model.search_space`, as (key below it, problem); the key is empty for the space as a whole.

    Values that are fine alone and clash together are no fault: such a candidate fails as one trial, with its reason.
    """
    if space is None and search_method == "none":
        return []
    chosen = _chosen(family, space)
    if not chosen:
        return [("", _nothing_to_search(family, space))]
    return [fault for name, spec in chosen.items() for fault in _faults_of(family, str(name), spec, search_method)]


def _chosen(family: str, space: Mapping[str, Any] | str | None) -> Mapping[str, Any]:
    if space is None:
        return FAMILIES[family].space
    return FAMILIES[family].older_space if isinstance(space, str) else space


def _own(family: str, fixed: Mapping[str, Any]) -> Mapping[str, Any]:
    """The family's own space without what is fixed, and of its choices those alone that go with that."""
    free = {name: spec for name, spec in FAMILIES[family].space.items() if name not in fixed}
    choices = {name: spec for name, spec in free.items() if not isinstance(spec, Mapping)}
    together = agreeing(family, fixed, choices)
    for name in together[0] if together else ():
        free[name] = [choice for choice in choices[name] if any(each[name] == choice for each in together)]
    return free


def _nothing_to_search(family: str, space: Mapping[str, Any] | str | None) -> str:
    lacks = (
        f"{family} has no search space of {'the older system' if space else 'its own'}"
        if space is None or isinstance(space, str)
        else "there is nothing in it"
    )
    names = ", ".join((*FAMILIES[family].domains, *CHOICE))
    return f"{lacks}; name hyperparameters to search ({names}) or set model.search_method to none"


def _faults_of(family: str, name: str, spec: Any, search_method: SearchMethod) -> Iterator[tuple[str, str]]:
    domains = {**FAMILIES[family].domains, **CHOICE}
    if name not in domains:
        yield name, no_such_hyperparameter(family, name)
    elif isinstance(spec, Mapping):
        yield from _interval_faults(name, spec, domains[name], search_method)
    elif isinstance(spec, Sequence) and not isinstance(spec, str):
        yield from _choice_faults(name, spec, domains[name], "choices")
    else:
        yield name, f"{spec!r} is neither a list of choices nor a range such as {_EXAMPLE}"


def _choice_faults(key: str, values: Sequence[Any], domain: Domain, what: str) -> Iterator[tuple[str, str]]:
    if not values:
        yield key, f"the list of {what} is empty"
    seen: set[str] = set()
    for value in values:
        if problem := domain.fault(value):
            yield key, f"{value!r} {problem}{_hint(value)}"
        if (text := json.dumps(value, default=str, sort_keys=True)) in seen:
            yield key, f"{value!r} is listed twice"
        seen.add(text)


def _interval_faults(
    name: str, spec: Mapping[str, Any], domain: Domain, search_method: SearchMethod
) -> Iterator[tuple[str, str]]:
    for key in spec:
        if key not in _INTERVAL_KEYS:
            yield f"{name}.{key}", f"a range has no such key; there are {', '.join(_INTERVAL_KEYS)}"
    bounds = []
    for key in ("low", "high"):
        value = spec.get(key)
        if key not in spec:
            yield f"{name}.{key}", f"is missing; a range is written {_EXAMPLE}"
        elif not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            yield f"{name}.{key}", f"{value!r} is not a number{_hint(value)}"
        elif problem := domain.fault(value):
            yield f"{name}.{key}", f"{value!r} {problem}"
        else:
            bounds.append(value)
    log = spec.get("log", False)
    if not isinstance(log, bool):
        yield f"{name}.log", f"{log!r} is neither true nor false"
    if len(bounds) == 2:
        low, high = bounds
        if low >= high:
            yield name, f"low {low!r} is not below high {high!r}"
        if log is True and low <= 0:
            yield f"{name}.low", f"{low!r} is not above 0, which log: true needs"
    yield from _grid_faults(name, spec, domain, search_method)


def _grid_faults(
    name: str, spec: Mapping[str, Any], domain: Domain, search_method: SearchMethod
) -> Iterator[tuple[str, str]]:
    grid = spec.get("grid")
    if grid is None:
        if search_method == "grid":
            yield (
                f"{name}.grid",
                "is missing: search_method grid needs the points to try, such as grid: "
                f"[{spec.get('low', 0.1)}, {spec.get('high', 10)}]; random and optuna search the range itself",
            )
    elif not isinstance(grid, Sequence) or isinstance(grid, str):
        yield f"{name}.grid", f"{grid!r} is not a list of points"
    else:
        yield from _choice_faults(f"{name}.grid", grid, domain, "points")


def _hint(value: Any) -> str:
    """YAML 1.1 reads `1e-3` as text: the fault that this gives is puzzling without a word on it."""
    if isinstance(value, str):
        try:
            return f"; it is text in YAML: write {float(value)!r}" if math.isfinite(float(value)) else ""
        except ValueError:
            pass
    return ""


def _dimension(spec: Any) -> Dimension:
    if not isinstance(spec, Mapping):
        return Categorical(tuple(spec))
    return Interval(spec["low"], spec["high"], spec.get("log", False), tuple(spec.get("grid") or ()))
