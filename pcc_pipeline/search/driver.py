"""Runs a search: keeps the workers busy with folds of candidates and turns the results into trials."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from pcc_pipeline.errors import SearchError
from pcc_pipeline.search.measuring import Measured, measure
from pcc_pipeline.search.plan import MeasuringPool, Scoring
from pcc_pipeline.search.pools.workers import WorkerDied
from pcc_pipeline.search.progress import Progress
from pcc_pipeline.search.searchers import Searcher
from pcc_pipeline.search.trials import WORKER_DIED, Candidate, SearchOutcome, Trial, TrialState, best_of


def run_search(
    searcher: Searcher,
    scoring: Scoring,
    pool: MeasuringPool,
    timeout: float | None,
    on_trial: Callable[[Trial], None],
) -> SearchOutcome:
    """Try every candidate of the searcher on every fold.

    Args:
        timeout: seconds after which no new candidate starts; those begun are finished. None: no end.
        on_trial: called in this process with each new trial once the searcher knows it; not with those of others.

    An objective that raises or gives a score that is not finite fails its trial and no other. The outcome depends on
    neither timing nor, unless the searcher is adaptive, the number of workers; pruning and timeout make it do so. The
    caller closes the searcher and the pool.

    Raises:
        SearchError: no trial was completed; the reasons are counted.
        ConcludedElsewhereError: several runs searched the study, and another one has concluded it.
    """
    with Progress(searcher.n_trials, scoring.name, searcher.finished) as progress:
        run = _Run(searcher, scoring, pool, timeout, on_trial, progress)
        run.to_the_end()
    trials = tuple(sorted((*searcher.finished(), *run.trials), key=lambda trial: trial.number))
    # What one run of several left undone others may have done.
    late = run.stopped_by_timeout if searcher.shared is None else len(trials) < searcher.n_trials
    ended_by = timeout if late else None
    best = best_of(trials)
    if best is None:
        raise _nothing_completed(trials, ended_by)
    return SearchOutcome(trials, best, searcher.importances(), searcher.study_name, searcher.n_trials, ended_by)


@dataclass
class _Active:
    """A candidate under way; its folds start in order."""

    candidate: Candidate
    started_at: float = field(default_factory=time.time)
    next_fold: int = 0
    running: int = 0
    measured: dict[int, Measured] = field(default_factory=dict)
    pruned: str = ""

    def failed_at(self) -> int | None:
        return min((fold for fold, result in self.measured.items() if result.scores is None), default=None)


class _Run:
    def __init__(
        self,
        searcher: Searcher,
        scoring: Scoring,
        pool: MeasuringPool,
        timeout: float | None,
        on_trial: Callable[[Trial], None],
        progress: Progress,
    ) -> None:
        self._searcher, self._scoring, self._n_folds = searcher, scoring, scoring.n_folds
        self._pool, self._on_trial, self._progress = pool, on_trial, progress
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._active: list[_Active] = []
        self._futures: dict[Future[Measured], tuple[_Active, int]] = {}
        # An adaptive searcher hears of trials in their numbers' order: these have ended and wait for a lower one.
        self._waiting: dict[int, Trial] = {}
        self._order: list[int] = []  # proposed and not ended
        self._proposed, self._to_propose = 0, searcher.n_trials - len(searcher.finished())
        self._exhausted = False
        self.trials: list[Trial] = []
        self.stopped_by_timeout = False

    def to_the_end(self) -> None:
        self._try_all()
        while self._searcher.shared and self._searcher.shared.await_others(willing=not self._is_late):
            self._exhausted = False
            self._try_all()

    def _try_all(self) -> None:
        self._ask_ahead()
        while self._active:
            while self._pool.has_room and (active := self._next()):
                self._start_fold(active)
            for future in wait(self._futures, return_when=FIRST_COMPLETED).done:
                self._collect(future)

    def _next(self) -> _Active | None:
        """Whose fold to start: a candidate that stands still, or another fold of one under way."""
        startable = [active for active in self._active if self._has_fold_to_start(active)]
        still = [active for active in startable if not active.running]
        return next(iter(still or ([] if self._searcher.prunes else startable)), None)

    def _has_fold_to_start(self, active: _Active) -> bool:
        return active.next_fold < self._n_folds and active.failed_at() is None

    def _ask_ahead(self) -> None:
        """Ask until as many candidates as workers are proposed and not ended.

        Done at once after each end, whether a worker is free or not: what an adaptive searcher knows when it
        proposes candidate t is then trials 0 to t - n_jobs, and nothing that hangs on timing.
        """
        while not self._exhausted and len(self._order) < self._pool.n_jobs:
            if self._is_late:
                self._exhausted, self.stopped_by_timeout = True, self._proposed < self._to_propose
            elif candidate := self._searcher.ask():
                self._proposed += 1
                self._order.append(candidate.number)
                self._active.append(_Active(candidate))
            else:
                self._exhausted = True

    @property
    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _start_fold(self, active: _Active) -> None:
        fold = active.next_fold
        active.next_fold += 1
        active.running += 1
        future = self._pool.submit(measure, self._scoring.objective, active.candidate.hyperparameters, fold)
        self._futures[future] = (active, fold)

    def _collect(self, future: Future[Measured]) -> None:
        active, fold = self._futures.pop(future)
        active.running -= 1
        try:
            measured = future.result()
        except WorkerDied:
            measured = Measured(None, WORKER_DIED, 0.0)
        active.measured[fold] = measured = self._checked(measured, fold)
        if measured.scores is not None and self._searcher.prunes:
            score = self._scoring.number_of(measured.scores)
            prune = self._searcher.report(active.candidate.number, fold, score)
            if prune and fold + 1 < self._n_folds:
                active.pruned = f"pruned after fold {fold + 1} of {self._n_folds}"
        # A failure waits for the folds already under way: the reason is then the lowest fold's, whatever the timing.
        if not active.running and (active.pruned or not self._has_fold_to_start(active)):
            self._active.remove(active)
            self._end(self._trial_of(active))

    def _checked(self, measured: Measured, fold: int) -> Measured:
        if measured.scores is None or math.isfinite(self._scoring.number_of(measured.scores)):
            return measured
        reason = f"score is not a number: {self._scoring.name} cannot be measured on fold {fold}"
        return Measured(None, reason, measured.seconds)

    def _trial_of(self, active: _Active) -> Trial:
        failed = active.failed_at()
        whole = range(self._n_folds if failed is None else failed)
        fold_scores = tuple(
            result.scores for fold in whole if (result := active.measured.get(fold)) and result.scores is not None
        )
        state: TrialState = "complete"
        score = std = None
        if failed is not None:
            state = "failed"
        elif active.pruned:
            state = "pruned"
        else:
            by_fold = [self._scoring.number_of(scores) for scores in fold_scores]
            score, std = statistics.fmean(by_fold), statistics.stdev(by_fold) if len(by_fold) > 1 else None
        return Trial(
            number=active.candidate.number,
            hyperparameters=active.candidate.hyperparameters,
            state=state,
            fold_scores=fold_scores,
            score=score,
            std=std,
            seconds=sum(result.seconds for result in active.measured.values()),
            reason=active.pruned if failed is None else active.measured[failed].reason,
            started_at=active.started_at,
        )

    def _end(self, trial: Trial) -> None:
        self._progress.show(trial)
        self._waiting[trial.number] = trial
        while self._waiting:
            number = self._order[0] if self._searcher.adaptive else next(iter(self._waiting))
            if number not in self._waiting:
                return
            self._order.remove(number)
            ended = self._waiting.pop(number)
            if self._searcher.tell(ended):
                self.trials.append(ended)
                self._on_trial(ended)
            self._ask_ahead()


def _nothing_completed(trials: tuple[Trial, ...], timeout: float | None) -> SearchError:
    failed = [trial for trial in trials if trial.state == "failed"]
    counted = "; ".join(f"{count} x {reason}" for reason, count in Counter(t.reason for t in failed).most_common())
    if timeout is not None and not failed:
        return SearchError(
            f"no trial was completed within search.timeout of {timeout:g} s",
            where="search.timeout",
            fix="raise search.timeout or set it to null",
        )
    if not trials:
        return SearchError("the search has no candidate to try", where="model.search_space")
    what = f"None of {len(trials)} trials was completed; {len(failed)} failed"
    if 2 * sum(trial.reason == WORKER_DIED for trial in failed) > len(failed):
        return SearchError(
            f"{what}: {counted}.",
            where="search.n_jobs",
            fix="lower search.n_jobs (1 works without worker processes), or give the process more memory",
        )
    return SearchError(
        f"{what}: {counted}." if counted else f"{what}.",
        where="model.search_space and model.hyperparameters",
        fix="mend the cause, or narrow the search space to values that work",
    )
