"""Each search method through the entry point: what it leaves in MLflow, how it fails, and how it goes on."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from pcc_pipeline.model.selection import features_sentence

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]
NAME = "pcc-intent-classifier"
CHOICES = "'model.search_space={C: [0.1, 1, 10], penalty: [l2], solver: [lbfgs, saga]}'"
RANGE = "'model.search_space={C: {low: 0.01, high: 100, log: true}, penalty: [l2], solver: [lbfgs, saga]}'"
CLASH = "'model.search_space={C: [1, 10], penalty: [l1], solver: [lbfgs, liblinear]}'"
ALL_CLASH = "'model.search_space={C: [1, 10], penalty: [l1], solver: [lbfgs]}'"
FEW = "model.cv_folds=2 search.n_jobs=1"

# Method -> its settings, the number of trials that it makes, and which drawings it leaves.
METHODS = {
    "none": ("model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs", 0, set()),
    "grid": (CHOICES, 6, {"optimisation_history"}),
    "random": (RANGE, 4, {"optimisation_history"}),
    "optuna": (
        f"{RANGE} model.feature_selection=mutual_information",
        4,
        {"optimisation_history", "parameter_importances"},
    ),
}


def _trials(store) -> pd.DataFrame:
    return pd.read_parquet(store.file(store.step("train"), "trials.parquet"))


def test_a_process_that_goes_on_keeps_no_fold_of_a_training_that_ended(command, store, small_file) -> None:
    """A file that was deleted keeps its room on the disk while it is mapped, and no `du` shows it."""
    done = command("train", "--data", str(small_file), "--search-method", "random", "--n-iter", "2", "--set", FEW)
    assert done.code == 0, done.err
    assert "fold-" not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_a_search_leaves_its_trials(method, command, store, small_file) -> None:
    settings, n_trials, drawings = METHODS[method]
    options = ["--data", str(small_file), "--search-method", method, "--n-iter", "4"]
    done = command("train", *options, "--set", f"{FEW} {settings}")
    assert done.code == 0, done.err
    run = store.step("train")
    nested = store.children(run)
    assert [trial.info.run_name for trial in nested] == [f"trial-{number:03d}" for number in range(n_trials)]
    assert {trial.info.status for trial in nested} <= {"FINISHED"}
    files = store.files(run)
    assert ("trials.parquet" in files) == (n_trials > 0)
    assert {f"figures/{name}.png" for name in drawings} <= files
    metadata = json.loads(store.file(run, "metadata.json").read_text())
    assert metadata["search_method"] == method
    assert metadata["search_info"]["trials"] == n_trials
    features = metadata["feature_selection"]
    if method == "optuna":
        assert (features["method"], features["kept"], features["of"]) == ("mutual_information", 300, 584)
        assert f"features {features_sentence(features)}" in done.out
        assert nested[0].data.params["model.feature_selection"] == "mutual_information"
    else:
        assert (features["method"], features["kept"]) == ("none", 584)
        assert "features " not in done.out
    if n_trials:
        trials = _trials(store)
        assert list(trials["state"]) == ["complete"] * n_trials
        best = trials.loc[trials["score"].idxmax()]
        assert metadata["search_info"]["best_trial"] == best["number"]
        assert float(metadata["hyperparameters"]["C"]) == pytest.approx(best["param_C"])
        assert run.data.metrics["cv/f1_macro_mean"] == pytest.approx(best["score"])
        assert trials["score"].to_numpy() == pytest.approx(trials[["fold_0", "fold_1"]].mean(axis=1).to_numpy())
        distinct = trials[["param_C", "param_solver"]].drop_duplicates()
        assert len(distinct) == n_trials


@pytest.mark.long
def test_one_seed_gives_one_search_however_many_workers(command, store, small_file) -> None:
    options = ["--data", str(small_file), "--n-iter", "2", "--set"]
    found = []
    for jobs in (1, 2):
        done = command("train", *options, f"model.cv_folds=2 search.n_jobs={jobs} {RANGE}")
        assert done.code == 0, done.err
        found.append(_trials(store).drop(columns=["seconds", "started_at"]))
    pd.testing.assert_frame_equal(*found, check_exact=False, rtol=1e-6)


def test_cross_validation_without_a_search_is_scored_once(command, store, small_file) -> None:
    fixed = "model.cross_val=true model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs"
    done = command("train", "--data", str(small_file), "--search-method", "none", "--set", f"{FEW} {fixed}")
    assert done.code == 0, done.err
    assert "cv/f1_macro_std" in store.step("train").data.metrics
    assert len(_trials(store)) == 1


def test_a_failing_candidate_is_recorded_and_the_search_goes_on(command, store, small_file) -> None:
    done = command("train", "--data", str(small_file), "--search-method", "grid", "--set", f"{FEW} {CLASH}")
    assert done.code == 0, done.err
    run = store.step("train")
    failed = [trial for trial in store.children(run) if trial.info.status == "FAILED"]
    assert run.info.status == "FINISHED"
    assert len(failed) == 2
    for trial in failed:
        assert "lbfgs" in trial.data.tags["pcc.error"]
        assert trial.data.params["model.hyperparameters.solver"] == "lbfgs"
    trials = _trials(store)
    assert sorted(trials["state"]) == ["complete", "complete", "failed", "failed"]
    assert all("l1" in reason for reason in trials["reason"][trials["state"] == "failed"])
    assert store.client.get_model_version_by_alias(NAME, "challenger").run_id == run.info.run_id


@pytest.mark.parametrize("method", ["grid", "optuna"])
def test_if_all_candidates_fail_the_run_fails_with_the_reasons_grouped(method, command, store, small_file) -> None:
    options = ["--data", str(small_file), "--search-method", method, "--n-iter", "2"]
    done = command("train", *options, "--set", f"{FEW} {ALL_CLASH}")
    assert done.code == 1
    assert re.search(r"error: None of 2 trials was completed; 2 failed: 2 x .*lbfgs", done.err), done.err
    assert "Traceback" not in done.err
    run = store.step("train")
    assert run.info.status == "FAILED"
    assert "2 x" in run.data.tags["pcc.error"]
    assert {trial.info.status for trial in store.children(run)} == {"FAILED"}
    assert not store.client.search_registered_models()


@pytest.mark.long
def test_a_timeout_keeps_what_was_done(command, store, small_file) -> None:
    options = ["--data", str(small_file), "--n-iter", "500", "--model-type", "RandomForest"]
    started = time.monotonic()
    done = command("train", *options, "--set", f"{FEW} search.timeout=3")
    assert done.code == 0, done.err
    assert 1 <= len(_trials(store)) < 100
    assert time.monotonic() - started < 60


@pytest.mark.long
def test_a_killed_optuna_study_is_resumed_by_the_same_command(store, outside, small_file) -> None:
    """After SIGKILL amid the search: what was done is not done again, and in all there are n_iter trials."""
    command = ["python", str(REPOSITORY / "entrypoints/train.py"), "--params-file", str(REPOSITORY / "params.yaml")]
    command += ["--data", str(small_file), "--model-type", "RandomForest", "--search-method", "optuna", "--n-iter", "6"]
    command += ["--set", "model.cv_folds=2 search.n_jobs=2 search.study_name=kept"]
    killed = outside(store.folder, *command)
    deadline = time.monotonic() + 120
    while len(before := [run for run in store.runs() if run.data.tags.get("pcc.step") == "trial"]) < 2:
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = [run for run in store.runs() if run.data.tags.get("pcc.step") == "trial"]
    assert len(before) < 6, "the search was over before the signal came"

    resumed = outside(store.folder, *command)
    out, err = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, err
    assert "version 1" in out
    trials = _trials(store)
    assert len(trials) == 6
    assert set(trials["state"]) == {"complete"}
    assert trials["number"].is_unique
    # A kill between the study's note and MLflow's may cost one nested run, never a trial.
    assert len(before) <= trials["resumed"].sum() <= len(before) + 1
    after = store.children(store.step("train"))
    assert len(after) == 6 - trials["resumed"].sum()
    assert not {run.info.run_name for run in after} & {run.info.run_name for run in before}
    parameters = [name for name in trials.columns if name.startswith("param_")]
    assert len(trials[parameters].drop_duplicates()) == 6, "no candidate was tried twice"
    assert {path.name for path in (store.folder / "outputs/studies").iterdir() if ".partial" in path.name} == set()


def test_a_study_of_other_data_is_not_resumed(command, store, small_frame, small_file) -> None:
    settings = f"{FEW} {RANGE} search.study_name=kept"
    options = ["--search-method", "optuna", "--n-iter", "2", "--set", settings]
    assert command("train", "--data", str(small_file), *options).code == 0
    small_frame[:200].to_parquet(store.folder / "other.parquet", index=False)
    done = command("train", "--data", "other.parquet", *options)
    assert done.code == 1
    assert re.search(r"study.*kept|kept.*study", done.err.partition("error: ")[2], re.DOTALL), done.err
    assert "data_digest" in done.err
    assert store.step("train").info.status == "FAILED"


@pytest.mark.long
def test_privacy_reviews_reach_the_score_of_the_issue(command, store, sage) -> None:
    """1,053 real reviews, two labels, `random`: macro F1 of at least 0.88 on the test file."""
    few = f"model.cv_folds=3 search.n_jobs=1 {CHOICES}"
    options = ["--data", str(sage / "train.parquet"), "--test-data", str(sage / "test.parquet"), "--n-iter", "3"]
    done = command("main", *options, "--set", few)
    assert done.code == 0, done.err
    assert store.step("evaluate").data.metrics["test/f1_macro"] >= 0.88
