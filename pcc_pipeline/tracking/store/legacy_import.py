"""The older system's JSON registry, brought into MLflow as runs: once, however often it is asked for.

Free text (notes, and values with spaces in them) may quote a customer, so it is left out unless asked for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Experiment, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

from pcc_pipeline.errors import DataError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.tracking import run_names
from pcc_pipeline.tracking.payloads import LoggedParams, Metrics, Payload, Tags, log
from pcc_pipeline.tracking.registry.versions import VERSION_TAG, asking
from pcc_pipeline.tracking.store.past_runs import LEGACY_STEP, canonical_version, recent_runs

RUN_TAG = "pcc.legacy_run_id"
_FINISHED = {"success", "succeeded", "successful", "complete", "completed", "finished", "done", "ok"}
_FAILED = {"failed", "failure", "fail", "error", "aborted", "killed", "cancelled", "canceled", "running", "started"}
_LONGEST_VALUE, _LONGEST_KEY, _LONGEST_NAME = 4000, 60, 200


@dataclass(frozen=True)
class LegacyRun:
    """One entry of the older registry, checked.

    Attributes:
        metrics, params, tags: under the names that they get in MLflow.
        left_out: names of values that cannot or must not be brought in.
    """

    run_id: str
    pcc_version: str
    started: datetime
    ended: datetime
    finished: bool
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class BadEntry:
    """An entry that was not brought in: its place in the file from 1, its run_id if that can be shown, and why."""

    place: int
    run_id: str
    reason: str


@dataclass(frozen=True)
class LegacyImport:
    """What an import did; `left_out` counts the names of values that stayed behind."""

    experiment: str
    imported: tuple[str, ...]
    already_there: int
    bad: tuple[BadEntry, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


class _BadEntryError(ValueError):
    """The message is shown to the user: it names fields and quotes no values."""


def import_runs(document: Any, experiment: Experiment, *, free_text: bool = False) -> LegacyImport:
    """Bring every entry in that is not there yet; one that an earlier import left half-done is completed.

    Args:
        document: `{"runs": [...]}` of the older system.
        free_text: also notes and values with spaces in them; only if no customer's words stand there.

    Raises:
        DataError: the document is no such registry.
        TrackingError: MLflow does not answer; what came in before it stays, and the next import goes on.
    """
    entries = document.get("runs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise DataError('the file holds no registry of the older system: {"runs": [...]} is expected')
    there = {run.tags.get(RUN_TAG, ""): run for run in recent_runs(experiment, step=LEGACY_STEP)}
    seen: dict[str, int] = {}
    imported: list[str] = []
    bad: list[BadEntry] = []
    left_out: dict[str, int] = {}
    already = 0
    for place, entry in enumerate(entries, start=1):
        try:
            legacy = read_entry(entry, free_text=free_text)
            if legacy.run_id in seen:
                raise _BadEntryError(f"its run_id stands in entry {seen[legacy.run_id]} already")
            seen[legacy.run_id] = place
            half = there.get(legacy.run_id)
            if half is not None and half.status != "RUNNING":
                already += 1
                continue
            _write(legacy, experiment, half.run_id if half is not None else None)
        except _BadEntryError as error:
            bad.append(BadEntry(place, _shown_id(entry), str(error)))
            continue
        imported.append(legacy.run_id)
        for name in legacy.left_out:
            left_out[name] = left_out.get(name, 0) + 1
    return LegacyImport(experiment.name, tuple(imported), already, tuple(bad), left_out)


def read_entry(entry: Any, *, free_text: bool = False) -> LegacyRun:
    """Check one entry and give its values their names in MLflow.

    Raises:
        ValueError: what is wrong with it, naming the field and quoting no value.
    """
    if not isinstance(entry, dict):
        raise _BadEntryError("it is not an object")
    run_id = entry.get("run_id")
    if not isinstance(run_id, str) or not re.fullmatch(r"[\w.:\-]{1,200}", run_id):
        raise _BadEntryError("run_id is missing or not a name of letters, digits, '_', '-', '.' and ':'")
    for name in ("metrics", "hyperparameters", "data_info", "gcs_paths"):
        if not isinstance(entry.get(name) or {}, dict):
            raise _BadEntryError(f"{name} is not an object")
    started, seconds, finished = _started(entry), _seconds(entry), _finished(entry)
    left_out: list[str] = []
    metrics: dict[str, float] = {}
    params: dict[str, str] = {}
    paths: dict[str, str] = {}
    for name, value in _leaves(entry.get("metrics") or {}, "/"):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            left_out.append(f"metrics.{name}")
        else:
            metrics[f"legacy/{name}"] = float(value)
    for source, prefix, target in (
        ("hyperparameters", "best", params),
        ("data_info", "legacy.data_info", params),
        ("gcs_paths", "pcc.legacy.gcs_paths", paths),
    ):
        for name, value in _leaves(entry.get(source) or {}, "."):
            text = _text(value, free_text)
            if text is None or len(f"{prefix}.{name}") > _LONGEST_NAME:
                left_out.append(f"{source}.{name}")
            else:
                target[f"{prefix}.{name}"] = text
    words: dict[str, str] = {}
    for name in ("model_version", "embedding_model", "status", "notes"):
        value = entry.get(name)
        text = _text(value, free_text)
        if value not in (None, "") and (text is None or (name == "notes" and not free_text)):
            left_out.append(name)
        elif text:
            words[name] = text
    if "embedding_model" in words:
        params["preprocessing.embedding_model"] = words["embedding_model"]
    version = words.get("model_version", "")
    tags = {**paths, **{f"pcc.legacy.{name}": words[name] for name in ("model_version", "status") if name in words}}
    if version:
        tags[VERSION_TAG] = canonical_version(version)
    if "notes" in words:
        tags["mlflow.note.content"] = words["notes"]
    if not finished:
        tags["pcc.error"] = words.get("notes") or "failed in the older system; its registry file may say why"
    return LegacyRun(
        run_id,
        tags.get(VERSION_TAG, ""),
        started,
        started + timedelta(seconds=seconds),
        finished,
        {name[:_LONGEST_NAME]: value for name, value in metrics.items()},
        params,
        tags,
        tuple(left_out),
    )


def _started(entry: Mapping[str, Any]) -> datetime:
    value = entry.get("timestamp")
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            moment = datetime.fromtimestamp(value, UTC)
        else:
            moment = datetime.fromisoformat(str(value))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if moment.timestamp() >= 0:
            return moment
    except (ValueError, OverflowError, OSError):
        pass
    # Outside the handler: the first error quotes the value.
    raise _BadEntryError("timestamp is missing or not an ISO 8601 time since 1970")


def _seconds(entry: Mapping[str, Any]) -> float:
    seconds = entry.get("processing_duration_seconds")
    if seconds is None:
        return 0.0
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        raise _BadEntryError("processing_duration_seconds is not a number of seconds")
    return float(seconds)


def _finished(entry: Mapping[str, Any]) -> bool:
    status = str(entry.get("status", "")).strip().lower()
    if status in _FINISHED | _FAILED:
        return status in _FINISHED
    raise _BadEntryError("status is missing or unknown; it should say success or failed")


def _leaves(mapping: Mapping[str, Any], mark: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of every value within nested objects, with names that MLflow takes."""
    names = metric_names([str(key) for key in mapping])
    for key, value in mapping.items():
        # A longer key is no name; it may be a text.
        short = names[str(key)] if len(str(key)) <= _LONGEST_KEY else "(long name)"
        name = f"{prefix}{mark}{short}" if prefix else short
        if isinstance(value, dict):
            yield from _leaves(value, mark, name)
        elif value is not None:
            yield name, None if short == "(long name)" else value


def _text(value: Any, free_text: bool) -> str | None:
    """A value as MLflow may hold it; None for what may be a customer's words, and for what is too long."""
    if isinstance(value, list):
        if not free_text and any(_text(item, free_text) is None for item in value):
            return None
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, str):
        text = value.strip()
        if not free_text and re.search(r"\s", text):
            return None
    elif isinstance(value, bool | int | float):
        text = str(value)
    else:
        return None
    return text if len(text) <= _LONGEST_VALUE else None


def _shown_id(entry: Any) -> str:
    run_id = entry.get("run_id") if isinstance(entry, dict) else None
    return run_id if isinstance(run_id, str) and re.fullmatch(r"[\w.:\-]{1,200}", run_id) else ""


def _write(legacy: LegacyRun, experiment: Experiment, half: str | None) -> None:
    """One run, closed last: until then an import counts as half-done."""
    client = MlflowClient()
    start, end = (int(moment.timestamp() * 1000) for moment in (legacy.started, legacy.ended))
    name = run_names.of_older_run(legacy.pcc_version, legacy.run_id)
    with asking(f"run {legacy.run_id} of the older system"):
        if half is None:
            tags = {RUN_TAG: legacy.run_id, "pcc.step": LEGACY_STEP, MLFLOW_RUN_NAME: name}
            half = client.create_run(experiment.experiment_id, start, tags, run_name=name).info.run_id
        payloads: list[Payload] = [Metrics(legacy.metrics), LoggedParams(legacy.params), Tags(legacy.tags)]
        try:
            log(client, half, payloads)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(INVALID_PARAMETER_VALUE):
                raise
            client.delete_run(half)
            refused = True
        else:
            refused = False
            status = RunStatus.FINISHED if legacy.finished else RunStatus.FAILED
            client.set_terminated(half, RunStatus.to_string(status), end)
    if refused:
        raise _BadEntryError("MLflow refused its values")
