"""What `erase` says: a plan, what was carried out, what a certificate is worth today."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.certificate import asked_for, moment, outside
from pcc_pipeline.steps.erasing.plan import Plan
from pcc_pipeline.steps.erasing.state import State

_LONGEST_LIST = 12


@dataclass(frozen=True)
class PlannedOutcome:
    """A plan, of which nothing is done yet.

    Attributes:
        options: of the command line, that name the lists.
        unknown: a line for each name that nothing is known of.
    """

    run_id: str
    id: str
    plan: Plan
    options: str
    unknown: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        lines = [*_plan_lines(self.plan), *(f"warning    {line}" for line in self.unknown), ""]
        its_line = f"           pcc erase {self.options} --confirm {self.id}"
        if self.plan.holds_nothing:
            return [
                *lines,
                "there is nothing to remove. To have that on record, as a signed page to file with the request, and",
                "to keep them out of whatever is read from now on:",
                its_line,
            ]
        return [
            *lines,
            "nothing was changed yet. To carry it out, which may take some minutes (leave the window open):",
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
        removed, plan = self.state.removed, self.state.plan
        messages = counted(removed.get("cache", 0), "message")
        gone = sum(1 for each in plan.learned if each.name and each.action != "note")
        erased = (
            f"erased     {counted(removed.get('tables', 0) + removed.get('documents', 0), 'row')} from files of runs, "
            f"{removed.get('copies', 0):,} from files here, vectors of {messages} from the cache"
        )
        nothing = "erased     nothing was held of them; from now on they are kept out of what is read"
        lines = [
            nothing if plan.holds_nothing else erased,
            *(f"replaced   {name}: version {number} now" for name, number in self.state.successors.items()),
            *(f"           {judged}" for judged in self.state.judged.values() if judged),
            *([f"removed    {counted(gone, 'version')} that had learned from the rows"] if gone else []),
            *(f"to do      {line}" for line in outside(plan)),
            *self.lines,
        ]
        if self.still:
            lines += _standing(self.still)
            lines.append("           make a new plan for them: the same line without --confirm")
        else:
            lines += _nothing_but("runs, models, and the files that runs wrote here, once more", self.kept)
        to_read = self.certificates[-1]
        return [
            *lines,
            f"kept       {to_read}, to be read and filed with the request",
            f"           to verify it later, or to look again: pcc erase --verify {to_read}",
        ]


@dataclass(frozen=True)
class VerifiedOutcome:
    """What a certificate is worth today.

    Attributes:
        kept: versions that learned from the rows and stay.
        done_before: somebody wanted the erasure to be carried out, and it had been.
    """

    document: dict[str, Any]
    still: dict[str, int]
    kept: tuple[str, ...] = ()
    done_before: bool = False

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
            return [*lines, *_nothing_but("runs, models, and the files that runs wrote here", self.kept)]
        last = "           they are not erased any more: make a new plan with pcc erase --subjects …, or --cases …"
        return [*lines, *_standing(self.still), last]


def _nothing_but(looked: str, kept: tuple[str, ...]) -> list[str]:
    if not kept:
        return [f"checked    {looked}: nothing of theirs was found"]
    return [f"checked    {looked}: no row of theirs was found", *(f"warning    {line}" for line in kept)]


def _standing(still: dict[str, int]) -> list[str]:
    return [f"warning    {counted(rows, 'row')} of theirs stand in {place}" for place, rows in still.items()]


def _plan_lines(plan: Plan) -> list[str]:
    rows = sum(sum(part.tables.values()) + sum(part.documents.values()) for part in plan.runs)
    touched = sum(1 for part in plan.runs if part.tables or part.documents)
    splits = sum(1 for part in plan.runs if part.split)
    some = list(plan.copies.items())
    some_runs = f"{counted(len(plan.runs), 'run')} read rows of theirs or hold some"
    nothing = "nothing is held of them: no run read rows of theirs, and no file here has any"
    lines = [f"plan       for {asked_for(plan)}: {nothing if plan.holds_nothing else some_runs}"]
    if touched:
        lines.append(f"remove     {counted(rows, 'row')} from the files of {counted(touched, 'run')} in MLflow")
    if splits:
        lines.append(
            f"remove     their lines from the records of {counted(splits, 'training')}, which say what each row was for"
        )
    lines += [f"remove     {counted(number, 'row')} from {path}" for path, number in some[:_LONGEST_LIST]]
    if len(some) > _LONGEST_LIST:
        lines.append(f"           and rows from {len(some) - _LONGEST_LIST} more files here")
    if plan.vectors is None:
        lines.append(
            "remove     the vectors (a message as numbers) of all messages from the cache: theirs are not known"
        )
    elif plan.vectors:
        lines.append(
            f"remove     the vectors (a message as numbers) of {counted(plan.vectors, 'message')} from the cache"
        )
    for version in plan.learned:
        learned = f"{version.title} learned from {counted(version.rows, 'row')} of theirs"
        match version.action:
            case "replace":
                what = (
                    "a new one is trained without them and takes its place, if it passes the checks that are set here "
                    "(registry.gates; there may be none); this one is removed. If a check refuses it, this one serves "
                    "on, and the erasure waits for you to decide; no other person can be erased until then"
                )
                lines.append(f"replace    {learned}: {what}")
            case "remove":
                lines.append(f"remove     {learned}")
            case _:
                lines.append(f"note       {learned}: it stays ({version.held or 'registry.erasure_policy: note'})")
        goes = "stays" if version.action == "note" else "removed"
        lines += [f"           published as {address}: {goes} with it" for address in version.published]
    return [*lines, *(f"to do      {line}" for line in outside(plan))]
