"""`monitor`: a version beside messages that are as before or have changed, labelled or not, and beside predictions."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.monitoring.profile_file import NAME as PROFILE

pytestmark = pytest.mark.pipeline

MODEL = "pcc-intent-classifier"
MARK = "Zanzibarkowski"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")


@pytest.fixture(scope="module")
def watched(new_store, in_process, with_vectors):
    """A store whose champion was trained and evaluated on 700 rows; 300 more rows lie beside it."""
    store = new_store("monitor")
    rows = with_vectors(sample(1000)).sample(frac=1, random_state=0).reset_index(drop=True)
    rows["case_id"] = [f"case-{place}" for place in range(len(rows))]
    rows["timestamp"] = pd.date_range("2026-10-05", periods=len(rows), freq="30min", tz="UTC")
    rows[:700].to_parquet(store.folder / "learned.parquet", index=False)
    later = rows[700:].reset_index(drop=True)
    later.to_parquet(store.folder / "labelled.parquet", index=False)
    later[["case_id", "intent"]].to_csv(store.folder / "labels.csv", index=False)
    quiet = later.drop(columns="intent")
    quiet.to_parquet(store.folder / "quiet.parquet", index=False)
    turned = quiet.assign(
        text=[f"{MARK} qzxv {place} wwkj" for place in range(len(quiet))],
        embeddings=[list(np.roll(vector, 100)) for vector in quiet["embeddings"]],
    )
    turned.to_parquet(store.folder / "changed.parquet", index=False)
    assert in_process(store.folder, "train", ["--data", str(store.folder / "learned.parquet"), *FIXED]) == 0
    assert in_process(store.folder, "evaluate", []) == 0
    store.client.set_registered_model_alias(MODEL, "champion", "1")
    return store


def _metrics(store, name):
    return {one.step: one.value for one in store.client.get_metric_history(store.step("monitor").info.run_id, name)}


def _alert(store):
    return store.client.get_model_version(MODEL, "1").tags.get("pcc.alert")


def test_the_profile_lies_with_the_version_and_holds_no_text(watched) -> None:
    for step in ("train", "evaluate"):
        run = watched.step(step)
        folder = watched.folder / step
        folder.mkdir(exist_ok=True)
        content = Path(watched.client.download_artifacts(run.info.run_id, PROFILE, str(folder))).read_bytes()
        assert hashlib.sha256(content).hexdigest() == run.data.tags["pcc.profile_digest"]
        assert len(content) < 250_000
        assert b"newsletter" not in content
    assert (
        watched.client.get_model_version(MODEL, "1").tags["pcc.reference_run"] == watched.step("evaluate").info.run_id
    )


def test_a_changed_file_alarms_and_a_quiet_one_after_it_takes_the_alert_away(command, watched) -> None:
    done = command("monitor", "--data", str(watched.folder / "changed.parquet"), "--fail-on", "alert", store=watched)
    assert done.code == 3, done.err
    assert "messages have changed" in done.out
    run = watched.step("monitor")
    assert run.info.status == "FINISHED"
    assert _alert(watched) == run.data.tags["pcc.alert"]
    assert run.data.metrics["drift/alarm"] == 1
    assert run.data.metrics["estimated/upper_bound"] == 1
    assert {"monitor.html", "figures/drift_by_window.png", "figures/accuracy_by_window.png"} <= watched.files(run)
    assert run.data.tags["pcc.reference"] == "test"
    novel = pd.read_parquet(watched.folder / "outputs/novel_rows.parquet")
    assert novel["case_id"].str.startswith("case-").all()
    page = (watched.folder / "outputs/monitor.html").read_text(encoding="utf-8")
    assert "something is wrong" in page
    assert f"warning: {MODEL} {run.data.tags['pcc.version']}: drift/alarm" in done.out
    assert "nobody is told: PCC_NOTIFY is not set" in done.out
    left = page + done.out + done.err + json.dumps([run.data.tags, run.data.params, run.data.metrics])
    assert MARK not in left
    assert not re.search(r"case-\d", left)

    done = command("monitor", "--data", str(watched.folder / "quiet.parquet"), "--fail-on", "alert", store=watched)
    assert done.code == 0, done.out
    assert "nothing is wrong" in done.out
    assert _alert(watched) is None
    assert f"recovered: {MODEL}" in done.out
    assert "alert  " not in command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched).out


def test_labels_that_come_later_say_what_was_so_by_window(command, watched) -> None:
    """The same as labels in the file itself; a window is a step."""
    data, labels = str(watched.folder / "quiet.parquet"), str(watched.folder / "labels.csv")
    assert command("monitor", "--data", data, "--labels", labels, "--windows", "100", store=watched).code == 0
    joined = _metrics(watched, "observed/window_accuracy")
    assert set(joined) == {0, 1, 2}
    estimated, off = _metrics(watched, "estimated/accuracy"), _metrics(watched, "estimated/off")
    assert off == {step: pytest.approx(estimated[step] - joined[step]) for step in joined}
    assert "observed/f1_macro" in watched.step("monitor").data.metrics
    done = command("monitor", "--data", str(watched.folder / "labelled.parquet"), "--windows", "week", store=watched)
    assert done.code == 0, done.err
    assert len(_metrics(watched, "drift/p_value")) >= 1
    right = _metrics(watched, "observed/window_accuracy"), _metrics(watched, "observed/window_rows")
    total = sum(right[0][step] * right[1][step] for step in right[0])
    assert total == pytest.approx(100 * sum(joined.values()))


def test_a_file_of_predictions_is_watched_by_what_it_shows(command, watched) -> None:
    scores = str(watched.folder / "scores.parquet")
    data = str(watched.folder / "quiet.parquet")
    assert command("score", "--data", data, "--output", scores, store=watched).code == 0
    done = command("monitor", "--data", scores, "--labels", str(watched.folder / "labels.csv"), store=watched)
    assert done.code == 0, done.err
    run = watched.step("monitor")
    assert {"drift/labels_p_value", "drift/confidence_p_value"} <= set(run.data.metrics)
    assert "drift/vectors" not in run.data.metrics
    assert run.data.metrics["observed/window_rows"] == 300


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({"drop": "timestamp"}, ("--windows", "day"), "no timestamp, so they have no day"),
        ({"predictions": "v20000101_000000"}, (), "these predictions are of v20000101_000000"),
        ({}, ("--labels", "strange.csv"), "none of its 1 labelled cases is among"),
        ({}, ("--labels", "bare.csv"), "has no column intent"),
        ({}, ("--windows", "month"), "monitoring.windows"),
    ],
)
def test_what_cannot_be_watched_is_refused(command, watched, tmp_path, change, options, says) -> None:
    frame = pd.read_parquet(watched.folder / "quiet.parquet")
    if "drop" in change:
        frame = frame.drop(columns=change["drop"])
    if "predictions" in change:
        frame = pd.DataFrame(
            {
                "case_id": ["a"],
                "predicted_label": ["other"],
                "confidence": [0.5],
                "model_version": change["predictions"],
            }
        )
    frame.to_parquet(tmp_path / "data.parquet", index=False)
    pd.DataFrame({"case_id": ["nobody"], "intent": ["other"]}).to_csv(tmp_path / "strange.csv", index=False)
    pd.DataFrame({"case_id": ["nobody"]}).to_csv(tmp_path / "bare.csv", index=False)
    given = [str(tmp_path / option) if option.endswith(".csv") else option for option in options]
    done = command("monitor", "--data", str(tmp_path / "data.parquet"), *given, store=watched)
    assert done.code == 1
    assert says in done.err


def test_a_model_without_a_profile_says_to_train_again(command, watched) -> None:
    run = watched.client.get_model_version(MODEL, "1").run_id
    digest = watched.client.get_run(run).data.tags["pcc.profile_digest"]
    at_evaluation = watched.client.get_model_version(MODEL, "1").tags["pcc.reference_run"]
    try:
        watched.client.delete_model_version_tag(MODEL, "1", "pcc.reference_run")
        watched.client.delete_tag(run, "pcc.profile_digest")
        done = command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched)
        assert (done.code, "no reference profile" in done.err, "train again" in done.err) == (1, True, True)
        watched.client.set_tag(run, "pcc.profile_digest", "0" * 64)
        done = command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched)
        assert (done.code, "was altered after it was logged" in done.err) == (1, True)
    finally:
        watched.client.set_tag(run, "pcc.profile_digest", digest)
        watched.client.set_model_version_tag(MODEL, "1", "pcc.reference_run", at_evaluation)
