"""The monitoring log: one JSON line for each time a model was run on cases, also when that failed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pcc_pipeline.errors import StorageError
from pcc_pipeline.files import private_file, private_folder
from pcc_pipeline.tracking.runs import describe


@dataclass
class Monitor:
    """What a step fills in while it works; everything else of the line is known or measured."""

    run_id: str
    model_version: str | None = None
    embedding_model: str | None = None
    total_cases: int = 0
    passed_validation: int = 0
    dropped_cases: int = 0
    notes: str | None = None


@contextmanager
def monitored(path: Path, run_id: str) -> Iterator[Monitor]:
    """Append one line to the log at `path` when the block ends, with status `success` or `failed`.

    Raises:
        StorageError: the log cannot be written; an error of the block itself comes first.
    """
    monitor = Monitor(run_id)
    started, began = datetime.now(UTC), time.perf_counter()
    try:
        yield monitor
    except BaseException as error:  # a run that was ended from outside has its line too; raised again below
        try:
            _append(path, _line(monitor, started, began, "failed", describe(error)))
        except StorageError as unwritten:
            error.add_note(str(unwritten))
        raise
    _append(path, _line(monitor, started, began, "success", None))


def _line(monitor: Monitor, started: datetime, began: float, status: str, error: str | None) -> str:
    fields = asdict(monitor)
    document = {
        "run_id": fields["run_id"],
        "model_version": fields["model_version"],
        "embedding_model": fields["embedding_model"],
        "partition_date": started.date().isoformat(),
        "runtime_ts": started.isoformat(),
        "status": status,
        "total_cases": fields["total_cases"],
        "passed_validation": fields["passed_validation"],
        "dropped_cases": fields["dropped_cases"],
        "notes": fields["notes"],
        "ingestion_time": datetime.now(UTC).isoformat(),
        "processing_duration_seconds": round(time.perf_counter() - began, 3),
        "error_message": error,
    }
    return json.dumps(document, ensure_ascii=False) + "\n"


def _append(path: Path, line: str) -> None:
    try:
        private_folder(path.parent)
        # One write of one line in append mode: lines of processes that log at the same time do not mix.
        with private_file(path).open("ab", buffering=0) as log:
            log.write(line.encode())
    except OSError as error:
        raise StorageError(
            f"the monitoring log cannot be written: {error.strerror}",
            where=str(path),
            fix="free some space, mend its permissions, or set output.monitoring_log",
        ) from error
