"""`entrypoints/manage_models.py` as a user calls it, over a real store and over HTTP."""

from __future__ import annotations

import csv
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from tests import process_state

pytestmark = pytest.mark.pipeline
MARK = "Zanzibarkowski"
START = 1_767_268_800_000  # 2026-01-01 12:00 UTC
A, B = "v20260101_120000", "v20260101_120200"
Call = Callable[..., tuple[int, str, str]]


def fill(client: MlflowClient, artifacts: str, count: int = 4) -> None:
    """Trainings and evaluations by turns; every tenth failed; the first two versions are registered."""
    experiment = client.create_experiment("pcc-intent", artifact_location=artifacts)
    client.create_registered_model("pcc-intent-classifier")
    trained = version = ""
    for place in range(count):
        moment, training = START + place * 60_000, place % 2 == 0
        run_id = client.create_run(experiment, moment, run_name="train" if training else "evaluate").info.run_id
        if training:
            trained, version = run_id, f"v20260101_12{place // 60:02d}{place % 60:02d}"
            version = {0: A, 2: B}.get(place, version)
        side, value = ("val", 0.8) if training else ("test", 0.70 + min(place, 9) / 100)
        numbers = {"f1_macro": value, "f1_macro_low": value - 0.05, "f1_macro_high": value + 0.05, "rows": 200.0}
        tags = {"pcc.step": "train" if training else "evaluate", "pcc.version": version, "pcc.training_run": trained}
        tags["pcc.test_source"] = "later.csv"
        failed = place % 10 == 9
        if failed:
            tags["pcc.error"] = "DataError: 12 of 20 rows were rejected\n  where: cases.csv"
        client.log_batch(
            run_id,
            [Metric(f"{side}/{name}", number, moment, 0) for name, number in numbers.items()]
            + [Metric(f"{side}/class/{label}/f1", 0.5, moment, 0) for label in ("opt_out", "other")],
            [Param("model.type", "LinearSVC"), Param("best.C", str(place))],
            [RunTag(name, text) for name, text in tags.items()],
        )
        client.set_terminated(run_id, "FAILED" if failed else "FINISHED", moment + 30_000)
        if training and place < 4:
            number = client.create_model_version("pcc-intent-classifier", "gs://b/m", run_id, {"pcc.version": version})
            alias = "champion" if place == 0 else "challenger"
            client.set_registered_model_alias("pcc-intent-classifier", alias, number.version)


@pytest.fixture
def call(entrypoints: None, mlflow_store: Path, capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """`call("list", "--json")` in this process over this test's store: exit code, output, messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = importlib.import_module("manage_models").main(arguments)
        said = capfd.readouterr()
        return int(code), said.out, said.err

    with process_state.entry_point_undone():
        yield run


@pytest.fixture
def filled(mlflow_store: Path) -> None:
    fill(MlflowClient(), str(mlflow_store / "artifacts"), 12)


def answer(call: Call, *arguments: str) -> Any:
    code, out, err = call(*arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_list_shows_recent_runs_with_scores_places_and_reasons(call: Call, filled: None) -> None:
    code, out, err = call("list")
    assert (code, err) == (0, "")
    head, _, *rows = out.splitlines()
    assert head.split() == ["started", "(UTC)", "run", "step", "status", "version", "score", "seconds", "reason"]
    assert len(rows) == 12
    assert rows[0].startswith("2026-01-01 12:11")
    (failed,) = [row for row in rows if "FAILED" in row]
    assert failed.endswith("  12 of 20 rows were rejected")
    assert f"{A} #1 @champion" in rows[-1]
    assert "0.8000 val/f1_macro" in rows[-1]
    assert len(answer(call, "list", "--limit", "3")) == 3
    assert len(answer(call, "list", "--limit", "0", "--step", "train")) == 6
    (one,) = answer(call, "list", "--failed")
    assert one["error"].startswith("DataError: 12 of 20 rows were rejected\n")


@pytest.mark.parametrize("name", [A, A.replace("_", ""), "1", "@champion"])
def test_get_gives_one_version_with_its_test_scores(name: str, call: Call, filled: None) -> None:
    found = answer(call, "get", "--version", name)
    assert (found["version"], found["number"], found["aliases"]) == (A, "1", ["champion"])
    assert found["metrics"]["test/f1_macro"] == pytest.approx(0.71)
    assert found["metrics"]["val/f1_macro"] == 0.8
    out = call("get", "--version", name)[1]
    assert f"{A} #1 @champion" in out
    assert "0.7100 [0.6600, 0.7600]" in out


def test_latest_is_the_newest_training_that_finished(call: Call, filled: None) -> None:
    found = answer(call, "latest")
    assert (found["step"], found["params"]["best.C"]) == ("train", "10")


def test_summary_tells_performance_over_time(call: Call, filled: None) -> None:
    out = call("summary")[1].splitlines()
    assert out[0].split()[-1] == "change"
    assert "0.7100 [0.6600, 0.7600]" in out[2]
    assert out[3].endswith("+0.0200")
    assert any(line.startswith("highest test/f1_macro on rows A: 0.7900") for line in out)
    assert [row["version"] for row in answer(call, "summary")][:2] == [A, B]
    assert answer(call, "summary", "--metric", "val/rows")[0]["scores"]["val/rows"]["value"] == 200


def test_summary_compares_scores_on_the_same_test_rows_alone(call: Call, mlflow_store: Path) -> None:
    """Rows are told by their digest: another file's rows with a higher score, and no evaluation, are named as such."""
    client = MlflowClient()
    fill(client, str(mlflow_store / "artifacts"), 7)
    runs = client.search_runs(["1"], order_by=["attributes.start_time ASC"])
    evaluations = [run.info.run_id for run in runs if run.data.tags["pcc.step"] == "evaluate"]
    for run_id, digest in zip(evaluations, ("aaaa", "bbbb", "aaaa"), strict=True):
        client.set_tag(run_id, "pcc.test_rows_digest", digest)
    # The highest score of all, on other rows.
    client.log_metric(evaluations[1], "test/f1_macro", 0.99)
    # A refused promotion that measured the version; one of rows that could not be found measured nothing.
    for score, started in ((0.85, START + 500_000), (None, START + 600_000)):
        judged = client.create_run("1", started, run_name="promote").info.run_id
        tags = {"pcc.step": "promote", "pcc.training_run": runs[0].info.run_id, "pcc.test_rows_digest": "aaaa"}
        tags["pcc.beside_champion"] = "f1_macro 0.8500, champion v0 0.8000, on 200 test rows"
        for name, value in tags.items():
            client.set_tag(judged, name, value)
        if score is not None:
            client.log_batch(judged, [Metric(f"test/{name}", score, started, 0) for name in ("f1_macro", "accuracy")])
        client.set_terminated(judged, "FAILED", started + 1000)
    out = call("summary")[1].splitlines()
    head, first, second, third, fourth = (out[place] for place in (0, 2, 3, 4, 5))
    assert head.split()[-2:] == ["rows", "change"]
    assert first.split()[-1] == "A"
    assert "0.8500" in first
    assert second.split()[-4:] == ["B", "on", "other", "rows"]
    assert third.split()[-2:] == ["A", "-0.1000"]
    assert fourth.count("not evaluated") == 2
    assert "4 trainings, 0 failed, 3 evaluated" in out
    assert f"highest test/f1_macro on rows A: 0.8500 by {A}, of 2 versions measured on them" in out
    assert "1 measured on other rows: scores on different rows tell no versions apart." in out
    assert out[-1] == f"on the same rows, by its gate: {A} f1_macro 0.8500, champion v0 0.8000, on 200 test rows"
    assert "tested on different rows" in call("compare", "1", "2")[1]
    assert [one["measured_on"] for one in answer(call, "summary")] == ["aaaa", "bbbb", "aaaa", None]


def test_compare_lays_scores_with_intervals_and_differing_parameters_side_by_side(call: Call, filled: None) -> None:
    out = call("compare", A.replace("_", ""), "2")[1]
    assert "0.7100 [0.6600, 0.7600]  0.7300 [0.6800, 0.7800]  +0.0200" in out
    assert "best.C" in out
    assert "model.type" not in out
    assert "class/" not in out
    assert "The intervals of test/f1_macro overlap" in out
    assert "model.type" in call("compare", "1", "2", "--all")[1]
    found = answer(call, "compare", "1", "2")
    (row,) = [row for row in found["metrics"] if row["name"] == "test/f1_macro"]
    assert (row["a"]["low"], row["b"]["high"]) == pytest.approx((0.66, 0.78))


def test_export_writes_every_run_as_csv_or_json(call: Call, filled: None, tmp_path: Path) -> None:
    code, out, _ = call("export", "--output", "runs.csv")
    assert (code, out) == (0, "wrote 12 runs to runs.csv\n")
    with (tmp_path / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[-1]["metrics.val/f1_macro"] == "0.8"
    assert rows[-1]["params.best.C"] == "0"
    assert rows[-1]["aliases"] == "champion"
    assert len(json.loads(call("export", "--format", "json")[1])) == 12


def test_import_brings_the_older_registry_in_once_and_shows_it(call: Call, mlflow_store: Path) -> None:
    entry = {
        "run_id": "r1",
        "timestamp": "2025-07-29T08:43:52",
        "model_version": "v20250729084352",
        "status": "success",
    }
    entry |= {"metrics": {"f1_macro": 0.9}, "notes": f"{MARK} wrote"}
    document = {"runs": [entry, {**entry, "run_id": "r2", "status": MARK}]}
    (mlflow_store / "model_registry.json").write_text(json.dumps(document), encoding="utf-8")
    code, out, err = call("import", "model_registry.json")
    assert (code, err) == (0, "")
    assert out.startswith("imported 1 run into pcc-intent, 0 were there already, 1 entry is bad\n  entry 2 (r2):")
    assert answer(call, "import", "model_registry.json")["already_there"] == 1
    assert answer(call, "get", "--version", "v20250729084352")["step"] == "legacy"
    shown = call("list")[1] + call("summary")[1]
    assert "0.9000 legacy/f1_macro" in shown
    assert MARK not in out + shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get", "--version", "v20990101_000000"], "there is no version 'v20990101_000000'"),
        (["list", "--experiment", "nowhere"], "the experiment nowhere does not exist"),
        (["list", "--limit", "-1"], "--limit cannot be negative"),
        (["import", "missing.json"], "there is no such file"),
        (["import", "broken.json"], "the file is not readable JSON"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_1(
    arguments: list[str], message: str, call: Call, filled: None, tmp_path: Path
) -> None:
    (tmp_path / "broken.json").write_text(f"{{{MARK}", encoding="utf-8")
    code, out, err = call(*arguments)
    assert (code, out) == (1, "")
    assert f"error: {message}" in err
    assert "Traceback" not in err
    assert MARK not in err


@pytest.mark.long
def test_it_answers_over_http_with_few_requests(tmp_path: Path, empty_mlflow_database: Path) -> None:
    """120 runs; the count of requests must not grow with them."""
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_mlflow_database.read_bytes())
    fill(MlflowClient(f"sqlite:///{database}"), str(tmp_path / "artifacts"), 120)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PCC_"))}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    log = tmp_path / "server.log"
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{database}", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--workers", "1", "--uvicorn-opts", "--log-level=info"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=kept | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(f"{address}/health", server, log)
        asked = log.read_text(errors="replace").count("/api/")
        script = str(Path(__file__).parents[2] / "entrypoints" / "manage_models.py")
        done = subprocess.run(
            [sys.executable, script, "list", "--limit", "0", "--json"],
            cwd=tmp_path,
            env=kept | {"MLFLOW_TRACKING_URI": address},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(json.loads(done.stdout)) == 120
        requests = log.read_text(errors="replace").count("/api/") - asked
        assert 3 <= requests <= 8, requests
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
    done = subprocess.run(
        [sys.executable, script, "list"],
        cwd=tmp_path,
        env=kept | {"MLFLOW_TRACKING_URI": address},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "error: no MLflow server answers" in done.stderr
    assert "Traceback" not in done.stderr


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(log.read_text(errors="replace"))
