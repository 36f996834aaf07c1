"""Entry points as a user starts them, against the server: in folders and experiments of each test's own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from pcc_pipeline.data.sample.messages import sample

REPOSITORY = Path(__file__).parents[3]
TRIALS = 10
# A forest whose trials take a while each, one after the other.
SEARCH = [
    *("--model-type", "RandomForest", "--n-iter", str(TRIALS), "--set"),
    "model.cv_folds=2 search.n_jobs=1 model.refit=false "
    "model.search_space={n_estimators:[300,310,320,330,340,350],max_depth:[4,5,6,7]}",
]


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 labelled rows with vectors: no encoder is needed."""
    frame = sample(160)
    rng = np.random.default_rng(0)
    centres = {label: rng.normal(size=384) for label in sorted(set(frame["intent"]))}
    vectors = [centres[label] + 4 * rng.normal(size=384) for label in frame["intent"]]
    path = tmp_path_factory.mktemp("cases") / "cases.parquet"
    frame.assign(embeddings=[vector.astype(np.float32).tolist() for vector in vectors]).to_parquet(path, index=False)
    return path


@dataclass
class Shell:
    """Entry points as a user starts them, in a folder and with an environment of this test's."""

    folder: Path
    environment: dict[str, str]
    client: MlflowClient
    experiment: str

    @property
    def params_file(self) -> str:
        return str(REPOSITORY / "params.yaml")

    @property
    def unlogged(self) -> Path:
        return self.folder / "outputs" / "unlogged"

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        given = [sys.executable, str(REPOSITORY / "entrypoints" / f"{script}.py"), *arguments]
        with (self.folder / f"{script}.log").open("ab") as log:
            return subprocess.Popen(
                given,
                cwd=self.folder,
                env={**self.environment, "PYTHONPATH": str(REPOSITORY), **environment},
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def train(self, cases: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        given = ["--params-file", str(REPOSITORY / "params.yaml"), "--data", str(cases), *SEARCH, *arguments]
        return self.start("train", *given, **environment)

    def said(self, script: str) -> str:
        return (self.folder / f"{script}.log").read_text()

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start("manage_models", *arguments)
        code = process.wait(timeout=240)
        text = self.said("manage_models")
        (self.folder / "manage_models.log").unlink()
        return subprocess.CompletedProcess(arguments, code, text)

    def runs(self) -> list[Run]:
        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            return []
        return list(self.client.search_runs([found.experiment_id], "", ViewType.ALL, max_results=1000))

    def step(self, name: str) -> list[Run]:
        return [run for run in self.runs() if run.data.tags.get("pcc.step") == name]

    def kept(self) -> list[Path]:
        return sorted(path for path in self.unlogged.glob("*/*/operation.json") if not path.parent.name.startswith("."))

    def wait_for(self, condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert process.poll() is None, self.said("train")
            assert time.monotonic() < deadline, self.said("train")
            time.sleep(0.2)

    def demand_whole_training(self) -> None:
        """Every trial once and complete, one model, one version with its alias."""
        (train,) = self.step("train")
        trials = self.step("trial")
        assert sorted(run.info.run_name for run in trials) == [f"trial-{number:03d}" for number in range(TRIALS)]
        assert {run.info.status for run in [train, *trials]} == {"FINISHED"}
        assert "pcc.error" not in train.data.tags
        for run in trials:
            assert run.data.tags["mlflow.parentRunId"] == train.info.run_id
            assert {"cv/f1_macro_mean", "trial/seconds"} <= set(run.data.metrics)
            assert "model.hyperparameters.n_estimators" in run.data.params
            history = self.client.get_metric_history(run.info.run_id, "cv/f1_macro")
            assert [item.step for item in history] == [0, 1]
        files = {file.path for file in self.client.list_artifacts(train.info.run_id)}
        assert {"metrics.json", "metadata.json", "params.yaml", "trials.parquet", "rejected.parquet"} <= files
        assert "val/f1_macro" in train.data.metrics
        assert train.data.params["model.type"] == "RandomForest"
        (model,) = self.client.search_logged_models([train.info.experiment_id])
        (version,) = self.client.search_model_versions(f"name='{self.experiment}'")
        assert version.source == f"models:/{model.model_id}"
        assert version.run_id == train.info.run_id
        assert self.client.get_model_version_by_alias(self.experiment, "challenger").version == version.version
        assert {metric.key for metric in model.metrics or []} >= {"val/f1_macro"}
        assert not self.unlogged.exists(), self.kept()


@pytest.fixture
def new_shell() -> type[Shell]:
    return Shell


@pytest.fixture
def shell(server: Any, client: MlflowClient, tmp_path: Path, request: pytest.FixtureRequest) -> Shell:
    name = f"faults-{request.node.name[:40]}-{time.time_ns()}".replace("[", "-").replace("]", "")
    environment = {**server.environment, "MLFLOW_EXPERIMENT_NAME": name, "PCC_REGISTRY__MODEL_NAME": name}
    return Shell(tmp_path, environment, client, name)


@pytest.fixture
def here(server: Any, shell: Shell, mlflow_of_its_own: None, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """This process as a client of the server, in the test's folder."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", shell.experiment)
    monkeypatch.chdir(shell.folder)
    mlflow.set_tracking_uri(server.address)
    return shell
