"""An Optuna study in PostgreSQL that several runs search at once, under one budget, to one end.

A candidate is claimed under the study's lock, with a place in the search that no other has: its random state is made
of that, so no two machines draw the same. Of all candidates that were told or are under way with a living run there
are never more than the budget. What a dead run had under way is failed, and its values run again elsewhere.
"""

# ruff: noqa: TID253 # as optuna_searcher.py
from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from sqlalchemy.exc import DBAPIError

from pcc_pipeline import interruption
from pcc_pipeline.errors import SearchError
from pcc_pipeline.search.optuna_searcher import CLAIM, OptunaSearcher, differences, has_counted, requeued_of
from pcc_pipeline.search.optuna_storage import OwnedStorage, StudyPlace, open_storage, storage_errors
from pcc_pipeline.search.plan import Participant, SearchPlan
from pcc_pipeline.search.shared_study.conclusion import ConcludedElsewhereError, Conclusion
from pcc_pipeline.search.shared_study.workers import Alone, Peer, Workers
from pcc_pipeline.search.trials import Candidate, Trial
from pcc_pipeline.waiting import jittered

_LOOK_SECONDS = 1.0
_TRIES = 3
# What the study keeps of its end: who was to conclude it last, and who did.
_CONCLUDING, _CONCLUDED, _SEVERAL = "concluding", "concluded", "several_runs"

logger = logging.getLogger("pcc_pipeline.search")


class SharedOptunaSearcher(OptunaSearcher):
    """As OptunaSearcher, and other runs may search the study at the same time.

    Raises:
        SearchError: living runs search it with other settings.
    """

    def __init__(self, place: StudyPlace, identity: dict[str, str], plan: SearchPlan, participant: Participant) -> None:
        assert place.url is not None, "a study that several runs search lies in a database"
        self._participant = participant
        self._workers = Workers(place.url, place.study_name, participant)
        self._began = 0.0
        self._ended_elsewhere: dict[int, Trial] = {}
        self._tried: set[int] = set()
        self._left_by: str | None = None
        self.shared = self
        super().__init__(place, identity, plan)

    def _open_storage(self) -> OwnedStorage:
        return open_storage(self._place, shared=True)

    def _enter(self, identity: dict[str, str]) -> None:
        self._workers.make_table()
        with self._workers.alone() as alone:
            peers = alone.peers()
            self._agree(peers)
            self._identify(identity)
            self._began = alone.now() - self._participant.age
            alone.enter()
            self._look(peers, first=not peers)
            if peers:
                self._study.set_user_attr(_SEVERAL, True)
                logger.info("study %s: %d other runs search it, too", self.study_name, len(peers))
        self._finished = self.finished()
        self._workers.begin_to_beat()

    def _agree(self, peers: Sequence[Peer]) -> None:
        for peer in peers:
            if differing := differences(peer.settings, self._participant.settings):
                raise SearchError(
                    f"the study {self._place.study_name!r} is being searched by run {peer.run_id} with other data or "
                    f"settings: {differing}",
                    where=str(self._place),
                    fix="start all runs of a study with the same options, data and libraries, or give another "
                    "search.study_name",
                )

    def finished(self) -> tuple[Trial, ...]:
        return tuple(self._ended_elsewhere.values())

    def ask(self) -> Candidate | None:
        with storage_errors(self._place):
            for again in reversed(range(_TRIES)):
                try:
                    return self._claim()
                except (UpdateFinishedTrialError, DBAPIError) as error:
                    # This process stood still under the lock, and lost that: whatever it had asked for is void.
                    lost = isinstance(error, UpdateFinishedTrialError) or error.connection_invalidated
                    if not lost or not again:
                        raise
                    logger.debug("a claim was lost: %s", type(error).__name__)
        raise AssertionError("the last try returns or raises")

    def _claim(self) -> Candidate | None:
        claimed: optuna.Trial | None = None
        try:
            with self._workers.alone() as alone:
                counted = self._look(alone.peers())
                if len(counted) >= self.n_trials:
                    return None
                place = _free_place(counted)
                trial = self._drawn(place)
                # Whoever holds the lock fails a running trial without a claim. So where the lock was held until here,
                # this trial is within the budget; and where it is lost before the claim is written, that is refused.
                alone.demand_lock()
                trial.set_user_attr(CLAIM, (self._workers.worker, place))
                claimed = trial
        except DBAPIError:
            if claimed is None:
                raise
        assert claimed is not None, "it is claimed, or there is an error"
        return self._opened(claimed)

    def report(self, number: int, fold: int, score: float) -> bool:
        try:
            return super().report(number, fold, score)
        except UpdateFinishedTrialError:
            return True  # it is another's now: no more work on it

    def tell(self, trial: Trial) -> bool:
        try:
            super().tell(trial)
        except (UpdateFinishedTrialError, ValueError):
            if self._study.get_trials(deepcopy=False)[trial.number].state == OptunaState.RUNNING:
                raise
            logger.warning(
                "this run was not heard of for so long that it was taken for dead: trial %d is tried again by another",
                trial.number,
            )
            return False
        self._tried.add(trial.number)
        return True

    def await_others(self, *, willing: bool) -> bool:
        said = -1
        while True:
            with self._looking() as alone:
                peers = alone.peers()
                counted = self._look(peers)
                running = sum(trial.state == OptunaState.RUNNING for trial in counted)
                if (concluded := self._concluded(counted, running)) is not None:
                    raise ConcludedElsewhereError(concluded, self.tried)
                if willing and len(counted) < self.n_trials:
                    alone.set_state("searching")
                    return True
                states = {peer.state for peer in peers}
                done = not running and (len(counted) >= self.n_trials or "searching" not in states)
                if done and "concluding" not in states:
                    self._take_the_end(alone)
                    return False
                alone.set_state("waiting")
            if running != said:
                what = f"candidates under way: {running}" if running else "the model is being fitted"
                logger.info("nothing is left to try here, and this run waits for other machines; %s", what)
                said = running
            interruption.sleep(jittered(_LOOK_SECONDS))

    @property
    def tried(self) -> int:
        return len(self._tried)

    @property
    def left_by(self) -> str | None:
        return self._left_by

    def demand_turn(self) -> None:
        with self._looking() as alone:
            state = alone.own_state()
        if state != "concluding":
            raise SearchError(
                "this run was not heard of for so long that it was taken for dead: another one concludes the study",
                where=str(self._place),
                fix="nothing is lost: see which version that run registers",
            )

    def conclude(self, run_id: str, version: str) -> Conclusion:
        with self._looking() as alone:
            trials = len(self._counted())
            record = {"run": run_id, "version": version, "trials": trials, "at": alone.now()}
            self._study.set_user_attr(_CONCLUDED, {**record, "settings": self._settings})
        return Conclusion(run_id, version, trials)

    def close(self) -> None:
        self._workers.leave()
        super().close()

    @contextmanager
    def _looking(self) -> Iterator[Alone]:
        with storage_errors(self._place), self._workers.alone() as alone:
            yield alone

    def _look(self, peers: Sequence[Peer], first: bool = False) -> list[FrozenTrial]:
        """Take up what the dead left; the trials that fill the budget: those that ended, and those under way."""
        living = {self._workers.worker, *(peer.worker for peer in peers)}
        self._requeue_lost(self._trials(), living, workers_too=first)
        counted = self._counted()
        for trial in counted:
            ended = trial.state != OptunaState.RUNNING
            if ended and trial.number not in self._tried and trial.number not in self._ended_elsewhere:
                self._ended_elsewhere[trial.number] = self._trial_of(trial)
        return counted

    def _counted(self) -> list[FrozenTrial]:
        trials = self._trials()
        requeued = requeued_of(trials)
        return [trial for trial in trials if trial.state == OptunaState.RUNNING or has_counted(trial, requeued)]

    def _take_the_end(self, alone: Alone) -> None:
        before = self._study.user_attrs.get(_CONCLUDING)
        self._left_by = before if before != self._participant.run_id else None
        self._study.set_user_attr(_CONCLUDING, self._participant.run_id)
        alone.set_state("concluding")

    def _concluded(self, counted: Sequence[FrozenTrial], running: int) -> Conclusion | None:
        """How the study ended, if it has, and this run had a share in it.

        One that comes to a study that one run alone searched and concluded before, concludes it anew, as with any
        other storage. Where several did, a machine that comes late is one of them, unless there is more to try.
        """
        attributes = self._study.user_attrs
        known = attributes.get(_CONCLUDED)
        if known is None or running or len(counted) > known["trials"] or known["settings"] != self._settings:
            return None
        late = known["at"] < self._began
        if late and (not attributes.get(_SEVERAL) or len(counted) < self.n_trials):
            return None
        return Conclusion(known["run"], known["version"], known["trials"])

    @property
    def _settings(self) -> str:
        text = json.dumps(dict(self._participant.settings), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _free_place(counted: Sequence[FrozenTrial]) -> int:
    """The first place in the search that no trial has; trials of an earlier release say none, and have the first."""
    taken = {trial.user_attrs[CLAIM][1] for trial in counted if CLAIM in trial.user_attrs}
    unplaced = sum(CLAIM not in trial.user_attrs for trial in counted)
    return next(islice((place for place in count() if place not in taken), unplaced, None))
