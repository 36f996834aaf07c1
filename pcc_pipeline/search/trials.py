"""What a search tried and found: candidates, trials and the outcome."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from pcc_pipeline.model.folds import NOT_CONVERGED

TrialState = Literal["complete", "failed", "pruned"]
# Why a trial failed whose worker was killed: no fault of its candidate's.
WORKER_DIED = "the worker process died (out of memory?)"
Scores = dict[str, float]


@dataclass(frozen=True)
class Candidate:
    """Hyperparameters to try: the fixed ones with the searched ones laid over them."""

    number: int
    hyperparameters: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried.

    Attributes:
        number: the candidate's; ascending, and stable over a study's resumption. Gaps are trials that a kill cut off.
        fold_scores: every score of each fold that was measured, in fold order; fewer than all unless complete.
        score: mean over the folds of the chosen scoring, None unless complete.
        std: standard deviation over the folds as a sample (divided by folds - 1), None unless complete and over two
            folds or more.
        seconds: work of all folds added up, whether they ran side by side or not.
        reason: why it failed or was pruned, one line without customers' text; empty where complete.
        resumed: whether an earlier process did it.
        started_at: seconds since 1970, UTC.
    """

    number: int
    hyperparameters: dict[str, Any]
    state: TrialState
    fold_scores: tuple[Scores, ...]
    score: float | None
    std: float | None
    seconds: float
    reason: str
    started_at: float
    resumed: bool = False


@dataclass(frozen=True)
class SearchOutcome:
    """All trials in the order of their numbers, and the best of the complete ones (the lower number on a tie).

    Attributes:
        importances: searched hyperparameter -> share of the score's variance (adds up to 1); None where not known.
        planned: candidates that would have been tried but for the time limit.
        timeout: the time limit in seconds, where it ended the search before all were tried; else None.
    """

    trials: tuple[Trial, ...]
    best: Trial
    importances: dict[str, float] | None
    study_name: str | None
    planned: int
    timeout: float | None

    @property
    def counts(self) -> dict[str, int]:
        """State -> how many trials ended so; each state once."""
        return {state: sum(trial.state == state for trial in self.trials) for state in get_args(TrialState)}

    @property
    def constant(self) -> int:
        """Candidates that tell no two rows apart, so that each fold's area under the ROC curve is a half."""
        return sum(
            all(abs(fold.get("roc_auc", 1.0) - 0.5) < 1e-12 for fold in trial.fold_scores) for trial in self._whole
        )

    @property
    def not_converged(self) -> int:
        """Candidates that were compared as they were when the solver stopped, on some fold, before it converged."""
        return sum(any(NOT_CONVERGED in fold for fold in trial.fold_scores) for trial in self._whole)

    @property
    def _whole(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def workers_died(self) -> int:
        """Trials that were lost with their worker process."""
        return sum(trial.reason == WORKER_DIED for trial in self.trials)

    @property
    def summary(self) -> str:
        """What became of the candidates, in one line."""
        counted = ", ".join(f"{count:,} {state}" for state, count in self.counts.items() if count)
        constant = f"; {self.constant:,} of them scored a constant: the same for every row" if self.constant else ""
        early = f"; {self.not_converged:,} of them stopped before they converged" if self.not_converged else ""
        return f"{len(self.trials):,} candidates: {counted}{constant}{early}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why the best may not be: candidates that were not tried, or not to their end. One sentence each."""
        sentences = []
        if self.not_converged:
            sentences.append(
                f"{self.not_converged:,} of {len(self.trials):,} candidates stopped before they converged, and are "
                "compared as they were then; raise max_iter"
            )
        if self.workers_died:
            sentences.append(
                f"{self.workers_died:,} of {len(self.trials):,} candidates were lost as their worker processes were "
                f"killed (out of memory?), and the best was chosen among {self.counts['complete']:,}: lower "
                "search.n_jobs or give the process more memory, and train again"
            )
        if self.timeout is not None:
            sentences.append(
                f"search.timeout of {self.timeout:g} s ended the search after {len(self.trials):,} of {self.planned:,} "
                "candidates"
            )
        return tuple(sentences)

    def corrected_score(self, scoring_of: Callable[[Scores], float]) -> float | None:
        """What the winner's score is worth: each fold scored by the candidate that was best on the other folds.

        The best of many candidates' scores is too high, since chance helped it to win: on labels of chance it lies
        above chance. Here no fold's score takes part in the choice that it judges (Varma and Simon, "Bias in error
        estimation when using cross-validation for model selection", BMC Bioinformatics 7:91, 2006, over the folds that
        there are). None where nothing was chosen: one complete trial, or one fold.
        """
        folds = len(self.best.fold_scores)
        whole = [trial for trial in self.trials if trial.state == "complete" and len(trial.fold_scores) == folds]
        table = np.array([[scoring_of(fold) for fold in trial.fold_scores] for trial in whole])
        if len(whole) < 2 or folds < 2:
            return None
        others = table.sum(axis=1, keepdims=True) - table
        return float(table[others.argmax(axis=0), np.arange(folds)].mean())

    def frame(self, scoring_of: Callable[[Scores], float]) -> pd.DataFrame:
        """One row a trial, as `trials_frame`."""
        return trials_frame(self.trials, scoring_of)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The complete trial with the greatest score, the lower number on a tie; None if there is none."""
    scored = [(trial.score, -trial.number, trial) for trial in trials if trial.score is not None]
    return max(scored, key=lambda entry: entry[:2])[2] if scored else None


def trials_frame(trials: Sequence[Trial], scoring_of: Callable[[Scores], float]) -> pd.DataFrame:
    """One row a trial, with columns of one type each, so that it can be written to parquet.

    Columns: `number, state, score, std, seconds, reason, resumed, started_at` (timestamp, UTC), `fold_0`… (the
    scoring of each fold, NaN where it was not measured) and `param_<name>`. A hyperparameter whose values are all
    numbers, all booleans or all text keeps that type; any other becomes JSON text.
    """
    frame = pd.DataFrame(
        {
            "number": pd.array([trial.number for trial in trials], dtype="int64"),
            "state": pd.array([trial.state for trial in trials], dtype="str"),
            "score": pd.array([_number(trial.score) for trial in trials], dtype="float64"),
            "std": pd.array([_number(trial.std) for trial in trials], dtype="float64"),
            "seconds": pd.array([trial.seconds for trial in trials], dtype="float64"),
            "reason": pd.array([trial.reason for trial in trials], dtype="str"),
            "resumed": pd.array([trial.resumed for trial in trials], dtype="bool"),
            "started_at": pd.to_datetime([trial.started_at for trial in trials], unit="s", utc=True),
        }
    )
    for fold in range(max((len(trial.fold_scores) for trial in trials), default=0)):
        frame[f"fold_{fold}"] = [
            scoring_of(trial.fold_scores[fold]) if fold < len(trial.fold_scores) else float("nan") for trial in trials
        ]
    for name in dict.fromkeys(name for trial in trials for name in trial.hyperparameters):
        # A hyperparameter that a trial leaves to its default is missing, which is not the same as null.
        present = [name in trial.hyperparameters for trial in trials]
        frame[f"param_{name}"] = _column([trial.hyperparameters.get(name) for trial in trials], present)
    return frame


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _column(values: list[Any], present: list[bool]) -> list[Any]:
    known = [value for value, there in zip(values, present, strict=True) if there]
    kinds = {type(value) for value in known}
    if kinds in ({bool}, {str}) or (kinds and kinds <= {int, float}):
        return [float(value) for value in values] if kinds == {int, float} and all(present) else values
    return [json.dumps(value) if there else None for value, there in zip(values, present, strict=True)]
