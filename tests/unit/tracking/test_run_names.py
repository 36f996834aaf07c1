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


@pytest.mark.parametrize(
    ("file", "alarmed", "name"),
    [
        ("2026-09.parquet", True, "monitor 2026-09 (alert)"),
        ("2026-09.csv.gz", False, "monitor 2026-09 (no alert)"),
        ("3 files, the last 2026-09.jsonl", False, "monitor 3 files, the last 2026-09 (no alert)"),
        (f"{'long_' * 9}2026-09.csv", True, "monitor long_long_long_long_…g_long_long_2026-09 (alert)"),
    ],
)
def test_a_look_is_called_by_its_file_and_what_came_of_it(file: str, alarmed: bool, name: str) -> None:
    assert run_names.of_monitor(file, alarmed=alarmed) == name


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(
    ("before", "after"), [("score", "other"), ("handsome-mole-150", "other"), ("nightly", "nightly")]
)
def test_a_name_that_a_person_gave_stays(monkeypatch: pytest.MonkeyPatch, before: str, after: str) -> None:
    made = MlflowClient().create_run(mlflow.create_experiment("names"), run_name=before)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    with step_run("score") as opened:
        opened.rename("other")
    assert MlflowClient().get_run(made.info.run_id).info.run_name == after


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
