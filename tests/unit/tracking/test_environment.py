"""The environment says which run and which experiment, in one module's hearing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pcc_pipeline.tracking import environment
from pcc_pipeline.tracking.runs import step_run
from pcc_pipeline.tracking.store import past_runs

PACKAGE = Path(environment.__file__).parents[1]


@pytest.mark.parametrize("asked", [{}, {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "true"}])
def test_mlflow_reports_nothing_and_draws_no_bars_for_whoever_imports_this_floor(asked: dict[str, str]) -> None:
    """The command, the library, or a step that Python calls by itself; a user may still ask for bars."""
    names = ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import os, pcc_pipeline.tracking; print(*map(os.environ.get, {names}))"
    done = subprocess.run([sys.executable, "-c", code], env=clean | asked, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["true", asked.get(names[1], "false")]


@pytest.mark.parametrize("name", ["MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"])
def test_one_module_alone_names_the_variable(name: str) -> None:
    """Others are handed what it says; a message may tell a user of it, which no quotation mark ends."""
    sources = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    assert [path for path, text in sources.items() if f'"{name}"' in text] == [Path(environment.__file__)]


def test_a_run_goes_to_the_experiment_that_it_is_handed_and_the_environment_stays_as_it_is(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient()
    chosen = client.create_experiment("chosen")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    before = dict(os.environ)
    with step_run("promote", experiment=chosen) as outer, step_run("evaluate") as inner:
        pass
    assert {outer.experiment_id, inner.experiment_id} == {chosen}
    assert {**os.environ} == {**before, "LOGNAME": environment.user()}
    assert client.get_experiment_by_name("other") is None


def test_runs_are_made_where_past_runs_are_looked_up(mlflow_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number, where both are set: `mlflow run` and `mlflow.set_experiment` set it in a shell with any name."""
    number = MlflowClient().create_experiment("by number")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "by name")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", number)
    with step_run("embed") as run:
        pass
    assert run.experiment_id == past_runs.open_experiment().experiment_id == number
