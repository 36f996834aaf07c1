"""What MLflow and our entry points set in the tests' own process; a test undoes it, or the next one is about it too."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pcc_pipeline import interruption

NAMES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI")


@contextmanager
def mlflow_undone() -> Iterator[None]:
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


@contextmanager
def entry_point_undone() -> Iterator[None]:
    """A block whose entry points leave nothing: no variable of MLflow's or ours, no volume, no handler of a signal."""
    ours = ("MLFLOW_", "PCC_")
    variables = {name: value for name, value in os.environ.items() if name.startswith(ours)}
    handlers = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    logger, unraisable = logging.getLogger("pcc_pipeline"), sys.unraisablehook
    level = logger.level
    try:
        yield
    finally:
        for name in [name for name in os.environ if name.startswith(ours)]:
            del os.environ[name]
        os.environ.update(variables)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = unraisable
        interruption._state = interruption._State()
        logger.setLevel(level)


def forgotten() -> list[str]:
    """Names of what is set, which is then no longer."""
    found = [name for name in NAMES if os.environ.pop(name, None) is not None]
    fluent = sys.modules.get("mlflow.tracking.fluent")
    if fluent is not None and fluent._active_experiment_id is not None:
        fluent._active_experiment_id = None
        found.append("MLflow's active experiment")
    logger = logging.getLogger("pcc_pipeline")
    if logger.level != logging.NOTSET:
        logger.setLevel(logging.NOTSET)
        found.append("the volume of pcc_pipeline's log")
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        found.append("a handler of SIGTERM")
    return found
