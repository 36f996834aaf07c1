"""Who is kept out of the rows that a step reads, because they were erased."""

from __future__ import annotations

import os
from hashlib import sha256

import pandas as pd

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.data.dataset import kept_out_note
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.persons.keys import read_keys
from pcc_pipeline.persons.sought import names_in
from pcc_pipeline.persons.suppression import Suppression, read_suppressed


def list_digest(params: Params) -> str:
    """Of the list as it is now; empty where there is none."""
    try:
        return sha256(local_path(params.lineage.suppression_file).read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        return ""


def demand_same_list(digest: str, params: Params) -> None:
    """See that nobody was erased since rows were read, whose rows a model would learn that no erasure finds any more.

    Args:
        digest: of the list when they were read.

    Raises:
        ConfigError: somebody was.
    """
    if list_digest(params) != digest:
        raise ConfigError(
            "persons were erased since this read its rows, among which theirs may be; so no model of these rows is "
            "registered, and what was computed is lost",
            where=params.lineage.suppression_file,
            fix="begin again: the rows are read without them then",
        )


def without_erased(table: pd.DataFrame, params: Params) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of a table that no contract is asked of, but for those of erased persons; and a line on how many.

    Raises:
        ConfigError: as `keeps_out`.
    """
    persons = keeps_out(params)
    if persons is None:
        return table, ()
    out = persons(table, names_in(table, CASE_ID))
    notes = kept_out_note(int(out.sum()))
    return table[~out].reset_index(drop=True), notes


def keeps_out(params: Params) -> Suppression | None:
    """By the list of `lineage.suppression_file`; None while nobody is on it.

    Raises:
        ConfigError: the list cannot be read, or a key of it is not here.
    """
    file = local_path(params.lineage.suppression_file)
    if not file.exists():
        return None
    persons = read_suppressed(file, read_keys(local_path(params.lineage.key_file), os.environ))
    return None if persons is None else Suppression(persons, params.data.subject_column)
