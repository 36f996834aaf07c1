"""The search of a training run: folds prepared once, candidates scored on them, trials logged as they end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.quality.counts import class_counts
from pcc_pipeline.data.splits import cross_validation_folds, stratified_sample
from pcc_pipeline.evaluation.metrics import objective, scores
from pcc_pipeline.model.balance import rows_once_balanced
from pcc_pipeline.model.calibration import HeldScores
from pcc_pipeline.model.families import FAMILIES, complete
from pcc_pipeline.model.fitting import Recipe, Rows
from pcc_pipeline.model.folds import FoldObjective, let_go, prepare_fold
from pcc_pipeline.model.selection import METHODS, without_idle
from pcc_pipeline.search.driver import run_search
from pcc_pipeline.search.libraries import library_versions
from pcc_pipeline.search.plan import Participant, Scoring, SearchPlan, StudyRecord
from pcc_pipeline.search.pools.dask_pool import measuring_by
from pcc_pipeline.search.pools.workers import WorkerPool
from pcc_pipeline.search.searchers import Searcher, make_searcher
from pcc_pipeline.search.shared_study.conclusion import ConcludedElsewhereError, Conclusion, SharedStudy
from pcc_pipeline.search.trials import SearchOutcome
from pcc_pipeline.solvers.logistic import solver_of
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import scratch
from pcc_pipeline.tracking.delivery.operations import Registered
from pcc_pipeline.tracking.delivery.writer import KeptError
from pcc_pipeline.tracking.registry.versions import find_alias, set_alias, versions_of
from pcc_pipeline.tracking.runs import StepRun
from pcc_pipeline.tracking.trial_runs import TrialRuns

logger = logging.getLogger(__name__)

CHALLENGER = "challenger"
_ROWS_WORTH_WORKERS = 4000
_FASTER_ONLY = tuple(f"preprocessing.{name}" for name in ("cache_dir", "cache", "backend", "batch_size", "threads"))


def recipe_of(params: Params, labels: np.ndarray, learned: np.ndarray) -> Recipe:
    """How every candidate and the final model are fitted.

    Args:
        labels: of all training rows.
        learned: of all rows that the last fit learns from: those and, with `model.refit`, validation rows.
    """
    options = params.preprocessing
    imbalance = class_counts(list(labels)).imbalance
    model = params.model
    method = options.balance_for(imbalance)
    if method not in ("none", "class_weight") and _too_many_to_balance(model.in_memory_rows, learned):
        family = FAMILIES[model.type]
        method = "class_weight" if family.weighs_classes(complete(model.type, without_idle(model.fixed))) else "none"
    logger.info("largest class %.1f times the smallest: balancing by %s", imbalance, method)
    plan = SearchPlan.of(params)
    searched = plan.space.get("feature_selection")
    methods = {plan.fixed.get("feature_selection", "none")} if searched is None else set(searched.points)
    rankings = tuple(name for name in METHODS if name in methods)
    return Recipe(
        model.type,
        method,
        options.lexical,
        params.data.random_state,
        model.solver_exact,
        rankings,
        model.in_memory_rows,
    )


def _too_many_to_balance(most: int, labels: np.ndarray) -> bool:
    """Whether rows of these labels are too many for made ones beside them, which would have to be held in memory.

    Args:
        most: `model.in_memory_rows`: of more rows neighbours would have to be found among all of them. So many rows of
            two classes may become twice as many; of more classes, no more than that.
    """
    return len(labels) > most or rows_once_balanced(class_counts(list(labels)).counts.values()) > 2 * most


@dataclass(frozen=True)
class SearchRows:
    """What candidates are scored on.

    Attributes:
        train: the training rows, or a sample of them, with their labels as text.
        groups: of these rows, (n,): rows of one group stay in one fold.
        classes: the model's labels in order; `positive` is the index that binary scores are about.
        digests: of data, vectors that came with it, split and encoder, by name: part of what a stored study must match.
        places: of a sample, where its rows stand among the training rows, (n,).
    """

    train: Rows
    groups: np.ndarray
    classes: list[str]
    positive: int
    digests: Mapping[str, str]
    places: np.ndarray | None = None

    def sampled(self, most: int, seed: int) -> SearchRows:
        """The same, or a stratified sample of some `most` rows where there are more."""
        if len(self.train.texts) <= most:
            return self
        places = stratified_sample(self.train.labels, most, seed)
        return replace(self, train=self.train.take(places), groups=self.groups[places], places=places)

    @property
    def encoded(self) -> Rows:
        """The training rows with class indices for labels."""
        indices = np.searchsorted(np.asarray(self.classes, dtype=object), self.train.labels)
        return Rows(self.train.texts, self.train.vectors, indices)


@dataclass(frozen=True)
class Searched:
    """What this run is to fit.

    Attributes:
        held: the best candidate's scores of the rows that each fold held out, where they are needed.
        shared: of a study that other runs search, too: they wait until this one has registered the model.
    """

    outcome: SearchOutcome
    held: HeldScores | None
    shared: SharedStudy | None


@dataclass(frozen=True)
class SearchedElsewhere:
    """Another run of the study has fitted and registered the model. `tried`: how many candidates this run did."""

    study_name: str
    conclusion: Conclusion
    tried: int


@contextmanager
def search(
    rows: SearchRows, recipe: Recipe, params: Params, version: str, run: StepRun
) -> Iterator[Searched | SearchedElsewhere]:
    """Score candidates by cross-validation on the training rows alone; within, the study stays open.

    Args:
        version: names the study where params.yaml names none.

    Raises:
        SearchError: no candidate could be scored, or a stored study is another search's.
    """
    folds = _folds(rows, params)[: params.model.folds_used]
    study = StudyRecord(
        name=params.search.study_name or version,
        directory=Path(params.output.studies_dir),
        depends_on=study_identity(params, rows, recipe),
        storage=params.search.storage,
        participant=_participant(params, run) if params.search.study_name else None,
    )
    searcher = make_searcher(SearchPlan.of(params), study)
    with closing(searcher):
        result: Searched | SearchedElsewhere
        try:
            result = _searched(searcher, rows, folds, recipe, params, run)
        except ConcludedElsewhereError as ended:
            result = SearchedElsewhere(study.name, ended.conclusion, ended.tried)
        if isinstance(result, SearchedElsewhere) or result.shared is None:
            searcher.close()  # nothing of the study is needed any more
        yield result


def _searched(
    searcher: Searcher,
    rows: SearchRows,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    recipe: Recipe,
    params: Params,
    run: StepRun,
) -> Searched:
    model = params.model
    with (
        _prepared(rows, recipe, folds, params.search.n_jobs) as (scored, pool),
        measuring_by(params.compute, pool) as measuring,
        TrialRuns(run, model.scoring, partial(_solver, recipe, len(rows.classes))) as trial_runs,
    ):
        scoring = Scoring(scored, len(folds), partial(objective, scoring=model.scoring), model.scoring)
        outcome = run_search(searcher, scoring, measuring, params.search.timeout, trial_runs.log)
        if searcher.shared is not None:
            _demand_unregistered(searcher.shared, params)
        held = _held(rows, scored, folds, pool, outcome.best.hyperparameters) if params.needs_held_scores else None
        return Searched(outcome, held, searcher.shared)


def _demand_unregistered(shared: SharedStudy, params: Params) -> None:
    """See whether the run that was to conclude the study before this one had registered the model when it ended.

    Raises:
        ConcludedElsewhereError: it had, and that is on record now.
    """
    if shared.left_by is None:
        return
    name = params.registry.model_name
    for version in versions_of(name):
        if version.run_id == shared.left_by:
            standing = find_alias(name, CHALLENGER)
            if standing is None or int(str(standing.version)) < int(version.version):
                set_alias(name, CHALLENGER, str(version.version))  # which is the last thing that a registration does
            raise ConcludedElsewhereError(shared.conclude(shared.left_by, str(version.version)), shared.tried)


def register_once(shared: SharedStudy | None, run: StepRun, register: Callable[[], Registered]) -> Registered:
    """Register the model of a search; of a study that several runs searched, as the one that concludes it.

    Raises:
        SearchError: another run concludes it, as this one was taken for dead.
        KeptError, TrackingError: as `register`.
    """
    if shared is None:
        return register()
    shared.demand_turn()
    try:
        registered = register()
    except KeptError:
        # It is kept on this machine, whole, and the others need not make another one.
        shared.conclude(run.run_id, "")
        raise
    shared.conclude(run.run_id, registered.version)
    return registered


def held_scores(rows: SearchRows, recipe: Recipe, params: Params, hyperparameters: Mapping[str, Any]) -> HeldScores:
    """Scores of all training rows by models of the same kind that did not learn them, where no search made the folds.

    Raises:
        DataError: there are too few rows for the folds.
    """
    folds = _folds(rows, params)
    # Workers take seconds to start, in which this process fits a few folds of few rows.
    n_jobs = 1 if len(rows.train.texts) < _ROWS_WORTH_WORKERS else params.search.n_jobs
    with _prepared(rows, recipe, folds, n_jobs) as (scored, pool):
        return _held(rows, scored, folds, pool, hyperparameters)


def _folds(rows: SearchRows, params: Params) -> list[tuple[np.ndarray, np.ndarray]]:
    return cross_validation_folds(
        rows.train.labels, rows.groups, params.model.cv_folds, params.data.stratify, params.data.random_state
    )


@contextmanager
def _prepared(
    rows: SearchRows, recipe: Recipe, folds: Sequence[tuple[np.ndarray, np.ndarray]], n_jobs: int
) -> Iterator[tuple[FoldObjective, WorkerPool]]:
    with scratch() as folder, WorkerPool(n_jobs) as pool:
        scored = FoldObjective(folder, recipe, len(rows.classes), partial(scores, positive=rows.positive))
        logger.info("preparing %d folds of %s rows", len(folds), f"{len(rows.train.texts):,}")
        with pool.sharing(rows.encoded.hashed(recipe.lexical)) as encoded:
            pool.run_all(
                prepare_fold,
                [
                    (encoded, fit_rows, held, recipe, scored.fold_folder(number))
                    for number, (fit_rows, held) in enumerate(folds)
                ],
                "preparing the folds",
            )
        try:
            yield scored, pool
        finally:
            let_go()


def _held(
    rows: SearchRows,
    scored: FoldObjective,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    pool: WorkerPool,
    hyperparameters: Mapping[str, Any],
) -> HeldScores:
    chosen = complete(scored.recipe.family, hyperparameters)
    parts = pool.run_all(scored.held, [(chosen, number) for number in range(len(folds))], "calibrating")
    places = [held if rows.places is None else rows.places[held] for _, held in folds]
    return HeldScores.joined(parts, places)


def _solver(recipe: Recipe, n_classes: int, hyperparameters: Mapping[str, Any]) -> str:
    """The solver that a trial starts with; one that does not converge may hand over to another, fold by fold."""
    return solver_of(recipe.family, complete(recipe.family, hyperparameters), n_classes, recipe.exact)


def _participant(params: Params, run: StepRun) -> Participant:
    """This run, to others that search its study: libraries, and options of training that are not a machine's own."""
    own = (
        *("tracking.", "logging.", "output.", "lineage.", "search.n_jobs", "search.timeout", "search.storage"),
        *("compute.", "data.path", "data.test_path", "data.exclude", *_FASTER_ONLY),
    )
    settings = {name: value for name, value in used(params, "train").items() if not name.startswith(own)}
    return Participant(run.run_id, time.time() - run.started_at, {**settings, **library_versions()})


def study_identity(params: Params, rows: SearchRows, recipe: Recipe) -> dict[str, str]:
    """What must agree between a stored study and the search that resumes it, for their scores to compare."""
    split = ("data.test_size", "data.validation_size", "data.stratify", "data.random_state", "data.group_column")
    scored = ["model.cross_val", "model.cv_folds", "model.scoring", "model.solver_exact", "data.positive_label"]
    if rows.places is not None:
        scored.append("model.in_memory_rows")
    depends_on = {
        key: value
        for key, value in params.flat().items()
        if key in (*split, *scored) or (key.startswith("preprocessing.") and key not in _FASTER_ONLY)
    }
    # Not what was asked for: of many rows another method is taken, by an option that else makes nothing another.
    return {**rows.digests, **depends_on, "balanced_by": recipe.balance_method}
