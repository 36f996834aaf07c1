"""Who says which candidate comes next: the Searcher protocol, the searches without memory, and the factory."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from scipy import stats
from sklearn.model_selection import ParameterGrid, ParameterSampler

from pcc_pipeline.errors import SearchError
from pcc_pipeline.model.selection import without_idle
from pcc_pipeline.search.plan import SearchPlan, StudyRecord
from pcc_pipeline.search.pruning import MedianRule
from pcc_pipeline.search.shared_study.conclusion import SharedStudy
from pcc_pipeline.search.spaces import Categorical, Dimension, Interval, Space
from pcc_pipeline.search.trials import Candidate, Trial


class Searcher(Protocol):
    """Proposes candidates and learns from trials; used by one thread, and closed at the end.

    Attributes:
        adaptive: whether a candidate depends on the trials told before: the order of telling then matters.
        prunes: whether `report` may stop a trial, so that its folds must run one after another.
        n_trials: how many trials there will be in all, those of `finished` included.
        study_name: the study's, None for a search that keeps none.
    """

    @property
    def adaptive(self) -> bool: ...

    @property
    def prunes(self) -> bool: ...

    @property
    def n_trials(self) -> int: ...

    @property
    def study_name(self) -> str | None: ...

    @property
    def shared(self) -> SharedStudy | None:
        """What several runs of one study end by; None for a search of this run alone."""
        ...

    def finished(self) -> tuple[Trial, ...]:
        """Trials that were not told here: those of a resumed study, and so far of others that search it."""
        ...

    def ask(self) -> Candidate | None:
        """The next candidate, with a greater number than any before; None when there is none left."""
        ...

    def report(self, number: int, fold: int, score: float) -> bool:
        """Take one fold's score of a candidate that was asked; True: prune it now."""
        ...

    def tell(self, trial: Trial) -> bool:
        """Take a candidate's end, once for each candidate; False: another run tries it again, and this end is void."""
        ...

    def importances(self) -> dict[str, float] | None:
        """Searched hyperparameter -> share of the score's variance (adds up to 1); None where not known."""
        ...

    def close(self) -> None:
        """Let go of the study."""
        ...


class ListSearcher:
    """A search without memory: goes through candidates that are known beforehand.

    Args:
        pruning: stop trials between folds by `MedianRule`.
    """

    adaptive = False
    study_name: str | None = None
    shared: SharedStudy | None = None

    def __init__(
        self, fixed: Mapping[str, Any], searched: Iterable[Mapping[str, Any]], n_trials: int, pruning: bool = False
    ) -> None:
        self.n_trials, self.prunes = n_trials, pruning
        self._rule = MedianRule()
        self._candidates: Iterator[Candidate] = (
            Candidate(number, {**fixed, **values}) for number, values in enumerate(itertools.islice(searched, n_trials))
        )

    def finished(self) -> tuple[Trial, ...]:
        return ()

    def ask(self) -> Candidate | None:
        return next(self._candidates, None)

    def report(self, number: int, fold: int, score: float) -> bool:
        return self.prunes and self._rule.stops(number, score)

    def tell(self, trial: Trial) -> bool:
        self._rule.ended(trial)
        return True

    def importances(self) -> dict[str, float] | None:
        return None

    def close(self) -> None:
        return None


class FixedSearcher(ListSearcher):
    """`search_method: none`: one candidate, the fixed hyperparameters."""

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        super().__init__(fixed, [{}], 1)


class GridSearcher(ListSearcher):
    """Every combination of choices and grid points, in the order of scikit-learn's ParameterGrid.

    Of combinations that are fitted alike the first alone: where no features are chosen, their number says nothing.
    """

    def __init__(self, fixed: Mapping[str, Any], space: Space, pruning: bool = False) -> None:
        if without := [name for name, dimension in space.items() if not dimension.points]:
            raise SearchError(
                f"a grid search needs the points to try of {', '.join(without)}",
                where="model.search_space",
                fix="add `grid: [...]` to the range, list choices, or set model.search_method to random or optuna",
            )
        grid = ParameterGrid({name: list(dimension.points) for name, dimension in space.items()})
        different = list(_different(fixed, grid))
        super().__init__(fixed, different, len(different), pruning)


class RandomSearcher(ListSearcher):
    """`n_iter` candidates drawn from the space, no two fitted alike: fewer where the space holds fewer."""

    def __init__(self, fixed: Mapping[str, Any], space: Space, n_iter: int, seed: int, pruning: bool = False) -> None:
        n_trials = int(min(n_iter, _size(space) - _idle(space)))
        super().__init__(fixed, _different(fixed, _draws(space, n_trials, seed)), n_trials, pruning)


def _size(space: Space) -> float:
    return math.prod(dimension.size for dimension in space.values())


def _idle(space: Space) -> float:
    """How many combinations differ from another one in the number of features alone, where none are chosen."""
    methods, numbers = space.get("feature_selection"), space.get("n_features")
    if methods is None or numbers is None or "none" not in methods.points:
        return 0
    return _size(space) / methods.size / numbers.size * (numbers.size - 1)


def _different(fixed: Mapping[str, Any], candidates: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    seen: set[str] = set()
    for values in candidates:
        key = json.dumps(without_idle({**fixed, **values}), sort_keys=True, default=str)
        if key not in seen:
            seen.add(key)
            yield values


def _draws(space: Space, n_trials: int, seed: int) -> Iterator[dict[str, Any]]:
    """So many different ones and more, in an order of their own."""
    size, idle = _size(space), _idle(space)
    if size <= 4 * n_trials:
        # Nearly all of a small space is wanted: drawing with repeats until all came could take for ever.
        listed = {name: _values(dimension) for name, dimension in space.items()}
        sampler = ParameterSampler(listed, int(size) if idle else n_trials, random_state=seed)
        yield from (_plain(values) for values in sampler)
        return
    state = np.random.RandomState(seed)
    drawn = {name: _distribution(dimension) for name, dimension in space.items()}
    while True:
        (sample,) = ParameterSampler(drawn, 1, random_state=state)
        yield {name: _inside(space[name], value) for name, value in _plain(sample).items()}


def _values(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, Categorical):
        return list(dimension.choices)
    return list(range(int(dimension.low), int(dimension.high) + 1))


def _distribution(dimension: Dimension) -> Any:
    if isinstance(dimension, Categorical):
        return list(dimension.choices)
    low, high = dimension.low, dimension.high
    if dimension.log:
        # Half a step more on both sides gives the outermost whole numbers their full share.
        return stats.loguniform(low - 0.5, high + 0.5) if dimension.whole else stats.loguniform(low, high)
    return stats.randint(low, high + 1) if dimension.whole else stats.uniform(low, high - low)


def _inside(dimension: Dimension, value: Any) -> Any:
    if not isinstance(dimension, Interval):
        return value
    # Floating point may put an end point one unit outside.
    inside = min(max(value, dimension.low), dimension.high)
    return round(inside) if dimension.whole else float(inside)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def make_searcher(plan: SearchPlan, study: StudyRecord) -> Searcher:
    """The searcher of a plan; `study` is where Optuna keeps its own.

    Raises:
        SearchError: a grid has no points, or the study cannot be opened or resumed.
    """
    if plan.method == "none":
        return FixedSearcher(plan.fixed)
    if plan.method == "grid":
        return GridSearcher(plan.fixed, plan.space, plan.pruning)
    if plan.method == "random":
        return RandomSearcher(plan.fixed, plan.space, plan.n_iter, plan.seed, plan.pruning)
    # Optuna takes a third of a second to import.
    from pcc_pipeline.search.optuna_searcher import OptunaSearcher
    from pcc_pipeline.search.optuna_storage import StudyPlace

    identity = {
        **study.depends_on,
        "family": plan.family,
        "search_space": repr(sorted(plan.space.items())),
        "hyperparameters": json.dumps(dict(plan.fixed), sort_keys=True, default=str),
    }
    place = StudyPlace.of(study.storage, study.name, study.directory)
    if study.participant is None or not place.takes_several:
        return OptunaSearcher(place, identity, plan)
    from pcc_pipeline.search.shared_study.searcher import SharedOptunaSearcher

    return SharedOptunaSearcher(place, identity, plan, study.participant)
