"""Names that nobody has as they are written, and whether somebody has them written otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pcc_pipeline.config import Params
from pcc_pipeline.persons.keys import Keys, Kind
from pcc_pipeline.steps.erasing.holdings import Holdings, holdings, keys_of_lineage

NEARLY = " as it is written; in small letters, or without signs around it, it is"
# How names are handed on, what they are of, and what their list is called.
LISTS: tuple[tuple[str, Kind, str], ...] = (("subjects", "subject", "persons"), ("case_ids", "case", "cases"))


def unknown_names(params: Params, known: Holdings, names: Mapping[str, Sequence[str]]) -> dict[tuple[Kind, str], bool]:
    """The names that no manifest has, each with whether one has it in small letters or without signs around it.

    Args:
        known: of these names.
        names: `subjects` and `case_ids`.

    Raises:
        ConfigError, DataError, TrackingError: as `holdings`.
    """
    keys = keys_of_lineage(params)
    absent = {
        option: [name for name in names[option] if not _is_seen(known, kind, name, keys)] for option, kind, _ in LISTS
    }
    # Near ones are looked for only where a name is not there.
    near = {option: [form for name in those for form in near_forms(name)] for option, those in absent.items()}
    others = holdings(params, **near) if any(near.values()) else known
    return {
        (kind, name): any(_is_seen(others, kind, form, keys) for form in near_forms(name))
        for option, kind, _ in LISTS
        for name in absent[option]
    }


def near_forms(name: str) -> list[str]:
    """How somebody may have meant a name to be written: in small letters, or without signs around it."""
    return [form for form in (name.lower(), name.strip("\"'<> ")) if form != name]


def _is_seen(known: Holdings, kind: Kind, name: str, keys: Keys) -> bool:
    return any((key, key.hashes(kind, [name])) in known.seen for key in keys.all)
