"""What a person sees of a running search: a bar at a terminal, a line a trial in a log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from pcc_pipeline.search.trials import Trial

_log = logging.getLogger("pcc_pipeline.search")


class Progress:
    """Shows trials as they end; a context manager.

    Args:
        total: trials in all, those of others included.
        scoring: the score's name.
        others: the trials that ended elsewhere: before this search began, and since then on other machines.
    """

    def __init__(self, total: int, scoring: str, others: Callable[[], tuple[Trial, ...]]) -> None:
        self._total, self._scoring, self._ended, self._failed = total, scoring, 0, 0
        self._others, resumed = others, others()
        self._best: float | None = None
        # A log would hold every redrawing of a bar.
        self._bar: tqdm[Any] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=max(total, len(resumed)), initial=len(resumed), desc="search", unit="trial")
        elif resumed:
            _log.info("search resumed: %d of %d trials are known from before", len(resumed), total)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, trial: Trial) -> None:
        """Count a trial that ended just now."""
        self._ended += 1
        self._failed += trial.state == "failed"
        others = self._others()
        ended = self._ended + len(others)
        if self._bar is None:
            _log.info("trial %d (%d of %d): %s", trial.number, ended, self._total, self._result(trial))
            return
        known = (self._best, trial.score, *(other.score for other in others))
        self._best = max((score for score in known if score is not None), default=None)
        best = {} if self._best is None else {f"best {self._scoring}": f"{self._best:.4f}"}
        self._bar.set_postfix(best | ({"failed": str(self._failed)} if self._failed else {}), refresh=False)
        self._bar.update(ended - self._bar.n)

    def _result(self, trial: Trial) -> str:
        if trial.score is None:
            return f"{trial.state}: {trial.reason}"
        spread = "" if trial.std is None else f" ± {trial.std:.4f}"
        return f"{self._scoring} {trial.score:.4f}{spread} in {trial.seconds:.1f} s"
