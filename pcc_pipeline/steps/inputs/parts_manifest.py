"""A data set in parts as who reads it sees it: what its manifest lists, and nothing before there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from pcc_pipeline.errors import DataError

# The first file of such a folder, and the last; see `steps.parts.folder`.
JOB, MANIFEST = "_job.json", "_manifest.json"
PART = re.compile(r"part-[0-9a-f]{24}\.parquet")
_MOST_SHOWN = 3


def whole_parts(names: Collection[str], manifest: bytes | None, where: str) -> list[str]:
    """Of a folder of parts the names of those that are to be read: what the manifest lists with rows, and nothing else.

    Args:
        names: what lies in the folder.
        manifest: its content, where there is one.

    Raises:
        DataError: it is not whole yet.
    """
    if manifest is None:
        written = sum(PART.fullmatch(name) is not None for name in names)
        raise DataError(
            f"this data set is being written, or its writing was cut off: {written:,} of its parts stand",
            where=where,
            fix="wait for its _manifest.json, or begin the run that wrote it again: it goes on where it was",
        )
    try:
        rows_of = {str(line["name"]): line["rows"] for line in json.loads(manifest)["parts"]}
    except (ValueError, KeyError, TypeError) as error:
        raise changed(where + MANIFEST) from error
    if missing := sorted(set(rows_of) - set(names)):
        raise DataError(
            f"{len(missing):,} parts that the manifest lists are gone: {some(missing)}",
            where=where,
            fix="begin the run that wrote it again: it makes them anew",
        )
    # A part may have no rows: all of its input were rejected, or erased since. As a file by itself it would be refused.
    return [name for name, rows in rows_of.items() if rows] or list(rows_of)


def changed(where: str) -> DataError:
    """A file of the folder that is not as it was written."""
    return DataError("this file was changed", where=where, fix="remove the folder, and begin again")


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
