"""What is said of an erasure that has not ended: what is done, what is not, and what to type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing import models
from pcc_pipeline.steps.erasing.plan import LearnedVersion
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.steps.erasing.telling.vocabulary import LEFT, done_so_far


def past_gates(options: str, ident: str) -> list[str]:
    """How somebody lets a new model answer that did not pass its checks; lines of text."""
    return [
        "or, if the new model did not pass its checks, and who answers for it decides that it may answer all the same,",
        "type this line, with who and why in place of the capitals; it stays on record:",
        f'    pcc erase {options} --confirm {ident} --force true --reason "WHO LET IT, AND WHY"',
    ]


def how_far(state: State) -> list[str]:
    """What is done of an erasure that has not ended, and what is not; lines of text."""
    left = [words for part, words in LEFT.items() if part not in state.done]
    left += [
        f"{each.called}, which learned from {counted(each.rows, 'row')} of theirs, is still there"
        + (" and goes on answering" if _answers(each, state) else "")
        for each in state.plan.learned
        if each.action == "replace" and "versions" not in state.done
    ]
    if "manifests" not in state.done:
        left.append("the coded lists of whose rows each job read still have their lines, which go last")
    return [
        "done so far:",
        *(f"  - {words}" for words in done_so_far(state.done, state.removed)),
        "not done yet:",
        *(f"  - {words}" for words in left),
        "  - there is no certificate, and until there is one nobody else can be erased",
    ]


def _answers(version: LearnedVersion, state: State) -> bool:
    """Whether a version that is to be replaced is in use yet."""
    replaced = f"successor {version.name}" in state.done
    return version.alias == "champion" and not replaced and state.plan.policy != "block"


@contextmanager
def half_done(state: State, options: str) -> Iterator[None]:
    """Whoever ends it learns that it is not done."""
    try:
        yield
    except BaseException as error:  # raised again
        first, others = "", list[str]()
        if isinstance(error, models.RefusedError):
            first = "ask who trains models to mend the data or the checks (registry.gates in params.yaml), and then "
            others = past_gates(options, state.id)
        elif isinstance(error, models.WaitingError):
            first = "once the new model was approved, "
        lines = [
            f"erasure {state.id} is half done",
            *how_far(state),
            f"to do now: {first}type this line, which goes on where it was:",
            f"    pcc erase {options} --confirm {state.id}",
            *others,
        ]
        for line in lines:
            error.add_note(line)
        raise
