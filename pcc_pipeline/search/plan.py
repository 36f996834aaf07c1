"""What a search is asked to do, before anything of it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pcc_pipeline.config import Params
from pcc_pipeline.config.schema import SearchMethod
from pcc_pipeline.search.spaces import Space, space_of
from pcc_pipeline.search.trials import Scores

# (hyperparameters, fold) -> the fold's scores
Objective = Callable[[dict[str, Any], int], Scores]


@dataclass(frozen=True)
class SearchPlan:
    """Which candidates a search tries.

    Attributes:
        family: whose hyperparameters are searched, as in `model.type`.
        fixed: hyperparameters that are not searched; searched values are laid over them.
        space: hyperparameter -> values that may be tried; without effect for method none. Empty where all that the
            family's own space has is fixed: there is one candidate then.
        n_iter: how many candidates random and optuna try.
        sampler: Optuna's, as in `search.sampler`.
        pruning: whether a trial may be stopped between folds.
    """

    method: SearchMethod
    family: str
    space: Space
    fixed: Mapping[str, Any] = field(default_factory=dict)
    n_iter: int = 1
    seed: int = 0
    sampler: str = "tpe"
    pruning: bool = False

    @classmethod
    def of(cls, params: Params) -> SearchPlan:
        """The plan of params.yaml.

        Raises:
            SearchError: the space has faults.
        """
        model, search = params.model, params.search
        searches = model.search_method != "none"
        space = space_of(model.type, model.search_space, model.hyperparameters) if searches else {}
        return cls(
            method=model.search_method,
            family=model.type,
            space=space,
            fixed=model.fixed,
            n_iter=model.n_iter if space else 1,
            seed=params.data.random_state,
            sampler=search.sampler,
            pruning=search.pruning,
        )


@dataclass(frozen=True)
class Participant:
    """This run as one of those that may search a study together.

    Attributes:
        run_id: MLflow's.
        age: seconds since the run began: what was concluded since then it had a share in.
        settings: option -> text of what all of them must agree on beside what scores depend on, since any of them may
            fit the model.
    """

    run_id: str
    age: float
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRecord:
    """Where an Optuna study is kept, and what its scores depend on.

    Attributes:
        name: unique, or the study of that name resumes.
        directory: where its journal lies if `storage` is None.
        depends_on: data digest, scoring, folds and so on, as text; the plan's own parts are added. A stored study
            resumes only where all of it is the same.
        storage: as in `search.storage`.
        participant: who this run is to others that search the study at the same time, where its storage lets them in;
            None: it is for this run alone.
    """

    name: str
    directory: Path
    depends_on: Mapping[str, str]
    storage: str | None = None
    participant: Participant | None = None


@dataclass(frozen=True)
class Scoring:
    """How a candidate is scored.

    Attributes:
        objective: (hyperparameters, fold 0..n_folds-1) -> scores; picklable by cloudpickle where there are workers.
        number_of: a fold's scores -> the number to make great.
        name: of that number, for messages.
    """

    objective: Objective
    n_folds: int
    number_of: Callable[[Scores], float]
    name: str = "score"

    def __post_init__(self) -> None:
        if self.n_folds < 1:
            raise ValueError(f"expected at least one fold, got {self.n_folds}")


class MeasuringPool(Protocol):
    """Measures candidates on folds, at most `n_jobs` at a time."""

    n_jobs: int

    @property
    def has_room(self) -> bool:
        """Whether `submit` would start a measurement now."""
        ...

    def submit(self, task: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Start `task(objective, hyperparameters, fold)`; its future raises what it raised, or WorkerDied."""
        ...
