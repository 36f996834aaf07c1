"""The tables that runs wrote outside of MLflow: on this machine, in buckets, whole or in parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.errors import StorageError
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.manifest import joined, look_up, without
from pcc_pipeline.persons.rows import SUFFIXES, take_out
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.parts.folder import PARTS_TAG, PartsFolder, folders_of_parts
from pcc_pipeline.steps.records.copies import addresses_of
from pcc_pipeline.storage.objects import BUCKET_SCHEME, AbsentError, local_copy, open_store, writing
from pcc_pipeline.tracking.store.manifests import KEY_TAG
from pcc_pipeline.tracking.store.past_runs import RecordedRun, runs_tagged

# Step -> the options that name what it wrote on the machine that it ran on, or in a bucket.
_WRITTEN = {
    "embed": ("output.embedded_dir", "output.embedded_parts", "output.rejected"),
    "train": ("output.label_issues",),
    "evaluate": ("output.predictions",),
    "score": ("output.scores", "output.rejected"),
    "monitor": ("output.novel_rows",),
}


def written_by(run: RecordedRun) -> dict[str, str]:
    """Option -> what the run wrote there."""
    names = _WRITTEN.get(run.step, ())
    return {name: run.params[name] for name in names if run.params.get(name, "None") != "None"}


def tables_of(run: RecordedRun) -> list[str]:
    """What the run wrote, table by table: what others put beside them is theirs.

    Raises:
        StorageError: a bucket cannot be listed.
    """
    return [*kinds_of(run)]


def kinds_of(run: RecordedRun) -> dict[str, str]:
    """The same, each with what it is: `embedded`, or what its option of `output` is called.

    Raises:
        StorageError: a bucket cannot be listed.
    """
    kinds = dict.fromkeys(option.removeprefix("output.").removesuffix("_dir") for option in written_by(run))
    kinds = dict.fromkeys("embedded" if kind == "embedded_parts" else kind for kind in kinds)
    return {address: kind for kind in kinds for address in _listed(kind, run)}


def tables_here(runs: Iterable[RecordedRun]) -> list[str]:
    """The tables of these runs that are within reach, each once.

    Raises:
        StorageError: a bucket cannot be listed.
    """
    return [*kinds_here(runs)]


def kinds_here(runs: Iterable[RecordedRun]) -> dict[str, str]:
    """The same, each with what it is; see `kinds_of`.

    Raises:
        StorageError: a bucket cannot be listed.
    """
    kinds = {address: kind for run in runs for address, kind in kinds_of(run).items()}
    return {
        address: kind
        for address, kind in kinds.items()
        if PurePosixPath(address).suffix.lower() in SUFFIXES and is_there(address)
    }


def is_there(address: str) -> bool:
    """Whether there is a file or object.

    Raises:
        StorageError: its bucket cannot be listed.
    """
    if not address.startswith(BUCKET_SCHEME):
        return local_path(address).is_file()
    folder, _, name = address.rpartition("/")
    try:
        return name in open_store(folder).names(name)
    except AbsentError:  # the bucket is gone
        return False


def take_out_of(address: str, persons: Sought, subject_column: str | None) -> int:
    """Take their rows out of a table; how many there were.

    Raises:
        DataError: it cannot be read.
        StorageError: it cannot be written; it is as it was.
    """
    if not is_there(address):
        return 0
    try:
        with local_copy(address) as path:
            removed = take_out(path, persons, subject_column)
            if removed and address.startswith(BUCKET_SCHEME):
                with writing(address) as target:
                    shutil.copyfile(path, target)
            return removed
    except OSError as error:
        raise StorageError(
            f"the rows cannot be taken out of this file: {error.strerror}",
            where=address,
            fix="make room or mend its permissions, and confirm again",
        ) from error


def pending_manifests(folder: Path) -> Iterator[tuple[RecordedRun, Path]]:
    """Of data sets in parts whose runs did not end: who stands in the parts that are there, as files in `folder`.

    Raises:
        DataError: one is damaged.
        StorageError: a bucket cannot be read.
    """
    for run, parts in _unfinished():
        if contents := list(parts.lineage().values()):
            place = folder / run.run_id
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(joined(contents, parts.address))
            yield run, place


def settle_parts(addresses: Iterable[str], keys: Keys, persons: Sought) -> None:
    """After rows were taken out of tables: the data sets in parts are counted anew, and name nobody who was in them.

    Raises:
        DataError: a part is damaged.
        StorageError: a bucket cannot be read or written.
    """
    for _, parts in _unfinished():
        for name, content in parts.lineage().items():
            if lines := look_up(content, keys, persons, parts.address).lines:
                parts.keep_lineage(name, without(content, lines, parts.address))
    for folder in folders_of_parts(addresses):
        PartsFolder(folder).recount()


def _unfinished() -> Iterator[tuple[RecordedRun, PartsFolder]]:
    seen = set()
    for run in runs_tagged(PARTS_TAG):
        if KEY_TAG not in run.tags and run.tags[PARTS_TAG] not in seen:
            seen.add(run.tags[PARTS_TAG])
            yield run, PartsFolder(run.tags[PARTS_TAG])


def _listed(kind: str, run: RecordedRun) -> list[str]:
    try:
        return addresses_of(kind, run)
    except AbsentError:  # the bucket is gone
        return []
