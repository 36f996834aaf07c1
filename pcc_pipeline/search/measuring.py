"""One unit of work, a candidate on a fold: runs in a worker and always comes back with a result that can be sent."""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import PccError
from pcc_pipeline.search.plan import Objective
from pcc_pipeline.search.trials import Scores

_LONGEST_REASON = 200
# From a quote that opens (after two letters it is an apostrophe) to the last of its kind, or to the end.
_QUOTED = re.compile(r"""(?<![A-Za-z]{2})(['"])(?:.*\1|.*$)""")


@dataclass(frozen=True)
class Measured:
    """One fold's scores, or why there are none."""

    scores: Scores | None
    reason: str
    seconds: float


def measure(objective: Objective, hyperparameters: dict[str, Any], fold: int) -> Measured:
    """Run the objective on a fold; any exception becomes a reason."""
    start = time.perf_counter()
    try:
        scores = {name: float(value) for name, value in objective(dict(hyperparameters), fold).items()}
    except Exception as error:  # one candidate's failure must not end the search
        return Measured(None, reason_of(error), time.perf_counter() - start)
    return Measured(scores, "", time.perf_counter() - start)


def reason_of(error: Exception) -> str:
    """Why a trial failed, in one line that quotes no customer's text.

    Our own errors promise that of their first sentence. Of others only numerical ones speak, cut to 200 characters and
    with all that stands in quotes left out: a ValueError may quote a value. The rest name their type and the place.
    """
    if isinstance(error, PccError):
        return _first_line(error.what)
    name = type(error).__name__
    text = _first_line(str(error))
    if name == "InvalidParameterError":
        # scikit-learn's word on a hyperparameter: it quotes that and nothing else.
        return f"{name}: {text}"[:_LONGEST_REASON]
    if isinstance(error, ValueError | ArithmeticError) and text and not isinstance(error, UnicodeError):
        return f"{name}: {_QUOTED.sub('…', text)}"[:_LONGEST_REASON]
    frames = traceback.extract_tb(error.__traceback__)
    return f"{name} at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else name


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
