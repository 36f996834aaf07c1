"""`monitor`: a version beside messages that are as before or have changed, labelled or not, and beside predictions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.data.splits import fold_text
from pcc_pipeline.errors import DataError
from pcc_pipeline.monitoring.profile_file import NAME as PROFILE
from pcc_pipeline.persons.keys import Keys, add_key
from pcc_pipeline.persons.manifest import NAME as MANIFEST
from pcc_pipeline.persons.manifest import look_up
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.records.monitoring_log import monitored
from pcc_pipeline.storage.objects import open_store

pytestmark = pytest.mark.pipeline

REPOSITORY = Path(__file__).parents[2]
MODEL = "pcc-intent-classifier"
MARK = "Zanzibarkowski"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")


@pytest.fixture(scope="module")
def watched(new_store, in_process, with_vectors):
    """A store whose champion was trained and evaluated on 700 rows; 300 more rows lie beside it."""
    store = new_store("monitor")
    messages = sample(1500)
    # None of the later ones has a text that was learned; these are looked at by a test of their own.
    messages = messages[~messages["text"].map(fold_text).duplicated()][:1000]
    assert len(messages) == 1000
    rows = with_vectors(messages).sample(frac=1, random_state=0).reset_index(drop=True)
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
    key = add_key(watched.folder / "lineage.key")
    options = ("--fail-on", "alert", "--set", "lineage.key_file=lineage.key")
    done = command("monitor", "--data", str(watched.folder / "changed.parquet"), *options, store=watched)
    assert done.code == 3, done.err
    manifest = watched.file(watched.step("monitor"), MANIFEST).read_bytes()
    assert look_up(manifest, Keys((key,)), Sought.of(Keys((key,)), case_ids=["case-702"]), "the manifest").places == {
        ("watched", str(watched.folder / "changed.parquet")): [2]
    }
    assert "messages have changed" in done.out
    assert done.out[done.out.index("next  ") :].splitlines()[:3] == [
        "next       read outputs/monitor.html",
        "           have some of the new messages labelled, and train on them: pcc retrain --watch FOLDER",
        f"           look at the runs: mlflow ui --backend-store-uri {watched.uri}",
    ]
    run = watched.step("monitor")
    assert (run.info.status, run.info.run_name) == ("FINISHED", "monitor changed (alert)")
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
    assert "next       look at the runs: mlflow ui" in done.out
    assert watched.step("monitor").info.run_name == "monitor quiet (no alert)"
    assert _alert(watched) is None
    assert f"recovered: {MODEL}" in done.out
    assert "alert  " not in command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched).out


def test_a_file_that_lacks_values_or_breaks_the_contract_more_than_usual_is_told(command, watched) -> None:
    """More than in the training file: the twentieth row without a text would be no alarm by the limit of 10 %."""
    frame = pd.read_parquet(watched.folder / "quiet.parquet")
    frame.loc[frame.index % 4 == 0, "urgency_score"] = None
    frame.loc[frame.index % 20 == 1, "text"] = " "
    frame = frame.drop(columns="formality_score")
    frame.to_parquet(watched.folder / "poor.parquet", index=False)
    done = command("monitor", "--data", str(watched.folder / "poor.parquet"), "--fail-on", "alert", store=watched)
    assert done.code == 3, done.err
    assert "26.3% of the rows have no urgency_score; usual is 0.0%" in done.out
    assert watched.client.get_model_version(MODEL, "1").tags["pcc.alert_kinds"] == "quality"
    assert "5.0% of the rows break the data contract; usual is 0.0%" in done.out
    assert "quality/alarm" in done.out
    metrics = watched.step("monitor").data.metrics
    assert metrics["quality/missing/urgency_score"] == pytest.approx(0.26, abs=0.01)
    assert (metrics["quality/usual/missing/urgency_score"], metrics["quality/absent_columns"]) == (0, 1)
    assert metrics["quality/alarm"] == metrics["quality/file_alarm"] == 1
    page = (watched.folder / "outputs/monitor.html").read_text(encoding="utf-8")
    assert "lacks columns that the training file has: formality_score" in page
    assert command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched).code == 0


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
    rows, usual = _metrics(watched, "quality/whole_days_rows"), _metrics(watched, "quality/usual/whole_days_rows")
    assert sum(rows.values()) == 300
    assert all(usual[step] == pytest.approx(48 * 7, rel=0.3) for step in rows if rows[step] > 250)
    assert len(_metrics(watched, "drift/p_value")) >= 1
    right = _metrics(watched, "observed/window_accuracy"), _metrics(watched, "observed/window_rows")
    total = sum(right[0][step] * right[1][step] for step in right[0])
    assert total == pytest.approx(100 * sum(joined.values()))


@pytest.fixture(scope="module")
def logs(watched):
    """A folder of two logs: what `score` wrote, of which one run failed, and that of another system, with bad lines."""
    folder = watched.folder / "logs"
    folder.mkdir()
    version = watched.client.get_model_version(MODEL, "1").tags["pcc.version"]
    for number in range(3):
        with contextlib.suppress(DataError), monitored(folder / "ours.jsonl", f"run-{number}") as run:
            time.sleep(0.01)  # the log counts milliseconds
            run.model_version, run.total_cases, run.passed_validation, run.dropped_cases = version, 300, 290, 10
            if number == 1:
                raise DataError(MARK)
    entry = json.loads((folder / "ours.jsonl").read_text(encoding="utf-8").splitlines()[0])
    other = json.dumps({**entry, "run_id": "theirs", "model_version": "v20250101_000000", "notes": MARK})
    (folder / "theirs.jsonl").write_text(f"{MARK}\n\n{other}\n{{}}\n", encoding="utf-8")
    return folder


def test_the_logs_say_how_it_runs_and_metrics_lie_in_a_file_for_prometheus(command, watched, logs, bucket) -> None:
    """The messages from a bucket, as several files; every metric of the dashboard is among those that are written."""
    frame = pd.read_parquet(watched.folder / "labelled.parquet")
    store = open_store(bucket)
    for name, part in (("a.parquet", frame[:200]), ("b.parquet", frame[200:])):
        part.to_parquet(watched.folder / name, index=False)
        store.upload(watched.folder / name, f"days/{name}")
    written = watched.folder / "collector" / "pcc.prom"
    given = ("--data", f"{bucket}/days/", "--logs", str(logs), "--set", f"output.metrics_file={written}")
    done = command("monitor", *given, store=watched)
    assert done.code == 0, done.err
    assert "all runs: 4 runs, 1 failed" in done.out
    assert "runs of other versions: v20250101_000000" in done.out
    assert "2 lines of the logs cannot be read: line 1 of theirs.jsonl (no JSON), line 4 of theirs.jsonl" in done.out
    run = watched.step("monitor")
    assert run.data.metrics["observed/window_rows"] == 300
    assert run.data.metrics["operation/failed_share"] == 0.25
    assert run.data.metrics["operation/bad_lines"] == 2
    assert [one.dataset.name for one in run.inputs.dataset_inputs].count("b.parquet") == 1
    page = (watched.folder / "outputs/monitor.html").read_text(encoding="utf-8")
    assert "How it runs" in page
    assert MARK not in page + done.out + done.err

    assert [path.name for path in written.parent.iterdir()] == ["pcc.prom"]
    text = written.read_text(encoding="utf-8")
    version = run.data.tags["pcc.version"]
    assert f'pcc_observed_class_f1{{model="{MODEL}",version="{version}",label="opt_out"}}' in text
    names = set(re.findall(r"^# TYPE (\w+) gauge$", text, re.M))
    dashboard = (REPOSITORY / "deploy/grafana/dashboards/monitoring.json").read_text(encoding="utf-8")
    assert set(re.findall(r"\bpcc_\w+", dashboard)) <= names


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


def test_status_shows_the_champion_s_health_and_what_to_do_next(command, watched, store) -> None:
    """Before anything was trained, after a quiet look, and while an alert stands."""
    done = command("manage_models", "status", store=store)
    assert (done.code, "champion   none" in done.out, "train: pcc run --data FILE" in done.out) == (0, True, True)
    assert command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched).code == 0
    done = command("manage_models", "status", "--fail-on", "alert", store=watched)
    assert done.code == 0, done.err
    version = watched.step("monitor").data.tags["pcc.version"]
    scores = watched.client.get_model_version(MODEL, "1").tags
    lines = {line[:10].strip(): line[11:] for line in done.out.splitlines() if line[:10].strip()}
    assert lines["champion"].startswith(version)
    assert lines["since"] == "not on record: the alias was set outside of pcc_pipeline"
    assert f"macro F1 {float(scores['metric.test/f1_macro']):.4f}" in lines["tested"]
    assert lines["watched"].endswith("nothing is wrong")
    assert (lines["alerts"], lines["next"]) == ("none stands", "nothing")
    assert "1 window, 300 rows, the last all rows" in done.out
    assert re.search(r"estimated accuracy (at most )?0\.\d{3} \(", done.out)

    assert command("monitor", "--data", str(watched.folder / "changed.parquet"), store=watched).code == 0
    done = command("manage_models", "status", "--json", "--fail-on", "alert", store=watched)
    assert done.code == 3
    said = json.loads(done.out)
    run = watched.step("monitor")
    assert said["watched"]["run_id"] == run.info.run_id
    assert said["champion"]["alert"] == run.data.tags["pcc.alert"]
    assert [alert["metric"] for alert in said["alerts"]] == ["drift/alarm"]
    assert said["next"][0] == f"read monitor.html of run {run.info.run_id[:8]}"
    for told in (True, False):  # once a day for each reason
        done = command("monitor", "--data", str(watched.folder / "missing.parquet"), store=watched)
        assert (done.code, f"alert      {MODEL}: monitor failed" in done.err) == (1, told), done.err
    done = command("manage_models", "status", store=watched)
    assert "last look" in done.out
    assert "mend what ended the last monitor" in done.out
    assert command("monitor", "--data", str(watched.folder / "quiet.parquet"), store=watched).code == 0


def test_of_several_files_one_may_lack_labels_or_times_and_predictions_are_not_mixed_with_messages(
    command, watched, tmp_path
) -> None:
    frame = pd.read_parquet(watched.folder / "labelled.parquet")
    (tmp_path / "days").mkdir()
    frame[:100].drop(columns="timestamp").to_parquet(tmp_path / "days" / "a.parquet", index=False)
    frame[100:200].to_parquet(tmp_path / "days" / "b.parquet", index=False)
    frame[200:].drop(columns="intent").to_parquet(tmp_path / "days" / "c.parquet", index=False)
    done = command("monitor", "--data", str(tmp_path / "days"), "--windows", "week", store=watched)
    assert done.code == 0, done.err
    assert sum(_metrics(watched, "quality/window_rows").values()) == 300
    assert sum(_metrics(watched, "observed/window_rows").values()) == 200
    labelled, one = _metrics(watched, "observed/window_rows"), watched.step("monitor").data.tags["pcc.window"]
    assert (one, labelled[max(labelled)]) == ("without a time", 100)

    scores = tmp_path / "days" / "d.parquet"
    columns = {"case_id": ["x"], "predicted_label": ["other"], "confidence": [0.5]}
    pd.DataFrame(columns).to_parquet(scores, index=False)
    for files in (str(tmp_path / "days"), json.dumps([str(scores), str(tmp_path / "days" / "a.parquet")])):
        done = command("monitor", "--data", files, store=watched)
        assert (done.code, "and others predictions without texts" in done.err) == (1, True), done.err


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


def test_rows_whose_text_the_version_learned_are_left_out_of_what_is_said_of_it(command, watched, tmp_path) -> None:
    """A file that was trained on has nearly everything right: that is no recovery."""
    record = pd.read_parquet(watched.file(watched.step("train"), "split.parquet"))
    learned = pd.read_parquet(watched.folder / "learned.parquet")
    later = pd.read_parquet(watched.folder / "labelled.parquet")
    mixed = tmp_path / "mixed.parquet"
    pd.concat([learned[record["learned"].to_numpy()][:200], later[:100]]).to_parquet(mixed, index=False)
    done = command("monitor", "--data", str(mixed), "--windows", "all", store=watched)
    assert done.code == 0, done.err
    assert "learned the texts of 200 of the 300 rows: of these only the quality is judged" in done.out
    metrics = watched.step("monitor").data.metrics
    assert (metrics["quality/window_rows"], metrics["observed/window_rows"]) == (300, 100)
    later[:100].to_parquet(mixed, index=False)
    assert command("monitor", "--data", str(mixed), "--windows", "all", store=watched).code == 0
    alone = watched.step("monitor").data.metrics
    for name in ("observed/window_accuracy", "estimated/accuracy", "drift/p_value", "observed/f1_macro"):
        assert metrics[name] == alone[name], name

    learned[record["learned"].to_numpy()][:60].to_parquet(mixed, index=False)
    done = command("monitor", "--data", str(mixed), "--windows", "all", store=watched)
    assert done.code == 0, done.err
    metrics = watched.step("monitor").data.metrics
    assert "observed/window_accuracy" not in metrics
    assert "drift/alarm" not in metrics  # nothing is said, and so no alert ends
    assert metrics["estimated/upper_bound"] == 1


def test_of_a_folder_of_scored_files_the_answers_of_other_versions_are_left_out(command, watched, tmp_path) -> None:
    """After a promotion a folder that is watched by a timer holds those of both."""
    folder = tmp_path / "scored"
    folder.mkdir()
    done = command(
        "score", "--data", str(watched.folder / "quiet.parquet"), "--output", str(folder / "a.parquet"), store=watched
    )
    assert done.code == 0, done.err
    older = pd.read_parquet(folder / "a.parquet").assign(model_version="v20250101_000000")
    older.to_parquet(folder / "b.parquet", index=False)
    done = command("monitor", "--data", str(folder), store=watched)
    assert done.code == 0, done.err
    assert "300 of 600 rows are left out: answers of v20250101_000000" in done.out
    assert watched.step("monitor").data.metrics["quality/rows"] == 300
    (folder / "a.parquet").unlink()
    done = command("monitor", "--data", str(folder), store=watched)
    assert (done.code, "these predictions are of v20250101_000000, not of" in done.err) == (1, True)


def test_that_earlier_windows_had_alarms_is_said_where_the_last_has_none(command, watched, tmp_path) -> None:
    both, changed = tmp_path / "both.parquet", pd.read_parquet(watched.folder / "changed.parquet")
    quiet = pd.read_parquet(watched.folder / "quiet.parquet").assign(
        timestamp=changed["timestamp"].max() + pd.to_timedelta(range(1, 301), unit="min"),
        case_id=[f"later-{place}" for place in range(300)],
    )
    pd.concat([changed, quiet]).to_parquet(both, index=False)
    done = command("monitor", "--data", str(both), "--windows", "300", store=watched)
    assert done.code == 0, done.err
    assert "nothing is wrong in the last window; 1 of the 1 before had alarms" in done.out
    page = (watched.folder / "outputs/monitor.html").read_text(encoding="utf-8")
    assert "Nothing is wrong in the last window; 1 of the 1 before had alarms." in page


@pytest.mark.long
def test_a_version_trained_on_messages_that_changed_is_watched_beside_the_new_ones(
    command, new_store, watched, tmp_path
) -> None:
    """Beside older and newer ones together, the new state would be called changed for good."""
    store = new_store("turned")
    rows = pd.read_parquet(watched.folder / "learned.parquet")
    turned = rows[350:].assign(embeddings=[list(np.roll(vector, 100)) for vector in rows["embeddings"][350:]])
    turned["text"] = [f"{text} please" for text in turned["text"]]
    both = tmp_path / "both.parquet"
    pd.concat([rows[:350], turned]).to_parquet(both)
    assert command("train", "--data", str(both), *FIXED, "--set", "data.test_size=0.5", store=store).code == 0
    done = command("evaluate", store=store)
    assert done.code == 0, done.err
    assert re.search(r"messages since 2026-10-1[23] are unlike those before", done.out), done.out
    later = pd.read_parquet(watched.folder / "quiet.parquet")
    later["embeddings"] = [list(np.roll(vector, 100)) for vector in later["embeddings"]]
    later["text"] = [f"{text} please" for text in later["text"]]
    later.to_parquet(tmp_path / "new.parquet", index=False)
    model = ("--model", f"models:/{MODEL}@challenger")
    done = command("monitor", "--data", str(tmp_path / "new.parquet"), *model, store=store)
    assert done.code == 0, done.err
    assert "nothing is wrong" in done.out
    done = command("monitor", "--data", str(watched.folder / "quiet.parquet"), *model, store=store)
    assert "messages have changed" in done.out
