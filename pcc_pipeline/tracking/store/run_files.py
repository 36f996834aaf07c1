"""The files of a run that has ended, one by one: listed, fetched, replaced."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pcc_pipeline.files import scratch_folder
from pcc_pipeline.tracking.registry.versions import asking


class RunFiles:
    """Those of one run.

    Attributes:
        is_deleted: the run is in MLflow's bin, where its files stay.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        with asking(f"run {run_id}"):
            run = MlflowClient().get_run(run_id)
            self.is_deleted = run.info.lifecycle_stage == LifecycleStage.DELETED
            self._repository: Any = get_artifact_repository(str(run.info.artifact_uri))

    def names(self) -> list[str]:
        """Every file, by its path among the run's artifacts.

        Raises:
            TrackingError: MLflow does not answer.
        """
        names, waiting = list[str](), [""]
        with asking(f"files of run {self.run_id}"):
            while waiting:
                for entry in self._repository.list_artifacts(waiting.pop() or None):
                    (waiting if entry.is_dir else names).append(entry.path)
        return sorted(names)

    @contextmanager
    def fetched(self, name: str) -> Iterator[Path]:
        """A copy of a file on this machine, for the block.

        Raises:
            TrackingError: MLflow does not answer, or there is no such file.
        """
        with scratch_folder() as folder:
            with asking(f"{name} of run {self.run_id}"):
                folder.mkdir(parents=True, exist_ok=True)
                fetched = Path(self._repository.download_artifacts(name, str(folder)))
                # Of a local store, that may be the file itself.
                if not fetched.is_relative_to(folder):
                    fetched = Path(shutil.copyfile(fetched, folder / PurePosixPath(name).name))
            yield fetched

    def replace(self, name: str, content: Path) -> None:
        """Put other content under the name of a file; `content` is called so, too.

        Raises:
            TrackingError: MLflow refuses or does not answer.
        """
        folder = str(PurePosixPath(name).parent)
        with asking(f"{name} of run {self.run_id}"):
            self._repository.log_artifact(str(content), None if folder == "." else folder)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run.

        Raises:
            TrackingError: MLflow refuses or does not answer.
        """
        client = MlflowClient()
        with asking(f"run {self.run_id}"):
            if self.is_deleted:  # which takes no tags
                client.restore_run(self.run_id)
            try:
                for name, value in tags.items():
                    client.set_tag(self.run_id, name, value)
            finally:
                if self.is_deleted:
                    client.delete_run(self.run_id)
