"""`erase`: take all that is held of persons out of runs, files and models; a plan first, and all of it once confirmed.

What is done is done in an order that a kill at any place leaves whole, and each part can be done twice: first nobody
reads the rows any more, then they leave files and cache, then models that learned from them are replaced and removed,
and last the manifests, by which the rows are found. `steps.erasing.state` holds how far it came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.data.contract import CASE_ID
from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.rows import count_in, rows_of, take_out
from pcc_pipeline.persons.sought import Sought, names_in
from pcc_pipeline.persons.suppression import suppress
from pcc_pipeline.steps.erasing import files, models
from pcc_pipeline.steps.erasing.certificate import (
    certificate,
    json_of,
    outside,
    page,
    persons_of,
    read_certificate,
    write_certificate,
)
from pcc_pipeline.steps.erasing.holdings import copies_here, holdings, holdings_of, keys_of_lineage
from pcc_pipeline.steps.erasing.plan import Plan, Scan, is_table, make_plan, texts_of
from pcc_pipeline.steps.erasing.state import State, file_of, new_state, read_state
from pcc_pipeline.steps.inputs.suppressed import list_digest
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery.catching_up import catch_up
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG, note_list
from pcc_pipeline.tracking.registry.turns import ERASING, turn
from pcc_pipeline.tracking.registry.versions import demand_model
from pcc_pipeline.tracking.runs import StepRun, step_run
from pcc_pipeline.tracking.store.run_files import RunFiles

logger = logging.getLogger(__name__)

_LONGEST_LIST = 12


@dataclass(frozen=True)
class PlannedOutcome:
    """A plan, of which nothing is done yet."""

    run_id: str
    id: str
    plan: Plan
    given: str

    @property
    def summary(self) -> list[str]:
        return [*_plan_lines(self.plan), *self._next]

    @property
    def _next(self) -> list[str]:
        if self.plan.is_empty:
            return [
                "nothing    is held of them; they will be kept out of what is read once you confirm",
                *self._confirm,
            ]
        return self._confirm

    @property
    def _confirm(self) -> list[str]:
        return [
            "",
            "nothing was changed yet. To carry it out:",
            f"           pcc erase {self.given} --confirm {self.id}",
            "what was removed does not come back.",
        ]


@dataclass(frozen=True)
class ErasedOutcome:
    """An erasure that was carried out.

    Attributes:
        still: place -> rows that stand there yet.
        lines: of the trainings and promotions that it took.
    """

    run_id: str
    state: State
    still: dict[str, int]
    certificates: tuple[Path, ...]
    lines: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 where rows still stand somewhere."""
        return 1 if self.still else 0

    @property
    def summary(self) -> list[str]:
        removed, plan = self.state.removed, self.state.plan
        replaced = [f"replaced   {name}: version {number} now" for name, number in self.state.successors.items()]
        gone = sum(1 for each in plan.learned if each.name and each.action != "note")
        lines = [
            *self.lines,
            f"erased     {removed.get('tables', 0) + removed.get('documents', 0):,} rows from files of runs, "
            f"{removed.get('copies', 0):,} from files here, {removed.get('cache', 0):,} vectors from the cache",
            *replaced,
            *([f"removed    {gone} versions that had learned from the rows"] if gone else []),
            *(f"left       {line}" for line in outside(plan)),
        ]
        if self.still:
            lines += [f"warning    {rows:,} rows still stand in {place}" for place, rows in self.still.items()]
            lines.append("           confirm a new plan for them: pcc erase")
        else:
            lines.append("checked    everything was looked through again: nothing of theirs was found")
        return [*lines, *(f"certificate {path}" for path in self.certificates)]


@dataclass(frozen=True)
class VerifiedOutcome:
    """What a certificate is worth today."""

    document: dict[str, Any]
    still: dict[str, int]

    @property
    def exit_code(self) -> int:
        return 1 if self.still else 0

    @property
    def summary(self) -> list[str]:
        lines = [
            f"certificate of erasure {self.document['erasure']}, ended {self.document['ended']}: as it was signed",
        ]
        if not self.still:
            return [*lines, "checked    runs, files here and versions: nothing of theirs was found"]
        return [*lines, *(f"warning    {rows:,} rows stand in {place}" for place, rows in self.still.items())]


def run(
    params: Params,
    subjects: str | None = None,
    cases: str | None = None,
    *,
    confirm: str | None = None,
    force: bool = False,
    reason: str = "",
) -> PlannedOutcome | ErasedOutcome | VerifiedOutcome:
    """Make a plan, or carry out one that is confirmed; of one that was carried out, look whether it still holds.

    Args:
        subjects, cases: text files with a name a line: of persons, as `data.subject_column` has them, and of cases.
        confirm: the plan's id.
        force: successors go past gates that refuse them; it needs a reason.

    Raises:
        ConfigError: nobody is named, there is no key, or the plan is another one by now.
        WaitingError: a gate refuses a successor; all else is done, and confirming again goes on there.
        DataError, StorageError, TrackingError: what was done stays done, and confirming again goes on.
    """
    if force and not reason.strip():
        raise ConfigError("force needs a reason, for the record", where="force", fix='give one: --reason "…"')
    names = {"subjects": _names(subjects), "case_ids": _names(cases)}
    keys = keys_of_lineage(params)
    if keys.writing is None or not any(names.values()):
        raise ConfigError(
            "nobody is named",
            where="subjects, cases",
            fix="give a text file with a name a line: --subjects persons.txt, or --cases cases.txt",
        )
    given = " ".join(
        f"--{option} {path}" for option, path in (("subjects", subjects), ("cases", cases)) if path is not None
    )
    folder = local_path(params.output.erasures_dir)
    with step_run("erase", params) as opened:
        opened.log(payloads.LoggedParams(used(params, "erase")))
        demand_model(params.registry.model_name)
        if confirm is None:
            known = holdings(params, **names)
            plan = make_plan(params, known, *map(len, names.values()))
            opened.log(payloads.Tags({"pcc.action": "planned"}), payloads.Json("plan.json", plan.document()))
            return PlannedOutcome(opened.run_id, plan.id_for(known.persons), plan, given)
        with turn(params.registry.model_name, account(), ERASING):
            done = folder / f"{confirm}.certificate.json"
            if done.is_file() and not file_of(folder, confirm).exists():
                return verify(params, str(done))
            state = _state(params, folder, confirm, names, keys)
            audit, about = Audit(params, opened), {"erasure": state.id, "run": opened.run_id}
            with audit.act("erase", about, reason=reason) as act:
                lines = _carry_out(params, state, folder, keys, opened, force=force, reason=reason)
                outcome = _certified(params, state, folder, keys, opened, lines)
                act.on |= {"removed": state.removed, "successors": state.successors, "still": len(outcome.still)}
            return replace(outcome, lines=(*outcome.lines, *audit.warnings))


def verify(params: Params, file: str) -> VerifiedOutcome:
    """Whether a certificate is as it was signed, and what of the persons stands anywhere now.

    Raises:
        ConfigError: it cannot be read, or a key is not here.
        DataError: it was changed.
        TrackingError: MLflow does not answer.
    """
    keys = keys_of_lineage(params)
    document = read_certificate(local_path(file), keys)
    persons = persons_of(document, keys, file)
    return VerifiedOutcome(document, _still(params, persons, keys, Plan.of(document["plan"])))


def _state(params: Params, folder: Path, confirm: str, names: dict[str, list[str]], keys: Keys) -> State:
    state = read_state(folder, confirm, keys)
    if state is not None:
        return state
    known = holdings(params, **names)
    plan = make_plan(params, known, *map(len, names.values()))
    if (ident := plan.id_for(known.persons)) != confirm:
        raise ConfigError(
            f"what is held of them has changed since {confirm} was planned: the plan is {ident} now",
            where="confirm",
            fix="call it without confirm, and look at the plan again",
        )
    state = new_state(ident, plan, known.persons, account())
    state.write(folder)
    return state


def _carry_out(
    params: Params, state: State, folder: Path, keys: Keys, opened: StepRun, *, force: bool, reason: str
) -> list[str]:
    plan, persons, column = state.plan, state.persons, params.data.subject_column
    lines: list[str] = []

    def part(name: str, act: Callable[[], int]) -> None:
        """Once: what was done already is not done again, unless it was cut off, and then it is to be harmless."""
        if name in state.done:
            return
        logger.info("erasure %s: %s", state.id, name)
        state.removed[name] = state.removed.get(name, 0) + act()
        state.done.append(name)
        state.write(folder)

    def suppressed() -> int:
        suppress(local_path(params.lineage.suppression_file), keys, persons)
        for name in {params.registry.model_name, *(each.name for each in plan.learned if each.name)}:
            note_list(name, list_digest(params), opened.run_id)
        return 0

    def marked() -> int:
        models.mark(plan.learned, state.id, plan.policy)
        return 0

    def delivered() -> int:
        kept = catch_up(local_path(params.output.unlogged_dir))
        lines.extend(kept.lines)
        return len(kept.lines)

    part("suppressed", suppressed)
    part("marked", marked)
    part("outbox", delivered)
    if "documents" not in state.done:
        names = _case_names(params, state, keys)
        part("documents", lambda: _documents(params, plan, persons, keys, names))
    if "cache" not in state.done:
        texts = None if plan.vectors is None else texts_of(params, persons, plan.inputs, plan.copies)
        part("cache", lambda: files.forget_texts(params, texts))
    part("tables", lambda: sum(files.tables_of_run(each, persons, column) for each in plan.runs))
    part("copies", lambda: sum(_taken_out(Path(path), persons, column) for path in plan.copies))
    part(
        "splits",
        lambda: sum(files.split_of_run(each, keys, persons, state.id) for each in plan.runs if each.split),
    )
    for old in plan.learned:
        if old.action == "replace" and f"successor {old.name}" not in state.done:
            number, said = models.successor_of(params, old, state.id, force=force, reason=reason)
            lines += said
            state.successors[old.name] = number
            part(f"successor {old.name}", lambda: 1)
    part("versions", lambda: sum(models.remove(each) for each in plan.learned if each.action != "note"))
    part("manifests", lambda: sum(files.manifest_of_run(each, keys, persons, state.id) for each in plan.runs))
    return lines


def _certified(
    params: Params, state: State, folder: Path, keys: Keys, opened: StepRun, lines: list[str]
) -> ErasedOutcome:
    assert keys.writing is not None, "asked for before"
    still = _still(params, state.persons, keys, state.plan)
    document = certificate(state, still, keys.writing)
    try:
        paths = write_certificate(folder, document)
    except OSError as error:
        raise StorageError(
            f"the certificate cannot be written: {error.strerror}",
            where=str(folder),
            fix="make room, and confirm again: all else is done",
        ) from error
    opened.log(
        payloads.Tags({"pcc.action": "erased", ERASURE_TAG: state.id, "pcc.who": account()}),
        payloads.Text("certificate.json", json_of(document)),
        payloads.Text("certificate.html", page(document)),
        payloads.Metrics({f"erase/{name.replace(' ', '_')}": count for name, count in state.removed.items()}),
    )
    state.complete = not still
    state.write(folder)
    if state.complete:
        file_of(folder, state.id).unlink(missing_ok=True)
    return ErasedOutcome(opened.run_id, state, still, tuple(paths), tuple(lines))


def _still(params: Params, persons: Sought, keys: Keys, plan: Plan) -> dict[str, int]:
    """Place -> rows of the persons that stand there."""
    known = holdings_of(params, persons, keys)
    scan = Scan(params, known)
    column, still = params.data.subject_column, dict[str, int]()
    for part in scan.runs([]):
        rows = sum(part.rows.values()) or sum(part.tables.values())
        if rows:
            still[f"run {part.run_id} ({part.step})"] = rows
    for path in dict.fromkeys([*map(str, copies_here(known.traces)), *plan.copies]):
        if Path(path).is_file() and (rows := count_in(Path(path), persons, column)):
            still[path] = rows
    for part in plan.runs:
        files_of_run = RunFiles(part.run_id)
        for name in files_of_run.names():
            if is_table(name):
                with files_of_run.fetched(name) as fetched:
                    if rows := count_in(fetched, persons, column):
                        still[f"{name} of run {part.run_id}"] = rows
    return still


def _documents(params: Params, plan: Plan, persons: Sought, keys: Keys, names: set[str]) -> int:
    removed = sum(files.documents_of_run(part, names) for part in plan.runs)
    return removed + files.documents_here([params.output.report, params.output.metrics], names)


def _case_names(params: Params, state: State, keys: Keys) -> set[str]:
    """The names of their cases, as tables that still hold them tell."""
    known = holdings_of(params, state.persons, keys)
    scan = Scan(params, known)
    scan.runs([])
    names = set(scan.names)
    for path in state.plan.copies:
        if Path(path).is_file():
            rows = rows_of(Path(path), state.persons, params.data.subject_column)
            names |= {name for name in names_in(rows, CASE_ID) if name is not None}
    return names


def _taken_out(path: Path, persons: Sought, column: str | None) -> int:
    if not path.is_file():
        return 0
    try:
        return take_out(path, persons, column)
    except OSError as error:
        raise StorageError(
            f"the rows cannot be taken out of this file: {error.strerror}",
            where=str(path),
            fix="make room or mend its permissions, and confirm again",
        ) from error


def _names(path: str | None) -> list[str]:
    """The lines of a text file, each once, as manifests have names."""
    if path is None:
        return []
    file = local_path(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"the list cannot be read: {what}", where=str(file), fix="give a text file with a name a line"
        ) from error
    names = list(dict.fromkeys(label_text(line.strip()) for line in lines if line.strip()))
    if not names:
        raise ConfigError("the list is empty", where=str(file), fix="give a text file with a name a line")
    return names


def _plan_lines(plan: Plan) -> list[str]:
    asked = [
        *([f"{plan.subjects} person{'s'[: plan.subjects != 1]}"] if plan.subjects else []),
        *([f"{plan.cases} case{'s'[: plan.cases != 1]}"] if plan.cases else []),
    ]
    rows = sum(sum(part.tables.values()) + sum(part.documents.values()) for part in plan.runs)
    touched = sum(1 for part in plan.runs if part.tables or part.documents or part.split)
    some_of = f"{plan.vectors or 0:,} vectors from the cache"
    cache = "all vectors from the cache, since their texts are not known" if plan.vectors is None else some_of
    lines = [
        f"plan       for {' and '.join(asked)}: {len(plan.runs)} runs read rows of theirs or hold some",
        f"remove     {rows:,} rows from the files of {touched} runs in MLflow",
    ]
    some = list(plan.copies.items())
    lines += [f"           {count:,} rows from {path}" for path, count in some[:_LONGEST_LIST]]
    if len(some) > _LONGEST_LIST:
        lines.append(f"           and rows from {len(some) - _LONGEST_LIST} more files here")
    lines.append(f"           {cache}")
    for version in plan.learned:
        title, learned = version.title, f"learned from {version.rows:,} rows of theirs"
        match version.action:
            case "replace":
                what = "is trained again without them, judged and put in its place; then removed"
                lines.append(f"replace    {title} {learned}: it {what}")
            case "remove":
                lines.append(f"remove     {title} {learned}")
            case _:
                why = version.held or "registry.erasure_policy: note"
                lines.append(f"note       {title} {learned}: it stays ({why})")
        lines += [f"           published as {address}: removed with it" for address in version.published]
    return [*lines, *(f"left       {line}" for line in outside(plan))]
