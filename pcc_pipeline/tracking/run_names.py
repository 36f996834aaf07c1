"""What runs are called in MLflow: a function for each kind of run that has a name, and nothing else names one."""

from __future__ import annotations

import re

_SUFFIXES = re.compile(r"(\.(csv|tsv|jsonl|parquet|pkl|gz))+$")
_LONGEST_FILE = 40
# Such as handsome-mole-150.
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d+")


def of_step(step: str) -> str:
    """A run of a step, such as `train`: MLflow shows when it began and what it is a part of beside the name."""
    return step


def of_monitor(file: str, *, alarmed: bool) -> str:
    """A look at a file, such as `monitor 2026-09 (alert)`: in a list of looks that is what tells them apart.

    Args:
        file: its name, as people read it.
    """
    stem = _SUFFIXES.sub("", file)
    if len(stem) > _LONGEST_FILE:  # a file's date stands at its end as often as at its head
        stem = f"{stem[: _LONGEST_FILE // 2]}…{stem[1 - _LONGEST_FILE // 2 :]}"
    return f"{of_step('monitor')} {stem} ({'alert' if alarmed else 'no alert'})"


def of_trial(number: int) -> str:
    """A candidate of a search, counted from 0 within it; by name they stand in order up to a thousand."""
    return f"trial-{number:03d}"


def of_older_run(version: str, run_id: str) -> str:
    """A run of the older system: the version that it made, or its own id there if it made none."""
    return version or run_id


def is_made_up(name: str | None) -> bool:
    """Whether MLflow made it up, as for a run that `mlflow run` was given no --run-name for."""
    return _MADE_UP.fullmatch(name or "") is not None
