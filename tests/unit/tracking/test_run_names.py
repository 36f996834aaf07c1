"""What each kind of run is called, and what MLflow makes up in place of a name."""

from __future__ import annotations

import mlflow
import pytest
from mlflow import MlflowClient

from pcc_pipeline.tracking import run_names
from pcc_pipeline.tracking.runs import step_run

STEPS = [
    "pipeline",
    "embed",
    "train",
    "evaluate",
    "promote",
    "publish",
    "score",
    "monitor",
    "retrain",
    "ab_test",
    "erase",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_run_of_a_step_has_its_name(step: str) -> None:
    assert run_names.of_step(step) == step
    assert not run_names.is_made_up(run_names.of_step(step)), "it would be taken for a name that nobody gave"


def test_candidates_are_counted_in_three_digits_at_least() -> None:
    assert [run_names.of_trial(number) for number in (0, 7, 123, 1000)] == [
        "trial-000",
        "trial-007",
        "trial-123",
        "trial-1000",
    ]
    in_order = [run_names.of_trial(number) for number in range(1000)]
    assert sorted(in_order) == in_order
    assert not any(map(run_names.is_made_up, in_order))


def test_a_run_of_the_older_system_has_its_version_or_else_its_id() -> None:
    assert run_names.of_older_run("v20250101_000000", "run_7") == "v20250101_000000"
    assert run_names.of_older_run("", "run_7") == "run_7"


@pytest.mark.usefixtures("mlflow_store")
def test_what_mlflow_makes_up_is_known_as_such_and_gives_way_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = mlflow.create_experiment("names")
    made = MlflowClient().create_run(experiment)
    assert run_names.is_made_up(made.info.run_name), made.info.run_name
    assert not any(map(run_names.is_made_up, (None, "", "my run", "nightly-7")))
    # As mlflow run does.
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with step_run("score") as opened:
        assert opened.run_id == made.info.run_id
    assert MlflowClient().get_run(made.info.run_id).info.run_name == "score"
