"""When a search stops a trial between folds: the rule of Optuna's MedianPruner, for searches without Optuna."""

from __future__ import annotations

import statistics

from pcc_pipeline.search.trials import Trial

# Whole trials before any may be stopped, and folds before this one may: one fold alone says too little.
TRIALS_FIRST, FOLDS_FIRST = 5, 2


class MedianRule:
    """A trial whose mean was never as high as the median of the whole trials' means at the same fold is stopped."""

    def __init__(self) -> None:
        self._means: dict[int, list[float]] = {}
        self._scores: dict[int, list[float]] = {}
        self._whole: list[int] = []

    def stops(self, number: int, score: float) -> bool:
        """Take the next fold's score of a trial; whether to stop the trial."""
        scores = self._scores.setdefault(number, [])
        scores.append(score)
        means = self._means.setdefault(number, [])
        means.append(statistics.fmean(scores))
        fold = len(scores) - 1
        if len(self._whole) < TRIALS_FIRST or fold + 1 < FOLDS_FIRST:
            return False
        return max(means) < statistics.median(self._means[whole][fold] for whole in self._whole)

    def ended(self, trial: Trial) -> None:
        """A trial that was completed is one to be measured by."""
        self._scores.pop(trial.number, None)
        if trial.state == "complete":
            self._whole.append(trial.number)
        else:
            self._means.pop(trial.number, None)
