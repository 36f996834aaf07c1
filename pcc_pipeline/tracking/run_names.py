"""What runs are called in MLflow: a function for each kind of run that has a name, and nothing else names one."""

from __future__ import annotations

import re

# Such as handsome-mole-150.
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")


def of_step(step: str) -> str:
    """A run of a step, such as `train`: MLflow shows when it began and what it is a part of beside the name."""
    return step


def of_trial(number: int) -> str:
    """A candidate of a search, counted from 0 within it; by name they stand in order up to a thousand."""
    return f"trial-{number:03d}"


def of_older_run(version: str, run_id: str) -> str:
    """A run of the older system: the version that it made, or its own id there if it made none."""
    return version or run_id


def is_made_up(name: str | None) -> bool:
    """Whether MLflow made it up, as for a run that `mlflow run` was given no --run-name for."""
    return _MADE_UP.fullmatch(name or "") is not None
