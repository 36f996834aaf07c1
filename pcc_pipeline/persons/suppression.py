"""The list of those who are kept out of whatever is read, though the input files still hold them: of erased persons.

A JSON file of keyed hashes, which tells nobody without the key who is on it. It lies beside the key: a machine that has
the one needs the other.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.files import private_file, private_folder, write_durably
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.sought import Sought

_FORMAT = 1
# The list's default place is a login's: every project of the login reads it, also one that has a key file of its own.
_OTHER_KEY = (
    "bring the key, as PCC_LINEAGE_KEY or in lineage.key_file; or, where this list is of another project: a project "
    "with a key file of its own needs a list of its own, so set lineage.suppression_file beside lineage.key_file"
)


@dataclass(frozen=True)
class Suppression:
    """Says of rows that are read which of them are kept out; see `Contract.keeps_out`."""

    persons: Sought
    subject_column: str | None

    def __call__(self, frame: pd.DataFrame, ids: list[str | None]) -> np.ndarray:
        """Which rows are, (n,) bool."""
        return self.persons.in_table(frame, self.subject_column, ids)


def read_suppressed(file: Path, keys: Keys) -> Sought | None:
    """Who is on the list; None where there is none.

    Raises:
        ConfigError: it is damaged, or a key is not here: rows cannot be read without knowing whom to leave out.
    """
    try:
        document = json.loads(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(file) from error
    try:
        if document["format"] != _FORMAT:
            raise ConfigError(
                "the list of erased persons is of a newer pcc_pipeline", where=str(file), fix="read with that version"
            )
        return Sought.read(document["hashes"], keys, str(file), fix=_OTHER_KEY)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(file) from error


def suppress(file: Path, keys: Keys, persons: Sought) -> None:
    """Put more persons on the list.

    Raises:
        ConfigError: the list is damaged.
        StorageError: it cannot be written.
    """
    try:
        private_folder(file.parent)
        with private_file(file.with_name(f"{file.name}.lock")).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, one would lose the other's
            earlier = read_suppressed(file, keys)
            whole = persons if earlier is None else earlier.joined(persons)
            write_durably(file, json.dumps({"format": _FORMAT, "hashes": whole.document()}))
    except OSError as error:
        raise StorageError(
            f"the list of erased persons cannot be written: {error.strerror}",
            where=str(file),
            fix="make room, or set lineage.suppression_file",
        ) from error


def _damaged(file: Path) -> ConfigError:
    return ConfigError(
        "the list of erased persons cannot be read",
        where=str(file),
        fix="bring it back from a backup of it: without it, erased persons would be read again",
    )
