"""What a step may log, as types; `write` is the one function that writes them to MLflow."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException

from pcc_pipeline.files import scratch_folder
from pcc_pipeline.masking import in_utf8

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# MLflow takes 100 params, 100 tags and 1000 entities in all in one log_batch call.
_METRICS_PER_CALL, _OTHERS_PER_CALL = 800, 100
# MLflow takes 1000 in one log_inputs call.
_INPUTS_PER_CALL = 1000
# Sharp on screens of two pixels a point.
_DOTS_PER_INCH = 200
# Stands for the model of the run, whose id is known once it is logged.
OF_THE_MODEL = "@model"
# What MLflow shows as a run's description.
_NOTE_TAG = "mlflow.note.content"
# As many digits of a digest as a person compares; MLflow takes 36 for a data set, whose profile has them all.
_SHORT_DIGEST = 12
_DATASET_NAME = 500
# In the words of PostgreSQL, SQLite and MySQL.
_MADE_MEANWHILE = re.compile(r"dataset_pk|UNIQUE constraint failed: datasets|Duplicate entry .*dataset")


@dataclass(frozen=True)
class LoggedParams:
    """Dotted key -> value, as MLflow lists them among a run's params."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Metrics:
    """Name -> value; with `model_id` they also stand on the logged model's page."""

    values: Mapping[str, float]
    model_id: str | None = None
    step: int = 0


@dataclass(frozen=True)
class Tags:
    """Name -> value."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class Json:
    """A document, written as `name`."""

    name: str
    document: Any


@dataclass(frozen=True)
class Text:
    """A text file, written as `name`."""

    name: str
    text: str


@dataclass(frozen=True)
class Binary:
    """A file of bytes, written as `name`."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Table:
    """A table, written as Parquet under `name`. It must hold no customer's text."""

    name: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Figures:
    """File stem -> drawing, or the bytes of one that `drawn` made; written as figures/<stem>.png."""

    drawings: Mapping[str, Drawing | bytes]


@dataclass(frozen=True)
class Note:
    """Markdown that a person reads first on the run's page. It must hold nothing that a customer wrote but labels."""

    markdown: str


@dataclass(frozen=True)
class InputFile:
    """A file that a run read, as MLflow lists it among the run's data sets: what it is and where it lies, no rows.

    Attributes:
        use: what for: such as `training`, `testing`, `scoring`, `embedding` or `monitoring`.
        digest: 64 hex digits over its good rows.
        rows: good and rejected.
    """

    source: str
    use: str
    digest: str
    rows: int

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.source.rstrip("/").rpartition("/")[2] or self.source


@dataclass(frozen=True)
class Inputs:
    """The files that a run read."""

    files: Sequence[InputFile]


@dataclass(frozen=True)
class Models:
    """Ids of logged models that a run made, itself or by a run within it, and of those that it used."""

    made: Sequence[str] = ()
    used: Sequence[str] = ()


Payload = LoggedParams | Metrics | Tags | Json | Text | Binary | Table | Figures | Note | Inputs | Models


@dataclass(frozen=True)
class Number:
    """One value of a metric; `model_id` may be `OF_THE_MODEL` while the run's model is not logged yet."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None


@dataclass(frozen=True)
class Batch:
    """The numbers and words of some payloads, in a form that writes the same thing however often it is written."""

    metrics: tuple[Number, ...] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[InputFile, ...] = ()
    models_made: tuple[str, ...] = ()
    models_used: tuple[str, ...] = ()


def rendered(payloads: Iterable[Payload], folder: Path) -> Batch:
    """The numbers and words of payloads; their files are written into the empty `folder`.

    Raises:
        TypeError: a payload of unknown type.
    """
    metrics: list[Number] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    inputs: list[InputFile] = []
    made: list[str] = []
    used: list[str] = []
    now = int(time.time() * 1000)
    for payload in payloads:
        match payload:
            case LoggedParams(values):
                params |= values
            case Metrics(values, model_id, step):
                metrics += [Number(key, value, now, step, model_id) for key, value in values.items()]
            case Tags(values):
                tags |= values
            case Note(markdown):
                tags[_NOTE_TAG] = markdown
            case Inputs(files):
                inputs += files
            case Models(some_made, some_used):
                made += some_made
                used += some_used
            case Json() | Text() | Binary() | Table() | Figures():
                _write(payload, folder)
            case _:
                raise TypeError(f"cannot log a {type(payload).__name__}")
    return Batch(tuple(metrics), params, tags, tuple(inputs), tuple(made), tuple(used))


def write(client: MlflowClient, run_id: str, batch: Batch, folder: Path, model_id: str | None = None) -> None:
    """Write a batch and the files of a folder to a run; doing it twice makes no difference.

    Args:
        folder: may be missing, for no files.
        model_id: what `OF_THE_MODEL` stands for.
    """
    metrics = [
        Metric(
            one.key,
            one.value,
            one.timestamp,
            one.step,
            model_id=model_id if one.model_id == OF_THE_MODEL else one.model_id,
        )
        for one in batch.metrics
    ]
    params = [Param(key, value) for key, value in batch.params.items()]
    tags = [RunTag(key, value) for key, value in batch.tags.items()]
    for part in _batches(metrics, params, tags):
        client.log_batch(run_id, *part)
    for start in range(0, len(batch.inputs), _INPUTS_PER_CALL):
        _log_datasets(client, run_id, [_dataset(file) for file in batch.inputs[start : start + _INPUTS_PER_CALL]])
    if batch.models_used:
        client.log_inputs(run_id, models=[LoggedModelInput(model) for model in batch.models_used])
    if batch.models_made:
        link_made(client, run_id, batch.models_made)
    if folder.is_dir() and any(folder.iterdir()):
        client.log_artifacts(run_id, str(folder))


def _log_datasets(client: MlflowClient, run_id: str, datasets: list[DatasetInput]) -> None:
    """Log them, all or none.

    Where several runs of an experiment name a new file at the same moment, MLflow 3.17's store fails all but one:
    "duplicate key value violates unique constraint "dataset_pk"". The next time they find it there.
    """
    try:
        client.log_inputs(run_id, datasets)
    except MlflowException as error:
        if not _MADE_MEANWHILE.search(str(error)):
            raise
        client.log_inputs(run_id, datasets)


def link_made(client: MlflowClient, run_id: str, models: Sequence[str]) -> None:
    """Name models as made by a run, where it does not name them yet.

    MLflow 3.17's store refuses to link one twice: "UNIQUE constraint failed: inputs…".
    """
    outputs = client.get_run(run_id).outputs
    linked = [output.model_id for output in (outputs.model_outputs if outputs else [])]
    if new := [LoggedModelOutput(model, step=0) for model in models if model not in linked]:
        client.log_outputs(run_id, new)


def log(client: MlflowClient, run_id: str, payloads: Iterable[Payload]) -> None:
    """Write payloads to a run at once: one batch call for numbers and tags, one upload for all files.

    Raises:
        TypeError: a payload of unknown type.
    """
    with scratch_folder() as folder:
        write(client, run_id, rendered(payloads, folder), folder)


def _dataset(file: InputFile) -> DatasetInput:
    kind = "gs" if file.source.startswith("gs://") else "local"
    profile = json.dumps({"rows": file.rows, "sha256": file.digest})
    source = in_utf8(json.dumps({"uri": file.source}, ensure_ascii=False))
    described = Dataset(in_utf8(file.name)[:_DATASET_NAME], file.digest[:_SHORT_DIGEST], kind, source, profile=profile)
    return DatasetInput(described, [InputTag("mlflow.data.context", file.use)])


def drawn(drawings: Mapping[str, Drawing | bytes]) -> dict[str, bytes]:
    """Drawings as PNG, for those that go to several places."""
    made: dict[str, bytes] = {}
    for stem, drawing in drawings.items():
        if isinstance(drawing, bytes):
            made[stem] = drawing
        else:
            picture = io.BytesIO()
            drawing.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
            made[stem] = picture.getvalue()
    return made


def json_text(document: Any) -> str:
    """A document as it is written everywhere: indented, UTF-8, no NaN."""
    return in_utf8(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _write(payload: Json | Text | Binary | Table | Figures, folder: Path) -> None:
    match payload:
        case Json(name, document):
            (folder / name).write_text(json_text(document), encoding="utf-8")
        case Text(name, text):
            (folder / name).write_text(text, encoding="utf-8")
        case Binary(name, content):
            (folder / name).write_bytes(content)
        case Table(name, frame):
            frame.to_parquet(folder / name, index=False)
        case Figures(drawings):
            (folder / "figures").mkdir(exist_ok=True)
            for stem, picture in drawn(drawings).items():
                (folder / "figures" / f"{stem}.png").write_bytes(picture)


def _batches(
    metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
) -> Iterable[tuple[Sequence[Metric], Sequence[Param], Sequence[RunTag]]]:
    start = 0
    while start * _OTHERS_PER_CALL < max(len(params), len(tags)) or start * _METRICS_PER_CALL < len(metrics):
        yield (
            metrics[start * _METRICS_PER_CALL : (start + 1) * _METRICS_PER_CALL],
            params[start * _OTHERS_PER_CALL : (start + 1) * _OTHERS_PER_CALL],
            tags[start * _OTHERS_PER_CALL : (start + 1) * _OTHERS_PER_CALL],
        )
        start += 1
