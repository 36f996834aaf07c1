"""Taking persons out of files: of runs, of this machine, and of the cache; what was done already is left alone."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.data.split_record import SplitRecord
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.errors import DataError, PccError, StorageError
from pcc_pipeline.files import replacing, scratch_folder
from pcc_pipeline.persons import documents
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.manifest import NAME as MANIFEST
from pcc_pipeline.persons.manifest import look_up, without
from pcc_pipeline.persons.rows import take_out
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.plan import RunPart, without_theirs
from pcc_pipeline.steps.inputs.caches import cache_places
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG
from pcc_pipeline.tracking.registry.versions import tag_version
from pcc_pipeline.tracking.runs import SPLIT_FILE, SPLIT_TAG, read_settings
from pcc_pipeline.tracking.store.manifests import DIGEST_TAG, versions_from
from pcc_pipeline.tracking.store.run_files import RunFiles

# Of a training run: the erasure that writes the record of its split anew, and the digest that it then has.
_NEXT_TAG = "pcc.split_next"


def documents_of_run(part: RunPart, persons: Sought) -> int:
    """Take their entries out of a run's pages and JSON files; how many there were."""
    files, removed = RunFiles(part.run_id), 0
    for name in part.documents:
        with files.fetched(name) as path:
            content, entries = without_theirs(path, persons)
            if entries:
                path.write_text(content, encoding="utf-8")
                _put(files, name, path)
                removed += entries
    return removed


def documents_here(places: Collection[str], persons: Sought) -> int:
    """The same of the copies on this machine.

    Raises:
        StorageError: one cannot be written.
    """
    removed = 0
    for path in map(Path, places):
        if path.is_file() and path.suffix in documents.SUFFIXES:
            try:
                content, entries = without_theirs(path, persons)
            except ValueError:  # another program's, under a name like ours
                continue
            if entries:
                try:
                    with replacing(path, shared=True) as partial:
                        partial.write_text(content, encoding="utf-8")
                except OSError as error:
                    raise StorageError(
                        f"their cases cannot be taken out of this file: {error.strerror}",
                        where=str(path),
                        fix="make room or mend its permissions, and confirm again",
                    ) from error
                removed += entries
    return removed


def tables_of_run(part: RunPart, persons: Sought, subject_column: str | None) -> int:
    """Take the persons' rows out of a run's tables; how many there were."""
    files, removed = RunFiles(part.run_id), 0
    for name in part.tables:
        with files.fetched(name) as path:
            rows = take_out(path, persons, subject_column)
            if rows:
                _put(files, name, path)
                removed += rows
    return removed


def split_of_run(params: Params, part: RunPart, keys: Keys, persons: Sought, erasure: str) -> int:
    """Take their lines out of the record of a split; how many it had. Its manifest, which tells which, comes later.

    What the training file's digest is without these rows is recorded as well, where the file is still what it was: its
    test rows are found by that.
    """
    files, where = RunFiles(part.run_id), f"{SPLIT_FILE} of run {part.run_id}"
    with files.fetched(MANIFEST) as path:
        lines = look_up(path.read_bytes(), keys, persons, f"run {part.run_id}").lines
    # A training that was killed keeps a split, too.
    settings, known = read_settings(part.run_id)
    with files.fetched(SPLIT_FILE) as path:
        record, removed = _begun(path, known, erasure, where), part.split_lines
        if record is None:
            whole = SplitRecord.read(path, known[SPLIT_TAG], where)
            # Lines of the manifest that follow are of rejected rows, and of a test file.
            theirs = [line for line in lines if line < len(whole.split)]
            record, removed = whole.without(np.array(theirs, dtype=np.int64)), len(theirs)
            record.frame().to_parquet(path, index=False)
            # Before the file: who was killed after it must not take lines out twice.
            files.tag({_NEXT_TAG: f"{erasure} {record.digest}"})
            files.replace(SPLIT_FILE, path)
    # By the list of now, wherever the training had its own.
    tags = _digests(settings.model_copy(update={"lineage": params.lineage}), known)
    if data := tags.get("pcc.data_digest"):
        for version in versions_from(part.run_id):
            tag_version(version.name, version.number, {"pcc.data_digest": data})
    # Last: by the run's tags it is told whether there is anything to do.
    files.tag({SPLIT_TAG: record.digest, **tags})
    return removed


def _begun(path: Path, tags: Mapping[str, str], erasure: str, where: str) -> SplitRecord | None:
    """The record without their lines, where this erasure has written it already."""
    ident, _, digest = tags.get(_NEXT_TAG, "").partition(" ")
    if ident != erasure:
        return None
    try:
        return SplitRecord.read(path, digest, where)
    except DataError:
        return None


def _digests(params: Params, tags: Mapping[str, str]) -> dict[str, str]:
    """The digests of the training's files as they are read from now on; none of a file that is gone or was changed."""
    made = {}
    for address, tag in ((params.data.path, "pcc.data_digest"), (params.data.test_path, "pcc.test_digest")):
        if address is None or tag not in tags:
            continue
        try:
            before = load_dataset(address, params, whole=True)
            if before.digest == tags[tag]:
                now = load_dataset(address, params)
                if tag == "pcc.data_digest" and now.vectors_digest is not None and "pcc.vectors_digest" in tags:
                    made["pcc.vectors_digest"] = now.vectors_digest
                # After it, as tags are set in this order: what is cut off between them is done again.
                made[tag] = now.digest
        except (PccError, OSError):
            continue
    return made


def manifest_of_run(part: RunPart, keys: Keys, persons: Sought, erasure: str) -> int:
    """Take their lines out of a run's manifest, the last of its files: by it the run is found; how many there were."""
    files = RunFiles(part.run_id)
    if MANIFEST not in files.names():
        return 0
    with files.fetched(MANIFEST) as path:
        content, where = path.read_bytes(), f"run {part.run_id}"
        lines = look_up(content, keys, persons, where).lines
        content = without(content, lines, where) if lines else content
        path.write_bytes(content)
        if lines:
            files.replace(MANIFEST, path)
    # Said again where it was killed in between.
    files.tag({DIGEST_TAG: hashlib.sha256(content).hexdigest(), ERASURE_TAG: erasure})
    return len(lines)


def forget_texts(params: Params, texts: Collection[str] | None) -> int:
    """Take the vectors of texts out of all caches, or, where these are not known, all; how many there were."""
    keys = None if texts is None else [text_key(text) for text in texts]
    return sum(place.forget(keys) for place in cache_places(params))


def _put(files: RunFiles, name: str, path: Path) -> None:
    target = PurePosixPath(name).name
    if path.name == target:
        files.replace(name, path)
        return
    with scratch_folder() as folder:
        files.replace(name, Path(shutil.copyfile(path, folder / target)))
