"""What MLflow remembers in this process and hands on to programs that it starts; a test undoes what it set there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI")


@contextmanager
def undone() -> Iterator[None]:
    """A block that begins without server, experiment and run; those of before come back at its end."""
    import mlflow
    from mlflow.tracking import fluent

    address = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    before, experiment = {name: os.environ.pop(name, None) for name in NAMES}, fluent._active_experiment_id
    fluent._active_experiment_id = None
    try:
        yield
    finally:
        mlflow.set_tracking_uri(address)  # type: ignore[arg-type] # None, as MLflow's own tests say that there is none
        fluent._active_experiment_id = experiment
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def forgotten() -> list[str]:
    """Names of what is set, which is then no longer."""
    found = [name for name in NAMES if os.environ.pop(name, None) is not None]
    fluent = sys.modules.get("mlflow.tracking.fluent")
    if fluent is not None and fluent._active_experiment_id is not None:
        fluent._active_experiment_id = None
        found.append("MLflow's active experiment")
    return found
