"""The files that runs wrote on this machine: where, and whether what lies there now is what the run wrote."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.steps.answering.challenge import shadow_path
from pcc_pipeline.steps.embedding.embedded_file import embedded_path
from pcc_pipeline.steps.parts.folder import PartsFolder, is_parts_address
from pcc_pipeline.storage.objects import BUCKET_SCHEME
from pcc_pipeline.tracking.store.past_runs import RecordedRun

CopyKind = Literal["embedded", "predictions", "scores"]
# Of an `embed`: the names of its files in output.embedded_dir, as a JSON list. They follow from where the input lies,
# and so cannot be told of a project that was moved since.
EMBEDDED_TAG = "pcc.embedded_files"
# What writes it.
STEPS: dict[CopyKind, str] = {"embedded": "embed", "predictions": "evaluate", "scores": "score"}


@dataclass(frozen=True)
class Copy:
    """A file that a run named as its own, as it lies there.

    Attributes:
        run: the one that wrote it; None where none of those that named it did.
        state: what tells it from another file that would take its place.
        written: seconds since 1970, by the clock of this machine.
    """

    path: Path
    run: RecordedRun | None
    size: int
    written: float
    state: tuple[int, ...]

    def remove(self) -> bool:
        """Remove it; False where it is gone already, or another one took its place.

        Raises:
            OSError: this account may not.
        """
        try:
            if _state(self.path.lstat()) != self.state:
                return False
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True


def paths_of(kind: str, run: RecordedRun) -> list[Path]:
    """Where on this machine a run wrote its files of a kind; as `addresses_of`."""
    return [local_path(address) for address in addresses_of(kind, run) if not address.startswith(BUCKET_SCHEME)]


def addresses_of(kind: str, run: RecordedRun) -> list[str]:
    """Where a run wrote its files of a kind, by its own record; relative to the folder that it was started in.

    Of a folder of parts the tables that lie there, whichever run of the same job wrote them.

    Args:
        kind: `embedded`, or what an option of `output` is called.

    Raises:
        StorageError: a folder of parts cannot be listed.
    """
    if kind == "embedded":
        if (parts := run.params.get("output.embedded_parts", "None")) != "None":
            return PartsFolder(parts).tables()
        if (folder := run.params.get("output.embedded_dir")) is None:
            return []
        if EMBEDDED_TAG in run.tags:
            return [str(local_path(folder) / Path(name).name) for name in json.loads(run.tags[EMBEDDED_TAG])]
        addresses = [run.params.get(name, "None") for name in ("data.path", "data.test_path")]
        return [str(embedded_path(address, folder)) for address in addresses if address != "None"]
    if (name := run.params.get(f"output.{kind}")) is None:
        return []
    if kind == "scores" and is_parts_address(name):
        return PartsFolder(name).tables()
    shadowed = kind == "scores" and run.params.get("ab_test.shadow") == "True"
    return [name, shadow_path(name)] if shadowed else [name]


def copies(kind: CopyKind, runs: Sequence[RecordedRun]) -> list[Copy]:
    """The files of a kind that lie where one of these runs wrote.

    A run that wrote over another's file is the one whose it is: the file was changed last while that run went on. One
    that was changed at another time is somebody else's, and so is a link, or a file of another account.
    """
    named: dict[Path, list[RecordedRun]] = {}
    for run in runs:
        for path in paths_of(kind, run):
            named.setdefault(path, []).append(run)
    result = []
    for path, writers in named.items():
        try:
            status = path.lstat()
        except OSError:  # gone, or out of reach
            continue
        its = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        writer = next((run for run in writers if its and _was_going_on(run, status.st_mtime)), None)
        result.append(Copy(path, writer, status.st_size, status.st_mtime, _state(status)))
    return result


def _was_going_on(run: RecordedRun, moment: float) -> bool:
    return run.ended is not None and run.started.timestamp() <= moment <= run.ended.timestamp()


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
