"""Monitoring logs, of `score` or of the downstream system: JSON lines in one file, several, a folder or a bucket."""

from __future__ import annotations

import gzip
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import IO, cast

from pcc_pipeline.errors import DataError
from pcc_pipeline.monitoring.operation import BadLine, LoggedRun, logged_run
from pcc_pipeline.steps.inputs.addresses import files_of
from pcc_pipeline.storage.objects import local_copy
from pcc_pipeline.tracking.payloads import InputFile

# A line has about 500 characters; a longer one is none of a log, and would fill the memory.
_LONGEST_LINE = 1_000_000


def read_logs(address: str) -> tuple[list[LoggedRun], list[BadLine], list[InputFile]]:
    """The runs that the logs tell of, the lines that cannot be read, and the files.

    Raises:
        DataError: there is no such file, or it cannot be read.
        StorageError: the bucket cannot be read or has no such object.
    """
    runs: list[LoggedRun] = []
    bad: list[BadLine] = []
    inputs: list[InputFile] = []
    for file in files_of(address):
        digest, lines = sha256(), 0
        try:
            with local_copy(file) as path, closing(_opened(path)) as content:
                while line := content.readline(_LONGEST_LINE):
                    digest.update(line)
                    lines += 1
                    if not line.strip():
                        continue
                    try:
                        runs.append(logged_run(line.decode()))
                    except ValueError as error:
                        why = "no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                        bad.append(BadLine(file.rpartition("/")[2], lines, why))
        except (OSError, EOFError) as error:
            reason = getattr(error, "strerror", None) or "it is cut off, or no gzip"
            raise DataError(
                f"the monitoring log cannot be read: {reason}", where=file, fix="check monitoring.logs (--logs …)"
            ) from error
        inputs.append(InputFile(file, "logs", digest.hexdigest(), lines))
    return runs, bad, inputs


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.name.endswith(".gz") else path.open("rb")
