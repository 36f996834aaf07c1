"""What `erase` says: a plan, what was carried out, what a certificate is worth today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.steps.erasing.telling.sentences import (
    BY_POLICY,
    LOOKED_THROUGH,
    asked_for,
    judged,
    outside,
    rest,
    titles,
    whole_name,
)
from pcc_pipeline.steps.erasing.telling.vocabulary import MLFLOW, by_whom, file_here, held_in_file, moment
from pcc_pipeline.tracking.runs import SPLIT_FILE

_LONGEST_LIST = 12


@dataclass(frozen=True)
class PlannedOutcome:
    """A plan, of which nothing is done yet.

    Attributes:
        options: of the command line, that name the lists.
        unknown: a line for each name that nothing is known of.
        checks: what a new model must pass, in lines.
        kept_in: where MLflow keeps what it has; see `sentences.kept_in`.
    """

    run_id: str
    id: str
    plan: Plan
    options: str
    unknown: tuple[str, ...] = ()
    checks: Sequence[str] = ()
    kept_in: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> list[str]:
        lines = _plan_lines(self.plan, self.checks, self.kept_in)
        lines += [*(f"warning    {line}" for line in self.unknown), ""]
        its_line = f"           pcc erase {self.options} --confirm {self.id}"
        if self.plan.holds_nothing:
            return [
                *lines,
                "there is nothing to remove. To have that on record, as a signed page to file with the request, and",
                "to keep them out of whatever is read from now on, type this line:",
                its_line,
            ]
        return [
            *lines,
            "nothing was changed yet. To carry it out, type this line; it may take minutes (leave the window open):",
            its_line,
            "what was removed does not come back.",
        ]


@dataclass(frozen=True)
class ThereAlready:
    """Nothing was planned: of these persons an erasure is under way, or was carried out."""

    run_id: str
    lines: tuple[str, ...]

    @property
    def summary(self) -> list[str]:
        return [*self.lines]


@dataclass(frozen=True)
class ErasedOutcome:
    """An erasure that was carried out.

    Attributes:
        still: place -> rows that stand there yet.
        certificates: as JSON and as a page.
        lines: what else to know.
        kept: versions that learned from the rows and stay.
    """

    run_id: str
    state: State
    still: dict[str, int]
    certificates: tuple[Path, ...]
    lines: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """1 where rows still stand somewhere."""
        return 1 if self.still else 0

    @property
    def summary(self) -> list[str]:
        plan = self.state.plan
        gone = sum(1 for each in plan.learned if each.name and each.action != "note")
        document = {name: getattr(self.state, name) for name in ("successors", "judged", "checks", "promoted")}
        started = by_whom(self.state.who, self.state.login)
        lines = [
            f"done       for {asked_for(plan)}: begun {moment(self.state.began)}, started by {started}",
            *_erased_lines(self.state),
            *(f"replaced   {name}: version {number} now" for name, number in self.state.successors.items()),
            *(f"           {text}" for name in self.state.successors if (text := judged(document, name))),
            *([f"removed    {counted(gone, 'model')} that had learned from the rows"] if gone else []),
        ]
        if self.still:
            lines += _standing(self.still)
            lines.append("           make a new plan for them: the same line without --confirm")
        else:
            lines += _nothing_but(", once more", self.kept)
        if plan.inputs:
            lines.append(f"           but {rest(plan)}")
        to_read = self.certificates[-1]
        return [
            *lines,
            *(f"to do      {line}" for line in outside(plan, self.state.kept_in)),
            *self.lines,
            f"kept       the certificate {to_read}, to be read and filed with the request, together with the file",
            f"           {self.certificates[0].name} beside it, without which nobody can check it",
            f"           to verify it later, or to look again: pcc erase --verify {to_read}",
        ]


def _erased_lines(state: State) -> Iterator[str]:
    """What was taken out, as the certificate counts it."""
    removed = state.removed
    if state.plan.holds_nothing:
        yield "erased     nothing was held of them; from now on they are kept out of what is read"
        return
    of_runs = removed.get("tables", 0) + removed.get("documents", 0)
    here = removed.get("copies", 0) + removed.get("pages", 0)
    lines, vectors = removed.get("splits", 0), removed.get("cache", 0)
    taken = [
        *([f"{counted(here, 'row')} from files on this machine"] if here else []),
        *([f"{counted(of_runs, 'row')} from files of jobs on record"] if of_runs else []),
        *(
            [f"{counted(lines, 'line')} from the records of trainings, which say what each row was for"]
            if lines
            else []
        ),
        *([f"the numbers (vectors) of {counted(vectors, 'message')} from the cache"] if vectors else []),
    ]
    for place, text in enumerate(taken or ["nothing: no file here had a row of theirs"]):
        yield f"{'erased' if place == 0 else '':11}{text}"


@dataclass(frozen=True)
class VerifiedOutcome:
    """What a certificate is worth today.

    Attributes:
        kept: versions that learned from the rows and stay.
        done_before: somebody wanted the erasure to be carried out, and it had been.
        inputs: the owner's file -> rows of theirs in it now; None where nobody can tell.
    """

    document: dict[str, Any]
    still: dict[str, int]
    kept: tuple[str, ...] = ()
    done_before: bool = False
    inputs: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """1 where rows stand somewhere."""
        return 1 if self.still else 0

    @property
    def summary(self) -> list[str]:
        ident, ended = self.document["erasure"], moment(self.document["ended"])
        lines = [
            *([f"done       {ident} was carried out before; nothing was done now"] if self.done_before else []),
            f"verified   the certificate of erasure {ident}, ended {ended}, is as it was signed",
        ]
        if not self.still:
            return [*lines, *_nothing_but("", self.kept), *_input_lines(self.inputs)]
        last = "           they are not erased any more: make a new plan with pcc erase --subjects …, or --cases …"
        return [*lines, *_standing(self.still), last, *_input_lines(self.inputs)]


def _input_lines(inputs: Mapping[str, int | None]) -> Iterator[str]:
    """How the owner's files stand now, which no erasure changes."""
    for name, rows in inputs.items():
        file = whole_name(name)
        if rows is None:
            yield f"to do      your file {file} had rows of theirs, and cannot be looked into: see to it yourself"
        elif rows:
            yield f"to do      your file {file} still holds {counted(rows, 'row')} of theirs: remove them there"
        else:
            yield f"checked    your file {file}: no row of theirs is in it any more"


def _nothing_but(again: str, kept: tuple[str, ...]) -> list[str]:
    if not kept:
        return [f"checked    {LOOKED_THROUGH}{again}: nothing of theirs was found there"]
    return [f"checked    {LOOKED_THROUGH}{again}: no row of theirs was found", *(f"warning    {line}" for line in kept)]


def _standing(still: dict[str, int]) -> list[str]:
    return [f"warning    {counted(rows, 'row')} of theirs stand in {place}" for place, rows in still.items()]


def _plan_lines(plan: Plan, checks: Sequence[str], kept: Mapping[str, str]) -> list[str]:
    some_jobs = f"{counted(len(plan.runs), 'job')} on record (trainings, scorings and the like) read rows of theirs or "
    some_jobs += f"{'holds' if len(plan.runs) == 1 else 'hold'} some"
    nothing = "nothing is held of them: no job on record read rows of theirs, and no file here has any"
    return [
        f"plan       for {asked_for(plan)}: {nothing if plan.holds_nothing else some_jobs}",
        *_removals(plan),
        *(
            line
            for title, version in zip(titles(plan.learned), plan.learned, strict=True)
            for line in _version_lines(title, version, plan.policy, checks)
        ),
        *(f"to do      {line}" for line in outside(plan, kept)),
    ]


def _removals(plan: Plan) -> Iterator[str]:
    """What leaves files and the cache."""
    touched = sum(1 for part in plan.runs if part.tables or part.documents)
    if touched:
        rows_in = f"{counted(plan.rows_of_runs, 'row')} from files that {counted(touched, 'job')} left"
        yield f"remove     {rows_in} in {MLFLOW}:"
        in_files: Counter[str] = Counter()
        for part in plan.runs:
            in_files.update(part.tables)
            in_files.update(part.documents)
        yield from (f"           - {rows:,} from {held_in_file(name)}" for name, rows in in_files.items())
    if splits := sum(1 for part in plan.runs if part.split):
        lines = counted(plan.lines_of_splits, "line")
        yield (
            f"remove     {lines} of theirs from the records of {counted(splits, 'training')}, which say what each row "
            f"was for: training or testing ({SPLIT_FILE})"
        )
    here = [*plan.copies.items(), *plan.pages.items()]
    for path, rows in here[:_LONGEST_LIST]:
        yield f"remove     {counted(rows, 'row')} from {file_here(path, plan.kinds.get(path, ''))}"
    if len(here) > _LONGEST_LIST:
        yield f"           and rows from {counted(len(here) - _LONGEST_LIST, 'more file')} here"
    numbers = "from the store of the numbers (vectors) that messages are turned into (the cache)"
    if plan.vectors is None:
        yield f"remove     all messages {numbers}: which of them are theirs is not known"
    elif plan.vectors:
        yield f"remove     {counted(plan.vectors, 'message')} of theirs {numbers}"


def _version_lines(title: str, version: LearnedVersion, policy: str, checks: Sequence[str]) -> Iterator[str]:
    """What becomes of a model."""
    learned = f"{title}, learned from {counted(version.rows, 'row')} of theirs"
    match version.action:
        case "replace" if "champion" in version.aliases:
            yield f"replace    {learned}"
            yield "           a new model is trained without these rows and takes its place; then this one is removed"
            yield from (f"           {line}" for line in checks)
            until = "this one goes on answering" if policy != "block" else "nothing answers, as this one is out of use"
            yield f"           until then {until}; if the new one does not pass, the rows are gone from the files all"
            yield "           the same, but the old model stays until you decide: the lines to type are told then, and"
            yield "           nobody else can be erased before that"
        case "replace":
            yield f"replace    {learned}"
            yield "           a new candidate is trained without these rows; then this one is removed"
        case "remove":
            yield f"remove     {learned}"
        case _:
            yield f"note       {learned}: it stays ({version.held or BY_POLICY})"
    goes = "stays" if version.action == "note" else "is removed"
    yield from (
        f"           the folder {address}, from which others take it, {goes} with it" for address in version.published
    )
