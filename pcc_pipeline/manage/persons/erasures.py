"""What is said of somebody who was erased, or of whom an erasure was begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.persons.suppression import read_suppressed
from pcc_pipeline.steps.erasing.holdings import keys_of_lineage
from pcc_pipeline.steps.erasing.kept import Earlier, begun_with, erasures_with
from pcc_pipeline.steps.erasing.spelling import near_forms
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.steps.erasing.telling.vocabulary import moment

# Part of an erasure -> where rows are out of once it is done.
_OUT_OF = {
    "documents": "pages",
    "cache": "the cache",
    "tables": "files that jobs left in MLflow",
    "splits": "records of trainings",
    "copies": "files on this machine",
}


def erased(params: Params, names: Mapping[str, Sequence[str]]) -> Earlier:
    """The erasures that ended of a person or case.

    Args:
        names: `subjects` and `case_ids`.

    Raises:
        ConfigError: there is no key.
    """
    return erasures_with(local_path(params.output.erasures_dir), keys_of_lineage(params), _sought(params, names))


def erased_otherwise(params: Params, names: Mapping[str, Sequence[str]]) -> str:
    """The same in words, of a name that is nearly so; empty where nothing tells.

    Raises:
        ConfigError: there is no key, or the list of erased persons cannot be read.
    """
    forms = [
        {**names, option: [form]} for option, those in names.items() for name in those for form in near_forms(name)
    ]
    words = next(filter(None, (erased_words(params, form) for form in forms)), "")
    return f"; in small letters, or without signs around it: {words}" if words else ""


def erased_words(params: Params, names: Mapping[str, Sequence[str]]) -> str:
    """That somebody was erased, when, and which certificate says so; empty where nothing tells.

    Raises:
        ConfigError: there is no key, or the list of erased persons cannot be read.
    """
    what = "person" if names["subjects"] else "case"
    if (earlier := erased(params, names)).files:
        return f"this {what} was erased {earlier.words}"
    listed = read_suppressed(local_path(params.lineage.suppression_file), keys_of_lineage(params))
    if listed is not None and _sought(params, names).is_within(listed):
        return f"this {what} was erased, by the list {params.lineage.suppression_file}; the certificate is not here"
    return ""


def half_erased(params: Params, names: Mapping[str, Sequence[str]]) -> list[State]:
    """The erasures of a person or case that were begun and have not ended.

    Raises:
        ConfigError: there is no key, or the state of one cannot be read.
    """
    return begun_with(local_path(params.output.erasures_dir), keys_of_lineage(params), _sought(params, names))


def half_erased_line(state: State) -> str:
    """How far one came, for who looks for the person."""
    out = [words for part, words in _OUT_OF.items() if part in state.done]
    far = f"their rows are out of {', '.join(out)} already" if out else "nothing is taken out yet"
    return (
        f"half done  an erasure of theirs was begun {moment(state.began)} ({state.id}): {far}; the coded lists of "
        "whose rows each job read go last. To finish it, with the list of its plan: "
        f"pcc erase --subjects … --confirm {state.id}"
    )


def document(params: Params, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The same for machines."""
    ended = erased(params, names)
    return {
        "erased": [
            {"ended": when, "certificate": str(file)} for when, file in zip(ended.ended, ended.files, strict=True)
        ],
        "half_erased": [{"id": one.id, "began": one.began, "done": one.done} for one in half_erased(params, names)],
    }


def _sought(params: Params, names: Mapping[str, Sequence[str]]) -> Sought:
    every = {option: [label_text(name) for name in those] for option, those in names.items()}
    return Sought.of(keys_of_lineage(params), every["subjects"], every["case_ids"])
