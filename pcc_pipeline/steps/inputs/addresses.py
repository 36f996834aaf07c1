"""Which files an address of data names: one, several, those in a folder, or those that a pattern fits."""

from __future__ import annotations

import re
from contextlib import ExitStack
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

from pcc_pipeline.config.paths import addresses_in, local_path
from pcc_pipeline.data.formats.readers import SUFFIXES, suffix_of
from pcc_pipeline.errors import DataError, StorageError
from pcc_pipeline.steps.inputs.parts_manifest import JOB, MANIFEST, whole_parts
from pcc_pipeline.storage.objects import BUCKET_SCHEME, local_copy, open_store

# `data.path: sample` names the generated sample set, not a file.
SAMPLE = "sample"
_MARKS = re.compile(r"[*?\[]")
_MOST_SHOWN = 10


def files_of(address: str) -> list[str]:
    """The addresses of the single files that are one data set, in their order; those of a folder or pattern by name.

    `sample` and a file are themselves, whether they are there or not; a pattern's `*` and `?` stop at a slash.

    Raises:
        DataError: a folder or pattern has no file, or a file is named twice.
        StorageError: the bucket cannot be read.
    """
    files = [file for one in addresses_in(address) for file in _files(one)]
    if repeated := [file for number, file in enumerate(files) if file in files[:number]]:
        raise DataError("a file of the data is named twice", where=repeated[0], fix="name each file once")
    return files


def _files(address: str) -> list[str]:
    if address.startswith(BUCKET_SCHEME):
        if address.endswith("/"):
            return _of_folder(address, _names(address))
        return _of_bucket_pattern(address) if _MARKS.search(address) else [address]
    path = local_path(address)
    if address != SAMPLE and path.is_dir():
        return _of_folder(f"{address.rstrip('/')}/", [each.name for each in path.iterdir() if each.is_file()])
    if not _MARKS.search(address) or path.exists():
        return [address]
    # Path.glob takes no absolute pattern: it begins in the last folder that is named in full.
    fixed = [*takewhile(lambda part: not _MARKS.search(part), path.parts)]
    place = Path(*fixed)
    files = sorted(str(each) for each in place.glob("/".join(path.parts[len(fixed) :])) if each.is_file())
    if not files:
        raise _none(address, [each.name for each in place.iterdir()] if place.is_dir() else [])
    return files


def _of_folder(folder: str, names: list[str]) -> list[str]:
    """The files right in the folder that are of a kind that is read; hidden ones are left out.

    Of a data set in parts those that its manifest lists, in the order of its inputs.
    """
    if JOB in names:
        with ExitStack() as stack:
            manifest = stack.enter_context(local_copy(folder + MANIFEST)).read_bytes() if MANIFEST in names else None
        return [f"{folder}{name}" for name in whole_parts(names, manifest, folder)]
    taken = [name for name in names if "/" not in name and suffix_of(name) and not name.startswith(".")]
    if not taken:
        raise _none(folder, names)
    return [f"{folder}{name}" for name in sorted(taken)]


def _of_bucket_pattern(address: str) -> list[str]:
    mark = _MARKS.search(address)
    assert mark is not None, "it is a pattern"
    folder = address[: mark.start()].rpartition("/")[0] + "/"
    names = _names(folder)
    parts = address.removeprefix(folder).split("/")
    if "/".join(parts) in names:
        return [address]
    taken = [
        name for name in names if len(pieces := name.split("/")) == len(parts) and all(map(fnmatchcase, pieces, parts))
    ]
    if not taken:
        raise _none(address, names)
    return [f"{folder}{name}" for name in sorted(taken)]


def _names(folder: str) -> list[str]:
    if not folder.removeprefix(BUCKET_SCHEME).strip("/"):
        raise StorageError(
            "the address names no bucket", where=folder, fix=f"write {BUCKET_SCHEME}bucket/path/file.csv"
        )
    return open_store(folder.rstrip("/")).names()


def _none(address: str, names: list[str]) -> DataError:
    shown = ", ".join(sorted(names)[:_MOST_SHOWN]) + (
        f" and {len(names) - _MOST_SHOWN} more" * (len(names) > _MOST_SHOWN)
    )
    return DataError(
        f"there is no data file here; there lies: {shown or 'nothing'}",
        where=address,
        fix=f"check the address; in a folder the files that end in {', '.join(SUFFIXES)} are read",
    )
