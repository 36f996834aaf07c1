"""A weak version is refused with the table, force goes past it on record, and a rollback restores the champion."""

from __future__ import annotations

import getpass
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pcc_pipeline.alerting.book import AlertBook
from pcc_pipeline.command_line import pcc
from pcc_pipeline.config.alert_settings import AlertRule
from pcc_pipeline.steps import promote
from pcc_pipeline.storage.objects import open_store
from tests import process_state
from tests.http_receiver import receiving

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.pipeline

# The sample's messages are years old, so the gate of the data's age, one of the default list, is left out.
GATES = (
    "--set",
    "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.8}, {kind: no_worse_than_champion}]'",
)


def test_refusal_force_and_rollback_stand_in_the_history_in_order(
    command: Any, one_version: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str, code: int = 0) -> Any:
        with process_state.entry_point_undone():
            monkeypatch.chdir(one_version.folder)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", one_version.uri)
            capfd.readouterr()
            assert pcc.main([*words]) == code
            return json.loads(capfd.readouterr().out)

    client, name = one_version.client, "pcc-intent-classifier"
    first = command("promote", *GATES, "--reason", "the first")
    assert first.code == 0, first.err
    assert "champion is version 1 now, before it nobody" in first.out
    trained = command("main", "--search-method", "none", "--set", "model.hyperparameters.C=0.001 registry.gates=[]")
    assert trained.code == 0
    promote_it = "make version 2 the champion: pcc promote --model models:/pcc-intent-classifier/2"
    assert f"next       {promote_it}\n           look at the runs: " in trained.out
    judged = command("evaluate", *GATES)
    assert (judged.code, "pcc promote" in judged.out) == (0, False)

    refused = command("promote", *GATES)
    assert refused.code == 1
    assert "the champion stays" in refused.err
    assert "minimum test/f1_macro" in refused.err
    assert "no_worse_than_champion f1_macro" in refused.err
    assert "Traceback" not in refused.err

    book = AlertBook(one_version.folder / "outputs/alerts")
    rule, bad = AlertRule(metric="drift/alarm", above=0), [("week 1", {"drift/alarm": 1.0})]
    version = client.get_model_version(name, "1").tags["pcc.version"]
    book.judge(name, [rule], bad, [], version=version)
    client.set_model_version_tag(name, "1", "pcc.alert", "messages have changed")
    unreasoned = command("promote", *GATES, "--force", "true")
    assert unreasoned.code == 1
    assert "force needs a reason" in unreasoned.err
    forced = command("promote", *GATES, "--force", "true", "--reason", "drill")
    assert "champion is version 2 now, before it version 1" in forced.out
    assert f"news       ended: {name} {version}: drift/alarm" in forced.out
    assert book.alerts == []
    assert "pcc.alert" not in client.get_model_version(name, "1").tags
    back = command("promote", "--rollback", "true", "--reason", "drill over")
    assert "champion is version 1 now, before it version 2" in back.out

    assert client.get_model_version_by_alias(name, "champion").version == 1
    assert client.get_model_version_by_alias(name, "previous").version == 2
    history = [run for run in one_version.runs() if run.data.tags.get("pcc.step") == "promote"]
    decisions = [run.data.tags["pcc.action"] for run in history]
    assert decisions == ["promoted", "refused", "forced", "rolled back"]
    assert [run.data.tags.get("pcc.move") for run in history] == ["1", None, "2", "3"]
    assert [run.info.status for run in history] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert history[2].data.tags["pcc.reason"] == "drill"
    beside = history[2].data.tags["pcc.beside_champion"]
    assert re.fullmatch(rf"f1_macro 0\.\d{{4}}, champion {version} [01]\.\d{{4}}, on \d+ test rows of which .*", beside)
    assert [run.data.tags["pcc.registered_version"] for run in history] == ["1", "2", "2", "1"]
    assert "FAILED" in history[1].data.tags["mlflow.note.content"]
    assert {"gates.html", "gates.json"} <= one_version.files(history[1])
    tags = client.get_model_version(name, "2").tags
    assert (tags["pcc.state"], tags["pcc.move_reason"]) == ("previous", "drill over")
    assert tags["pcc.move_run"] == history[3].info.run_id

    lines = asked("audit", "--json")
    told = [(line["what"], line["outcome"], line["on"].get("version"), line["reason"]) for line in lines]
    assert told == [
        ("log begun", "done", None, ""),
        ("promote", "begun", "1", "the first"),
        ("promote", "done", "1", "the first"),
        ("publish", "begun", "1", ""),
        ("publish", "done", "1", ""),
        ("promote", "refused", "2", ""),
        ("force", "begun", "2", "drill"),
        ("force", "done", "2", "drill"),
        ("alert", "ended", None, ""),
        ("publish", "begun", "2", ""),
        ("publish", "done", "2", ""),
        ("roll back", "begun", None, "drill over"),
        ("roll back", "done", "1", "drill over"),
        ("publish", "begun", "1", ""),
        ("publish", "done", "1", ""),
    ]
    assert [line["on"]["run"] for line in lines if line["outcome"] == "refused"] == [history[1].info.run_id]
    assert lines[7]["on"]["move"] == 2
    assert {line["who"] for line in lines[1:]} == {getpass.getuser()}
    assert [line["what"] for line in asked("audit", "--json", "--what", "force", "--since", "1h")] == ["force"] * 2
    assert asked("audit", "--json", "--who", "nobody") == asked("audit", "--json", "--since", "2100-01-01") == []

    whole = asked("audit", "verify", "--json")
    assert (whole["whole"], whole["lines"], whole["anchored"]) == (True, 15, 15)
    (file,) = (one_version.folder / "outputs/audit").glob("*.jsonl")
    content = file.read_bytes().splitlines(keepends=True)
    # Cut off, as of a log that had never held what was forced: the runs of the decisions know better.
    file.write_bytes(b"".join(content[:6]))
    cut = asked("audit", "verify", "--json", code=1)
    (fault,) = cut["faults"]
    assert re.fullmatch("lines 7 to 15, and perhaps more, were cut off: run [0-9a-f]{8} holds line 15", fault)
    assert asked("audit", "verify", "--json", "--offline")["whole"]
    (one_version.folder / "outputs/audit").rename(one_version.folder / "outputs/elsewhere")
    gone = asked("audit", "verify", "--json", code=1)
    assert "of 15 lines" in gone["faults"][0]
    assert asked("audit", "--json") == []


def test_a_log_that_cannot_be_written_holds_up_no_promotion_and_is_told_everywhere(
    command: Any, one_version: Any
) -> None:
    (one_version.folder / "file").touch()
    done = command("promote", *GATES, "--set", "audit.folder=file/audit")
    assert done.code == 0, done.err
    assert "champion is version 1 now" in done.out
    said = "warning    the audit log cannot be written: File exists (file/audit): that there was a promote (done)"
    assert said in done.out
    assert "the audit log cannot be written" in done.err
    assert "the audit log cannot be written" in one_version.step("promote").data.tags["pcc.audit_unwritten"]


def test_what_an_erasure_marks_while_it_is_judged_does_not_become_champion(
    command: Any, one_version: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judging takes minutes, and whoever asked for the mark before that has an old answer."""
    client, name, judge = one_version.client, "pcc-intent-classifier", promote.judge_version

    def marked_meanwhile(*arguments: Any, **named: Any) -> Any:
        judgement = judge(*arguments, **named)
        client.set_model_version_tag(name, "1", "pcc.erasure", "3f9a0c21b7de: learned from 6 rows of erased persons")
        return judgement

    monkeypatch.setattr(promote, "judge_version", marked_meanwhile)
    done = command("promote", *GATES, "--force", "true", "--reason", "drill")
    assert (done.code, "3f9a0c21b7de: learned from 6 rows" in done.err) == (1, True)
    assert "Traceback" not in done.err
    assert client.get_registered_model(name).aliases.keys() == {"challenger"}
    (decision,) = [run for run in one_version.runs() if run.data.tags.get("pcc.step") == "promote"]
    assert decision.data.tags["pcc.action"] == "not moved"


@pytest.mark.long
def test_the_measurement_of_a_judgement_is_an_evaluation_of_the_version(
    command: Any, store: Any, small_file: Path, outside: Any
) -> None:
    """A version that is trained and promoted, and one that is refused, have their test scores wherever one looks."""
    for strength, gate in (
        ("1", "{kind: encoder}"),
        ("0.0001", "{kind: minimum, metric: test/f1_macro, threshold: 1}"),
    ):
        weak = ("--set", f"model.hyperparameters.C={strength}")
        trained = command("train", "--data", str(small_file), "--search-method", "none", *weak)
        assert trained.code == 0, trained.err
        judged = command("promote", "--set", f"'registry.gates=[{gate}]'")
        assert "version" in judged.out + judged.err, judged.err
    first, second = (run for run in store.runs() if run.data.tags["pcc.step"] == "promote")
    assert [run.data.tags["pcc.action"] for run in (first, second)] == ["promoted", "refused"]
    evaluated = command("evaluate", "--model", "models:/pcc-intent-classifier/2")
    assert evaluated.code == 0, evaluated.err
    run = store.step("evaluate")
    known = ("pcc.training_run", "pcc.test_source", "pcc.test_rows_digest", "pcc.encoder_digest", "pcc.model_uri")
    assert [run.data.tags[name] for name in known] == [second.data.tags[name] for name in known]
    scores = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    # Parts of the rows are measured by `evaluate` alone.
    scores = {name: value for name, value in scores.items() if not name.startswith("test/slice/")}
    assert scores.items() <= second.data.metrics.items()
    model = store.client.get_logged_model(first.data.tags["pcc.model_uri"].removeprefix("models:/"))
    assert {"test/f1_macro", "test/f1_macro_low"} <= {metric.key for metric in model.metrics}
    # Before anything but the judgement measured them: the evaluation is taken away.
    store.client.delete_run(run.info.run_id)

    def asked(*arguments: str) -> str:
        process = outside(store.folder, sys.executable, str(REPOSITORY / "entrypoints/manage_models.py"), *arguments)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return str(out)

    found = json.loads(asked("summary", "--json"))
    assert [one["evaluated_by"] for one in found] == [first.info.run_id, second.info.run_id]
    assert [one["scores"]["test/f1_macro"]["value"] for one in found] == [
        run.data.metrics["test/f1_macro"] for run in (first, second)
    ]
    assert found[0]["measured_on"] == found[1]["measured_on"] == first.data.tags["pcc.test_rows_digest"]
    assert "not evaluated" not in asked("compare", "1", "2")
    assert re.search(r"tested +macro F1 0\.\d{4}, accuracy 0\.\d{4}", asked("status"))


@pytest.mark.long
def test_only_what_was_judged_becomes_champion(command: Any, one_version: Any) -> None:
    assert command("main", "--search-method", "none", "--set", "registry.model_name=other").code == 0
    for address in ("models:/other/1", f"runs:/{one_version.step('train').info.run_id}/model"):
        done = command("promote", "--set", "registry.gates=[]", "--model", address)
        assert done.code == 1
        assert "only a version of pcc-intent-classifier can become its champion" in done.err
    assert list(one_version.client.get_registered_model("pcc-intent-classifier").aliases) == ["challenger"]
    for wrong in (("--rollback", "true", "--model", "models:/pcc-intent-classifier/1"), ("--force", "maybe")):
        refused = command("promote", *wrong)
        assert (refused.code, "Traceback" in refused.err) == (1, False)


def test_a_training_that_ends_after_a_later_one_does_not_call_itself_the_challenger(
    command: Any, one_version: Any, small_file: Path
) -> None:
    client, name = one_version.client, "pcc-intent-classifier"
    client.set_model_version_tag(name, "1", "pcc.version", "v29991231_235959")
    trained = command("train", "--data", str(small_file), "--search-method", "none")
    assert trained.code == 0, trained.err
    assert re.search(rf"{name} version 2 \(v\w+\); challenger stays a version trained later\n", trained.out)
    assert int(client.get_model_version_by_alias(name, "challenger").version) == 1


def test_a_bucket_that_is_away_is_no_verdict_on_a_version(
    command: Any, store: Any, small_file: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stood on record as refused, and `retrain` never judged such a version again."""
    open_store(bucket).upload(small_file, "cases.parquet")
    trained = command("train", "--data", f"{bucket}/cases.parquet", "--search-method", "none")
    assert trained.code == 0, trained.err
    with receiving() as away, monkeypatch.context() as meanwhile:
        meanwhile.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{away.port}")
        stopped = command("promote", *GATES)
        assert (stopped.code, "the champion stays" in stopped.err, "Traceback" in stopped.err) == (1, False, False)
        assert f"cannot read: 501 GET http://127.0.0.1:{away.port}" in stopped.err
        assert f"where: {bucket}/cases.parquet" in stopped.err
        assert store.step("promote").data.tags.get("pcc.action") != "refused"
        forced = command("promote", *GATES, "--force", "true", "--reason", "it cannot wait for the bucket")
        assert forced.code == 0, forced.err
        assert "there are no test rows: cannot read" in forced.out
    judged = command("promote", "--set", "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.8}]'")
    assert judged.code == 0, judged.err
    gone = command("promote", *GATES, "--test-data", f"{bucket}/gone.parquet")
    assert (gone.code, "there is no such object" in gone.err) == (1, True)


@pytest.mark.long
def test_a_champion_that_cannot_be_loaded_is_no_dead_end(command: Any, one_version: Any) -> None:
    assert command("promote", *GATES).code == 0
    assert command("main", "--search-method", "none").code == 0
    champion = one_version.client.get_model_version_by_alias("pcc-intent-classifier", "champion")
    (model,) = [
        each
        for each in one_version.client.search_logged_models(
            [one_version.client.get_run(champion.run_id).info.experiment_id]
        )
        if each.source_run_id == champion.run_id
    ]
    folder = model.artifact_location.removeprefix("file://")
    (altered,) = list(Path(folder).rglob("classifier.skops"))
    altered.write_bytes(altered.read_bytes() + b"x")

    refused = command("promote", *GATES)
    assert refused.code == 1
    assert "version 1, cannot be loaded" in refused.err
    forced = command("promote", *GATES, "--force", "true", "--reason", "the champion is broken")
    assert forced.code == 0, forced.err
    assert "champion is version 2 now" in forced.out
    back = command("promote", "--rollback", "true")
    assert back.code == 1, "and nothing goes back to a model that was altered"
    assert one_version.client.get_model_version_by_alias("pcc-intent-classifier", "champion").version == 2
    last = one_version.step("promote")
    assert last.data.tags["pcc.action"] == "not moved"
