"""`search_method: optuna`: an Optuna study by ask and tell, which survives its process.

Every candidate is drawn with a random state of its own, made of the seed and its place in the search, so that a study
killed and resumed goes on as if nothing had been. Import this module only where a search uses Optuna.
"""

# ruff: noqa: TID253 # what it bans is imported by searchers.py for method optuna alone, by way of this module
from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Container, Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, TPESampler
from optuna.trial import FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from pcc_pipeline.errors import SearchError
from pcc_pipeline.search.optuna_storage import OwnedStorage, StudyPlace, damaged, open_storage, storage_errors
from pcc_pipeline.search.plan import SearchPlan
from pcc_pipeline.search.pruning import FOLDS_FIRST, TRIALS_FIRST
from pcc_pipeline.search.shared_study.conclusion import SharedStudy
from pcc_pipeline.search.spaces import Categorical, Dimension, Interval
from pcc_pipeline.search.trials import WORKER_DIED, Candidate, Trial, TrialState

_INTERRUPTED = "interrupted"
# Set on a trial that is taken from its run, before it is failed; its run never touches this one.
_TAKEN = "taken"
# Whose a running trial is, and its place in the search; of a study that several runs search.
CLAIM = "claim"
# What a study that an earlier release made says nothing of.
_LATER_KEYS = ("encoder_digest", "balanced_by", "model.solver_exact")
_STATES: dict[OptunaState, TrialState] = {
    OptunaState.COMPLETE: "complete",
    OptunaState.FAIL: "failed",
    OptunaState.PRUNED: "pruned",
}


class _QuasiRandom(QMCSampler):
    """Scrambled Sobol points over the whole space from the first trial on: Optuna's own waits for a result first."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False)
        self._whole_space = {name: dimension for name, dimension in space.items() if not dimension.single()}

    def infer_relative_search_space(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
    ) -> dict[str, BaseDistribution]:
        # A trial that is run again brings its values along and must not use up a point.
        return {} if "fixed_params" in trial.system_attrs else dict(self._whole_space)


class OptunaSearcher:
    """A study, new or resumed.

    Args:
        identity: what scores depend on; kept with the study, which resumes only where it is the same.
        plan: `n_iter` are trials in all, those of a resumed study included. `sampler` is tpe (multivariate, as Optuna 5
            does by itself: C and solver depend on each other), gp or qmc. `pruning` stops a trial whose mean so far is
            below the median of the others' at the same fold; the first five trials run whole, and every trial its first
            two folds: one fold alone says too little.

    Trials that a killed process left running are failed as "interrupted". They do not count, nor do those that failed
    because their worker was killed; the values of both run first.

    Raises:
        SearchError: the study belongs to another process or to other data or settings, or cannot be opened.
    """

    shared: SharedStudy | None = None

    def __init__(self, place: StudyPlace, identity: Mapping[str, str], plan: SearchPlan) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study_name: str | None = place.study_name
        self.adaptive, self.prunes = plan.sampler != "qmc", plan.pruning
        self._place, self._plan = place, plan
        self._distributions = {name: _distribution(dimension) for name, dimension in plan.space.items()}
        self._open: dict[int, optuna.Trial] = {}
        self._reported: dict[int, list[float]] = {}
        self._owned = self._open_storage()
        try:
            with storage_errors(place):
                self._study = optuna.create_study(
                    storage=self._owned.storage,
                    study_name=place.study_name,
                    direction="maximize",
                    load_if_exists=True,
                    pruner=_pruner(plan.pruning),
                )
                self._enter(dict(identity))
        except BaseException as error:  # whatever ends it, an interruption too, the study must not stay owned
            self.close()
            # What was stored is taken as it is, by Optuna too; where it is damaged, any of these comes of it.
            if isinstance(error, AssertionError | AttributeError | LookupError | TypeError | ValueError | RuntimeError):
                raise damaged(place) from error
            raise
        self.n_trials = max(plan.n_iter, len(self._finished))
        self._proposed = 0

    def _open_storage(self) -> OwnedStorage:
        return open_storage(self._place)

    def _enter(self, identity: dict[str, str]) -> None:
        """See that the study is this search's, and take up what others left."""
        self._identify(identity)
        self._requeue_lost(self._trials())
        requeued = requeued_of(trials := self._trials())
        self._finished = tuple(self._trial_of(trial) for trial in trials if has_counted(trial, requeued))

    def finished(self) -> tuple[Trial, ...]:
        return self._finished

    def ask(self) -> Candidate | None:
        place_in_search = len(self._finished) + self._proposed
        if place_in_search >= self.n_trials:
            return None
        self._proposed += 1
        with storage_errors(self._place):
            return self._opened(self._drawn(place_in_search))

    def _drawn(self, place_in_search: int) -> optuna.Trial:
        self._study.sampler = self._sampler(place_in_search)
        return self._study.ask(self._distributions)

    def _opened(self, trial: optuna.Trial) -> Candidate:
        self._open[trial.number] = trial
        return Candidate(trial.number, self._hyperparameters(trial.params))

    def report(self, number: int, fold: int, score: float) -> bool:
        if not self.prunes:
            return False
        so_far = self._reported.setdefault(number, [])
        so_far.append(score)
        with storage_errors(self._place):
            # The mean so far, not the fold's: it is nearer to the score that the trial will have.
            self._open[number].report(statistics.fmean(so_far), fold)
            return self._open[number].should_prune()

    def tell(self, trial: Trial) -> bool:
        mine = self._open.pop(trial.number)
        self._reported.pop(trial.number, None)
        state = next(theirs for theirs, ours in _STATES.items() if ours == trial.state)
        with storage_errors(self._place):
            mine.set_user_attr("fold_scores", json.dumps(trial.fold_scores))
            mine.set_user_attr("std", trial.std)
            mine.set_user_attr("seconds", trial.seconds)
            mine.set_user_attr("started_at", trial.started_at)
            mine.set_user_attr("reason", trial.reason)
            self._study.tell(mine, trial.score, state)
        return True

    def importances(self) -> dict[str, float] | None:
        """By functional ANOVA over a random forest (Hutter, Hoos and Leyton-Brown, ICML 2014).

        Optuna's default, PED-ANOVA, looks at the best tenth of trials: two, in a search of usual length.
        """
        with storage_errors(self._place):
            trials = self._study.get_trials(deepcopy=False, states=(OptunaState.COMPLETE,))
        # A foreign trial may lack a value.
        trials = [trial for trial in trials if trial.params.keys() >= self._plan.space.keys()]
        varied = [name for name in self._plan.space if len({trial.params[name] for trial in trials}) > 1]
        if not varied or len({trial.value for trial in trials}) < 2:
            return None
        try:
            shares = get_param_importances(
                self._on_even_scales(trials), evaluator=FanovaImportanceEvaluator(seed=self._plan.seed), params=varied
            )
        except RuntimeError:
            # "Encountered zero total variance in all trees": the scores differ by too little for the forest.
            return None
        return {name: float(share) for name, share in shares.items()}

    def _on_even_scales(self, trials: list[FrozenTrial]) -> optuna.Study:
        """The trials in a study in memory, with logarithms in place of values searched on a logarithmic scale.

        Optuna's evaluator averages over the plain scale, where 99 hundredths of C from 0.01 to 100 lie above 1.
        """
        even, scales = optuna.create_study(direction="maximize"), dict(self._distributions)
        logarithmic = {name: at for name, at in self._plan.space.items() if isinstance(at, Interval) and at.log}
        for name, at in logarithmic.items():
            scales[name] = FloatDistribution(math.log(at.low), math.log(at.high))
        for trial in trials:
            values = {name: trial.params[name] for name in scales}
            values |= {name: math.log(values[name]) for name in logarithmic}
            even.add_trial(create_trial(params=values, distributions=scales, value=trial.value))
        return even

    def close(self) -> None:
        self._owned.release()

    def _identify(self, identity: dict[str, str]) -> None:
        known = self._study.user_attrs.get("identity")
        if known is None and not self._trials():
            self._study.set_user_attr("identity", identity)
            return
        known = known or {}
        differing = differences(known, {name: identity[name] for name in identity if _is_told(name, known)})
        if not differing:
            return
        raise SearchError(
            f"the study {self._place.study_name!r} was made with other data or settings: {differing}",
            where=str(self._place),
            fix="give another search.study_name to start anew, or go back to what the study was made with",
        )

    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _requeue_lost(self, trials: list[FrozenTrial], living: Container[str] = (), workers_too: bool = True) -> None:
        """Fail the trials of dead runs, and queue their values to run again.

        Args:
            living: the runs, as `CLAIM` names them, whose trials are theirs.
            workers_too: those that were lost with a worker process run again as well.
        """
        requeued = requeued_of(trials)
        for trial in trials:
            if trial.state == OptunaState.RUNNING:
                claimed_by, _ = trial.user_attrs.get(CLAIM, ("", 0))
                # One that was told at that very moment has ended after all.
                lost = claimed_by not in living and self._take(trial)
            else:
                lost = _is_lost(trial) or (workers_too and trial.user_attrs.get("reason") == WORKER_DIED)
            values = trial.system_attrs.get("fixed_params") or trial.params
            # Killed amid the asking: nothing of it is known but that the next trial takes its place.
            if lost and values.keys() >= self._plan.space.keys() and trial.number not in requeued:
                # Failed first, queued second: so none is tried again that its run told in between, and one that a kill
                # leaves unqueued is seen the next time.
                self._study.enqueue_trial(values, user_attrs={"runs_again": trial.number})

    def _take(self, trial: FrozenTrial) -> bool:
        storage = self._owned.storage
        study = storage.get_study_id_from_name(self._study.study_name)
        number = storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        try:
            storage.set_trial_user_attr(number, _TAKEN, True)
            storage.set_trial_user_attr(number, "reason", _INTERRUPTED)
            return storage.set_trial_state_values(number, OptunaState.FAIL)
        except UpdateFinishedTrialError:
            return False

    def _trial_of(self, trial: FrozenTrial) -> Trial:
        attributes, complete = trial.user_attrs, trial.state == OptunaState.COMPLETE
        return Trial(
            number=trial.number,
            hyperparameters=self._hyperparameters(trial.params),
            state=_STATES[trial.state],
            fold_scores=tuple(json.loads(attributes.get("fold_scores", "[]"))),
            score=trial.value if complete else None,
            std=attributes.get("std"),
            seconds=attributes.get("seconds", 0.0),
            reason=attributes.get("reason", ""),
            started_at=attributes.get("started_at", 0.0),
            resumed=True,
        )

    def _hyperparameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **self._plan.fixed,
            **{name: _original(self._plan.space[name], value) for name, value in values.items()},
        }

    def _sampler(self, place_in_search: int) -> BaseSampler:
        # Samplers hold no state of importance but their random one: a new one for each candidate costs nothing.
        seed = int(np.random.SeedSequence([self._plan.seed, place_in_search]).generate_state(1)[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            if self._plan.sampler == "qmc":
                return _QuasiRandom(self._distributions, self._plan.seed)
            if self._plan.sampler == "gp":
                return GPSampler(seed=seed, warn_independent_sampling=False)
            return TPESampler(seed=seed)


def differences(known: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What was so and is otherwise now, in words; empty where nothing is."""
    return "; ".join(
        f"{name} was {known.get(name, 'unknown')}, is {now.get(name, 'unknown')}"
        for name in dict.fromkeys((*now, *known))
        if known.get(name) != now.get(name)
    )


def has_counted(trial: FrozenTrial, requeued: Container[int]) -> bool:
    """Whether a trial is one of those that the search was to try: it ended, and not with its run.

    One that ended with a worker process counts until it is tried again.
    """
    if trial.state not in _STATES or _is_lost(trial):
        return False
    return trial.user_attrs.get("reason") != WORKER_DIED or trial.number not in requeued


def requeued_of(trials: Iterable[FrozenTrial]) -> set[int]:
    """The numbers of the trials whose values were queued to run again."""
    return {trial.user_attrs["runs_again"] for trial in trials if "runs_again" in trial.user_attrs}


def _is_lost(trial: FrozenTrial) -> bool:
    attributes = trial.user_attrs
    return trial.state == OptunaState.FAIL and (_TAKEN in attributes or attributes.get("reason") == _INTERRUPTED)


def _is_told(name: str, known: Mapping[str, str]) -> bool:
    return name in known or name not in _LATER_KEYS


def _pruner(pruning: bool) -> BasePruner:
    return MedianPruner(n_startup_trials=TRIALS_FIRST, n_warmup_steps=FOLDS_FIRST - 1) if pruning else NopPruner()


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Categorical):
        return CategoricalDistribution([_primitive(dimension, choice) for choice in dimension.choices])
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _primitive(dimension: Categorical, choice: Any) -> Any:
    # Optuna takes no lists, and cannot tell 1 from true: such choices go by their JSON.
    return choice if all(isinstance(each, str) for each in dimension.choices) else json.dumps(choice)


def _original(dimension: Dimension, value: Any) -> Any:
    if not isinstance(dimension, Categorical):
        return value
    return next(choice for choice in dimension.choices if _primitive(dimension, choice) == value)
