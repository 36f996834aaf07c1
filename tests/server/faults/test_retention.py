"""Old runs go with their models and files, dry run first; nothing that an alias points at, and nothing of others."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, ViewType

pytestmark = [pytest.mark.server, pytest.mark.pipeline]

DAY = 86_400_000


class Past:
    """Trees of runs of some days ago, as the pipeline leaves them, with small files in place of models."""

    def __init__(self, client: MlflowClient, experiment: str, folder: Path) -> None:
        self.client, self.name, self.folder = client, experiment, folder
        self.experiment = client.create_experiment(experiment)
        client.create_registered_model(experiment)

    def run(self, days: float, step: str, parent: str | None = None, **tags: str) -> str:
        start = int(time.time() * 1000 - days * DAY)
        given = {"pcc.step": step, **{name.replace("_", ".", 1): value for name, value in tags.items()}}
        if parent is not None:
            given["mlflow.parentRunId"] = parent
        run_id = self.client.create_run(self.experiment, start, given, run_name=step).info.run_id
        self.client.log_batch(run_id, [Metric("m", 1.0, start, 0)])
        self.client.log_text(run_id, "figures" * 100, f"figures/{step}.txt")
        self.client.set_terminated(run_id, "FINISHED", start + 1000)
        return run_id

    def model(self, run_id: str) -> str:
        model = self.client.create_logged_model(self.experiment, name="model", source_run_id=run_id)
        path = self.folder / "bundle.bin"
        path.write_bytes(b"x" * 5000)
        self.client.log_model_artifact(model.model_id, str(path))
        self.client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def version(self, run_id: str, model_id: str, *, alias: str = "", state: str = "") -> str:
        source = f"models:/{model_id}"
        version = self.client.create_model_version(self.name, source, run_id, model_id=model_id)
        if alias:
            self.client.set_registered_model_alias(self.name, alias, version.version)
        if state:
            self.client.set_model_version_tag(self.name, version.version, "pcc.state", state)
        return str(version.version)

    def tree(self, days: float, **options: Any) -> tuple[list[str], str]:
        """pipeline > train > trial, with a registered model; the runs, and the model."""
        root = self.run(days, "pipeline")
        train = self.run(days, "train", root)
        trial = self.run(days, "trial", train)
        model = self.model(train)
        self.version(train, model, **options)
        return [root, train, trial], model

    def there(self) -> set[str]:
        return {run.info.run_id for run in self.client.search_runs([self.experiment], "", ViewType.ACTIVE_ONLY)}


@pytest.fixture
def past(shell: Any, server: Any, mlflow_of_its_own: None) -> Past:
    mlflow.set_tracking_uri(server.address)
    return Past(MlflowClient(server.address), shell.experiment, shell.folder)


def in_bucket(server: Any, *names: str) -> list[str]:
    """Files of the bucket whose address holds one of the names."""
    found = [path.as_posix() for path in server.local.bucket_folder.rglob("*") if path.is_file()]
    return [path for path in found if any(name in path for name in names)]


@pytest.mark.long
def test_old_runs_go_with_their_models_and_what_is_needed_stays(past: Past, shell: Any, server: Any) -> None:
    old, old_model = past.tree(100)
    loose = past.run(95, "embed")
    staying = {
        "champion": past.tree(200, alias="champion"),
        "once champion": past.tree(300, state="previous"),
        "young": past.tree(20),
    }
    young_inside = past.run(100, "pipeline")
    inner = past.run(2, "train", young_inside)
    measured = past.run(100, "evaluate", pcc_training_run=staying["champion"][0][1])
    decision = past.run(400, "promote")
    running = past.client.create_run(past.experiment, int(time.time() * 1000 - 100 * DAY), {"pcc.step": "train"})
    others = past.client.create_run(past.experiment, int(time.time() * 1000 - 100 * DAY)).info.run_id
    past.client.set_terminated(others, end_time=int(time.time() * 1000 - 100 * DAY))
    whole = past.there()
    kept_runs = {run for runs, _ in staying.values() for run in runs}
    kept_runs |= {young_inside, inner, measured, decision, running.info.run_id, others}
    assert whole == kept_runs | {*old, loose}

    shown = shell.manage("retention", "--days", "90", "--json")
    assert shown.returncode == 0, shown.stdout
    document = json.loads(shown.stdout)
    assert document["removed"] is False
    assert {run for tree in document["runs"] for run in tree["runs"]} == {*old, loose}
    (tree,) = [tree for tree in document["runs"] if tree["models"]]
    assert tree["models"] == [old_model]
    assert tree["bytes"] >= 5000 + 2 * 700
    assert past.there() == whole
    assert in_bucket(server, old_model)
    assert "nothing was removed; --delete removes them" in shell.manage("retention", "--days", "90").stdout

    # Killed in the middle, it is completed by the next.
    first = shell.start("manage_models", "retention", "--days", "90", "--delete")
    deadline = time.monotonic() + 120
    while in_bucket(server, old_model) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=60)
    done = shell.manage("retention", "--days", "90", "--delete")
    assert done.returncode == 0, done.stdout
    assert past.there() == kept_runs
    assert not in_bucket(server, old_model, *old[:2], loose)
    for runs, model in staying.values():
        assert in_bucket(server, model)
        assert in_bucket(server, runs[0])
    models = {model.model_id for model in past.client.search_logged_models([past.experiment])}
    assert models == {model for _, model in staying.values()}
    assert len(past.client.search_model_versions(f"name='{past.name}'")) == 3
    assert past.client.get_model_version_by_alias(past.name, "champion").run_id == staying["champion"][0][1]
    assert "give 1 or more" in shell.manage("retention", "--days", "0").stdout
    again = shell.manage("retention", "--days", "90", "--delete")
    assert (again.returncode, "removed 0 runs" in again.stdout) == (0, True)
    assert "2 old ones stay: made a version that has an alias or was champion" in again.stdout


@pytest.mark.long
def test_an_account_that_may_not_delete_is_told_and_removes_nothing(past: Past, shell: Any, server: Any) -> None:
    runs, model = past.tree(100)
    name, password = f"trainer{time.time_ns()}", "a-trainers-password"
    command = [sys.executable, str(Path(__file__).parents[3] / "deploy" / "accounts.py"), "add", name]
    environment = {**server.environment, "PCC_ACCOUNT_PASSWORD": password}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    shell.environment |= {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
    refused = shell.manage("retention", "--days", "90", "--delete")
    assert refused.returncode == 1, refused.stdout
    assert "may not delete" in refused.stdout
    assert past.there() == set(runs)
    assert in_bucket(server, model)
    assert len(past.client.search_model_versions(f"name='{past.name}'")) == 1


def test_artifacts_that_go_to_the_bucket_directly_are_removed(
    past: Past, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the experiment's artifacts bypass the server."""
    from pcc_pipeline.tracking.store import expired

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.emulator_address)
    past.experiment = past.client.create_experiment(f"{past.name}-direct", f"gs://{server.bucket}/direct/{past.name}")
    old = past.run(100, "embed")
    young = past.run(10, "embed")
    assert in_bucket(server, old)
    (tree,) = expired.plan(past.experiment, 90, time.time()).going
    expired.remove(tree)
    expired.remove(tree)
    assert not in_bucket(server, old)
    assert in_bucket(server, young)
    assert past.there() == {young}
