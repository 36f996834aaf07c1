"""Which files an address of data names: one, several, those in a folder, or those that a pattern fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from fnmatch import fnmatchcase
from itertools import takewhile
from os.path import normpath
from pathlib import Path

from pcc_pipeline.config.paths import addresses_in, local_path
from pcc_pipeline.data.formats.readers import SUFFIXES, suffix_of
from pcc_pipeline.errors import DataError, StorageError
from pcc_pipeline.steps.inputs.parts_manifest import JOB, MANIFEST, whole_parts
from pcc_pipeline.storage.objects import BUCKET_SCHEME, local_copy, open_store

# `data.path: sample` names the generated sample set, not a file.
SAMPLE = "sample"
# What a name begins with that is no data to Spark, Dask and Arrow either: what is half-written, or stands beside parts.
_NO_DATA = (".", "_")
_MARKS = re.compile(r"[*?\[]")
_MOST_SHOWN = 10


def files_of(address: str) -> list[str]:
    """The addresses of the single files that are one data set, in their order; those of a folder or pattern by name.

    `sample` and a file are themselves, whether they are there or not; a pattern's `*` and `?` stop at a slash. A name
    that begins with a dot or an underscore is no data, unless the pattern begins one so: `_old/*.csv`.

    Raises:
        DataError: a folder or pattern has no file, or a file is named twice; a data set in parts is not whole.
        StorageError: the bucket cannot be read.
    """
    files = [file for one in addresses_in(address) for file in _files(one)]
    named: dict[str, str] = {}
    for file in files:
        place = file if file == SAMPLE or file.startswith(BUCKET_SCHEME) else normpath(local_path(file).absolute())
        if (other := named.get(place)) is not None:
            where = file if file == other else f"{other}, {file}"
            raise DataError("a file of the data is named twice", where=where, fix="name each file once")
        named[place] = file
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
    place, parts = Path(*fixed), path.parts[len(fixed) :]
    matched = [
        str(each)
        for each in place.glob("/".join(parts))
        if _is_data(each.parts[len(place.parts) :], parts) and each.is_file()
    ]
    if files := _of_folders(matched, lambda folder: [each.name for each in Path(folder).iterdir()]):
        return files
    raise _none(address, [each.name for each in place.iterdir()] if place.is_dir() else [])


def _of_folder(folder: str, names: list[str]) -> list[str]:
    """The files right in the folder that are of a kind that is read.

    Of a data set in parts those that its manifest lists, in the order of its inputs.
    """
    if JOB in names:
        return _of_parts(folder, names)
    taken = [name for name in names if "/" not in name and suffix_of(name) and _is_data([name])]
    if not taken:
        raise _none(folder, names)
    return [f"{folder}{name}" for name in sorted(taken)]


def _of_parts(folder: str, names: list[str]) -> list[str]:
    with ExitStack() as stack:
        manifest = stack.enter_context(local_copy(folder + MANIFEST)).read_bytes() if MANIFEST in names else None
    return [f"{folder}{name}" for name in whole_parts(names, manifest, folder)]


def _of_folders(files: Iterable[str], names_in: Callable[[str], list[str]]) -> list[str]:
    """Files by name; of a data set in parts only those that its manifest lists, in the order of its inputs.

    Args:
        names_in: the names right in a folder.
    """
    taken, listed = list[str](), dict[str, list[str] | None]()
    those = set(files)
    for file in sorted(those):
        folder = file.removesuffix(file.rpartition("/")[2])
        if folder not in listed:
            names = names_in(folder)
            listed[folder] = _of_parts(folder, names) if JOB in names else None
            taken += [part for part in listed[folder] or () if part in those]
        if listed[folder] is None:
            taken.append(file)
    return taken


def _is_data(pieces: Iterable[str], pattern: Iterable[str] = ()) -> bool:
    """Whether no piece of a path is hidden, half-written or beside the data, but for those that a pattern names so."""
    named_so = [piece for piece in pattern if piece.startswith(_NO_DATA)]
    return all(not piece.startswith(_NO_DATA) or any(fnmatchcase(piece, one) for one in named_so) for piece in pieces)


def _of_bucket_pattern(address: str) -> list[str]:
    mark = _MARKS.search(address)
    assert mark is not None, "it is a pattern"
    folder = address[: mark.start()].rpartition("/")[0] + "/"
    names = _names(folder)
    parts = address.removeprefix(folder).split("/")
    if "/".join(parts) in names:
        return [address]
    matched = [
        f"{folder}{name}"
        for name in names
        if len(pieces := name.split("/")) == len(parts)
        and all(map(fnmatchcase, pieces, parts))
        and _is_data(pieces, parts)
    ]

    inside: dict[str, list[str]] = {}
    for name in names:
        above, slash, last = name.rpartition("/")
        inside.setdefault(f"{folder}{above}{slash}", []).append(last)
    if files := _of_folders(matched, lambda place: inside[place]):
        return files
    raise _none(address, names)


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
