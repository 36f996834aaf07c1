"""`erase`: take all that is held of persons out of runs, files and models; a plan first, and all of it once confirmed.

What is done is done in an order that a kill at any place leaves whole, and each part can be done twice: first nobody
reads the rows any more, then they leave files and cache, then models that learned from them are replaced and removed,
and last the manifests, by which the rows are found. `steps.erasing.state` holds how far it came.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.interruption import allowed
from pcc_pipeline.persons.holds import Holds
from pcc_pipeline.persons.keys import Keys, Kind
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.persons.suppression import read_suppressed, suppress
from pcc_pipeline.plurals import counted
from pcc_pipeline.processes import login_here
from pcc_pipeline.steps.erasing import files, models
from pcc_pipeline.steps.erasing.certificate import (
    certificate,
    demand_same_page,
    json_of,
    persons_of,
    read_certificate,
    write_certificate,
)
from pcc_pipeline.steps.erasing.held import HeldError, demand_not_held
from pcc_pipeline.steps.erasing.holdings import Holdings, holdings, holdings_of, keys_of_lineage, under_way
from pcc_pipeline.steps.erasing.kept import Earlier, earlier_erasures, standing, words
from pcc_pipeline.steps.erasing.plan import (
    Before,
    LearnedVersion,
    Numbers,
    Plan,
    Scan,
    make_plan,
    texts_of,
    with_champions,
    with_holds,
)
from pcc_pipeline.steps.erasing.spelling import LISTS, NEARLY, unknown_names
from pcc_pipeline.steps.erasing.state import State, file_of, new_state, read_state, unfinished
from pcc_pipeline.steps.erasing.still import in_inputs, still_standing
from pcc_pipeline.steps.erasing.tables import settle_parts, take_out_of
from pcc_pipeline.steps.erasing.telling.certificate_page import page
from pcc_pipeline.steps.erasing.telling.half_done import half_done, how_far, past_gates
from pcc_pipeline.steps.erasing.telling.outcomes import ErasedOutcome, PlannedOutcome, ThereAlready, VerifiedOutcome
from pcc_pipeline.steps.erasing.telling.sentences import checks_set, kept_in
from pcc_pipeline.steps.erasing.telling.vocabulary import done_so_far, job, moment
from pcc_pipeline.steps.inputs.suppressed import list_digest
from pcc_pipeline.steps.records.audit import Audit, demand_reason, record
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.delivery.catching_up import catch_up
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG, note_list
from pcc_pipeline.tracking.registry.holds import read_holds
from pcc_pipeline.tracking.registry.locks import ERASING, Turn, turn
from pcc_pipeline.tracking.registry.versions import demand_model, shown_address
from pcc_pipeline.tracking.runs import StepRun, step_run
from pcc_pipeline.tracking.store.past_runs import newest_of_step
from pcc_pipeline.tracking.store.places import places_of

logger = logging.getLogger(__name__)

# Of a run that made a plan, the plan's number.
_PLAN_TAG = "pcc.plan"
_SHOWN_NAMES = 3


def run(
    params: Params,
    subjects: str | None = None,
    cases: str | None = None,
    *,
    confirm: str | None = None,
    force: bool = False,
    reason: str = "",
) -> PlannedOutcome | ThereAlready | ErasedOutcome | VerifiedOutcome:
    """Make a plan, or carry out one that is confirmed; of one that was carried out, look whether it still holds.

    Args:
        subjects, cases: text files with a name a line: of persons, as `data.subject_column` has them, and of cases.
        confirm: the plan's id.
        force: successors go past gates that refuse them; it needs a reason.

    Raises:
        ConfigError: nobody is named, there is no key, or the plan is another one by now.
        WaitingError: a gate refuses a successor, or it waits for its approval; but for the version that it is to
            replace all is done, and confirming again goes on there.
        DataError, StorageError, TrackingError: what was done stays done, and confirming again goes on.
    """
    if force:
        demand_reason(reason, "force")
    names = {"subjects": _names(subjects), "case_ids": _names(cases)}
    keys = keys_of_lineage(params)
    if keys.writing is None or not any(names.values()):
        raise ConfigError(
            "nobody is named",
            where="subjects, cases",
            fix="give a text file with a name a line: --subjects persons.txt, or --cases cases.txt",
        )
    options = " ".join(
        f"--{option} {path}" for option, path in (("subjects", subjects), ("cases", cases)) if path is not None
    )
    folder = local_path(params.output.erasures_dir)
    with step_run("erase", params) as opened, _refusals_on_record(params, opened):
        opened.log(payloads.LoggedParams(used(params, "erase")))
        demand_model(params.registry.model_name)
        # What runs kept while MLflow was away holds rows too, which are looked for there.
        outbox = params.output.unlogged_dir
        caught_up = catch_up(local_path(outbox))
        unsent = [
            f"what lies in {outbox} until MLflow takes it, which it did not: {fault}" for fault in caught_up.faults
        ]
        if caught_up.busy:
            unsent.append(
                f"what {counted(caught_up.busy, 'job')} under way keep in {outbox} until MLflow takes it: look again "
                "once they have ended"
            )
        if confirm is None:
            return _planned(params, opened, folder, names, keys, options, unsent)
        with turn(params.registry.model_name, account(), ERASING) as own, allowed():
            done = folder / f"{confirm}.certificate.json"
            if done.is_file() and not file_of(folder, confirm).exists():
                opened.log(payloads.Tags({"pcc.action": "verified"}))
                document = read_certificate(done, keys)
                _demand_same(persons_of(document, keys, str(done)), Plan.of(document["plan"]), names, keys, confirm)
                return replace(verify(params, str(done)), done_before=True)
            state = _state(params, folder, confirm, names, keys, unsent)
            audit, about = Audit(params, opened), {"erasure": state.id, "run": opened.run_id}
            with audit.act("erase", about, reason=reason) as act:
                with half_done(state, options):
                    holding = _Holding(params, state, folder, keys, names)
                    _carry_out(params, state, keys, opened, own, holding, models.Allowance(force, reason))
                outcome = _certified(params, state, folder, keys, opened)
                act.on |= {"removed": state.removed, "successors": state.successors, "still": len(outcome.still)}
            return replace(outcome, lines=tuple(audit.warnings))


def verify(params: Params, file: str) -> VerifiedOutcome:
    """Whether a certificate is as it was signed, and what of the persons stands anywhere now.

    Raises:
        ConfigError: it cannot be read, or a key is not here.
        DataError: it was changed.
        TrackingError: MLflow does not answer.
    """
    keys, path = keys_of_lineage(params), local_path(file)
    document = read_certificate(path.with_suffix(".json") if path.suffix == ".html" else path, keys)
    if path.suffix == ".html" or path.with_suffix(".html").is_file():
        demand_same_page(path.with_suffix(".html"), document)
    persons, plan = persons_of(document, keys, file), Plan.of(document["plan"])
    inputs = in_inputs(plan, persons, params.data.subject_column)
    still = still_standing(params, persons, keys, plan)
    return VerifiedOutcome(document, still, tuple(map(words, standing(plan))), inputs=inputs)


def _planned(
    params: Params,
    opened: StepRun,
    folder: Path,
    names: dict[str, list[str]],
    keys: Keys,
    options: str,
    unsent: list[str],
) -> PlannedOutcome | ThereAlready:
    sought = Sought.of(keys, names["subjects"], names["case_ids"])
    for ident in unfinished(folder):
        state = read_state(folder, ident, keys)
        if state is not None and sought.is_within(state.persons):
            lines = [
                f"half done  an erasure of these persons was begun {moment(state.began)} and is not complete",
                *(f"           {line}" for line in how_far(state)),
                "to do      type this line, which goes on where it was:",
                f"               pcc erase {options} --confirm {ident}",
            ]
            if "others" in state.done:
                lines += [f"           {line}" for line in past_gates(options, ident)]
            return ThereAlready(opened.run_id, tuple(lines))
    _demand_none_half_done(folder)
    known, earlier, unknown = _looked_up(params, folder, keys, names)
    scan = Scan(params, known, earlier.plans)
    nothing = not earlier.kept and not known.traces and not scan.runs() and not scan.pages()
    if nothing and not any(scan.copies().values()):
        if earlier.files:
            done = f"done       this was carried out {earlier.words}; nothing of theirs was found now"
            return ThereAlready(
                opened.run_id, (done, *(f"warning    not looked into: {one}" for one in earlier.unseen))
            )
        listed = read_suppressed(local_path(params.lineage.suppression_file), keys)
        if listed is not None and sought.is_within(listed):
            jobs = counted(known.looked_into, "job")
            done = (
                f"done       this was carried out before: nothing of theirs is held in {jobs} on record; nothing is to "
                "be done"
            )
            return ThereAlready(opened.run_id, (done,))
        if not known.looked_into:
            raise ConfigError(
                f"no run at {shown_address()} has a manifest that can be read, so nothing can be said of these persons",
                where="MLFLOW_TRACKING_URI, and this folder",
                fix="call it where the runs were made, with the key that they were made with",
            )
        if any(nearly or _is_list(name) for (_, name), nearly in unknown.items()):
            # Likely a slip, for which nobody should get a certificate that nothing is held.
            unknown_lines = "; ".join(_unknown_lines(unknown, names))
            raise ConfigError(
                f"none of them is known in {counted(known.looked_into, 'run')}: {unknown_lines}",
                where="subjects, cases",
                fix="write the names as the data has them, one a line; capitals count",
            )
    plan = _plan(params, known, earlier, names, keys, unsent, len(unknown))
    ident = plan.id_for(known.persons)
    opened.log(payloads.Tags({"pcc.action": "planned", _PLAN_TAG: ident}), payloads.Json("plan.json", plan.document()))
    warnings = (*_unknown_lines(unknown, names), *earlier.warnings)
    return PlannedOutcome(
        opened.run_id, ident, plan, options, warnings, checks_set(params), kept_in(places_of(opened.run_id))
    )


def _looked_up(
    params: Params, folder: Path, keys: Keys, names: dict[str, list[str]]
) -> tuple[Holdings, Earlier, dict[tuple[Kind, str], bool]]:
    """What is held of the persons, their earlier erasures, and names that nobody has and that were not erased."""
    known = holdings(params, **names)
    earlier = earlier_erasures(folder, keys, Sought.of(keys, names["subjects"], names["case_ids"]), read_holds())
    # No manifest names their cases any more; rows that somebody put back are found by them.
    known.persons = known.persons.with_their_cases(earlier.persons.their_cases)
    return known, earlier, {} if earlier.files else unknown_names(params, known, names)


def _plan(
    params: Params,
    known: Holdings,
    earlier: Earlier,
    names: dict[str, list[str]],
    keys: Keys,
    unsent: list[str],
    unknown: int,
) -> Plan:
    holds = read_holds()
    demand_not_held(params, known, names, keys, holds)
    numbers = Numbers(len(names["subjects"]), len(names["case_ids"]), unknown)
    return make_plan(params, known, numbers, holds, Before(earlier.plans, earlier.kept), [*unsent, *earlier.unseen])


def _demand_none_half_done(folder: Path) -> None:
    """Two that are half done would take lines out of records that the other has shortened."""
    if others := unfinished(folder):
        raise ConfigError(
            f"an erasure of other persons is half done: {', '.join(others)}",
            where=str(folder),
            fix="finish it first, with the list that it was planned with: pcc erase --subjects … --confirm "
            f"{others[0]}",
        )


def _demand_ended(known: Holdings) -> None:
    """What a job makes of their rows later would be found by nobody once they are out of its manifest."""
    if runs := under_way(trace.run for trace in known.traces):
        raise ConfigError(
            f"{', '.join(job(run.step, run.run_id) for run in runs)} has read rows of theirs and is under way, so "
            "nobody could find what it makes of them; nothing was done",
            where=f"run {runs[0].run_id}",
            fix="let it end, or end it (one that was killed on another machine counts as ended after five minutes), "
            "and make the plan again: the same line without --confirm",
        )


def _is_list(name: str) -> bool:
    return bool({",", ";"} & set(name))


def _unknown_lines(unknown: Mapping[tuple[Kind, str], bool], names: dict[str, list[str]]) -> tuple[str, ...]:
    """A line for each name that no manifest has: by its place in the list, since a name stands in no output."""
    lines = []
    for option, kind, list_of in LISTS:
        for place, name in enumerate(names[option], start=1):
            if (kind, name) not in unknown:
                continue
            line = f"name {place} of the list of {list_of} is not known here"
            if _is_list(name):
                line += ", and holds a comma or semicolon: one name a line"
            elif unknown[kind, name]:
                line += NEARLY
            else:
                line += ": look at the spelling; if it is right, nothing is held of it"
            lines.append(line)
    if len(lines) > _SHOWN_NAMES + 1:
        lines[_SHOWN_NAMES:] = [f"{len(lines) - _SHOWN_NAMES} more names are not known here either"]
    return tuple(lines)


def _demand_same(persons: Sought, plan: Plan, names: dict[str, list[str]], keys: Keys, ident: str) -> None:
    sought = Sought.of(keys, names["subjects"], names["case_ids"])
    same_number = (plan.subjects, plan.cases) == (len(names["subjects"]), len(names["case_ids"]))
    if not same_number or not sought.is_within(persons):
        raise ConfigError(
            f"{ident} was planned for other persons than those of this list; nothing was done",
            where="subjects, cases",
            fix="give the list that it was planned with, or make a plan for this one",
        )


@contextmanager
def _refusals_on_record(params: Params, opened: StepRun) -> Iterator[None]:
    """That somebody was not erased because of a hold stands in the audit log, as what is done does."""
    try:
        yield
    except HeldError as error:
        record(params, "erase", {"run": opened.run_id}, f"refused: {error.what}", run=opened)
        raise


def _state(
    params: Params, folder: Path, confirm: str, names: dict[str, list[str]], keys: Keys, unsent: list[str]
) -> State:
    state = read_state(folder, confirm, keys)
    if state is not None:
        _demand_same(state.persons, state.plan, names, keys, confirm)
        return state
    if newest_of_step("erase", {_PLAN_TAG: confirm}) is None:
        raise ConfigError(
            "no plan has this number; nothing was done", where="confirm", fix="copy it from the last lines of the plan"
        )
    _demand_none_half_done(folder)
    known, earlier, unknown = _looked_up(params, folder, keys, names)
    _demand_ended(known)
    plan = _plan(params, known, earlier, names, keys, unsent, len(unknown))
    if (ident := plan.id_for(known.persons)) != confirm:
        raise ConfigError(
            f"{confirm} was planned for others, or what is held of these has changed since; nothing was done",
            where="confirm",
            fix="call it without confirm, and look at the plan again",
        )
    state = new_state(ident, plan, known.persons, earlier.others, account(), login_here())
    state.write(folder)
    return state


class _Holding:
    """Keeps an erasure that was begun to the holds of now: whoever is held since is kept as far as something is left.

    Args:
        names: `subjects` and `case_ids`; see `demand_not_held`.
    """

    def __init__(self, params: Params, state: State, folder: Path, keys: Keys, names: dict[str, list[str]]) -> None:
        self._params, self._state, self._folder, self._keys, self._names = params, state, folder, keys, names
        self._kept_to: Holds | None = None

    def look(self) -> None:
        """Take what is held out of the plan.

        Raises:
            HeldError: one of the persons is held.
            TrackingError: MLflow does not answer.
        """
        holds, state = read_holds(), self._state
        if holds == self._kept_to:
            return
        known = holdings_of(self._params, state.persons, self._keys)
        so = "so the erasure that was begun goes no further; what is done stays done"
        demand_not_held(self._params, known, self._names, self._keys, holds, others=state.others, so=so)
        if (plan := with_holds(state.plan, holds)) != state.plan:
            state.plan = plan
            state.write(self._folder)
        self._kept_to = holds


def _carry_out(
    params: Params, state: State, keys: Keys, opened: StepRun, own: Turn, holding: _Holding, allowance: models.Allowance
) -> None:
    plan, persons, column = state.plan, state.persons, params.data.subject_column
    folder = local_path(params.output.erasures_dir)

    planned = {
        "documents": sum(sum(each.documents.values()) for each in plan.runs),
        "tables": sum(sum(each.tables.values()) for each in plan.runs),
        "splits": plan.lines_of_splits,
        "copies": sum(plan.copies.values()),
        "cache": plan.vectors or 0,
    }

    def part(name: str, act: Callable[[], int]) -> None:
        """Once: what was done already is not done again, unless it was cut off, and then it is to be harmless."""
        if name in state.done:
            return
        logger.info("erasure %s, once this step is done: %s", state.id, *done_so_far([name]))
        own.check()
        holding.look()
        # What a process that was killed took out is not there to be counted, and stands in the plan.
        state.removed[name] = max(act(), planned.get(name, 0))
        state.done.append(name)
        state.write(folder)

    def suppressed() -> int:
        suppress(local_path(params.lineage.suppression_file), keys, persons)
        for name in {params.registry.model_name, *(each.name for each in plan.learned if each.name)}:
            note_list(name, list_digest(params), opened.run_id, account())
        return plan.subjects + plan.cases

    def marked() -> int:
        champions = models.mark(state.plan.learned, state.id, state.plan.policy)
        # One that was promoted since the plan was made is replaced, not removed with nothing in its place.
        state.plan = with_champions(state.plan, champions)
        return len(plan.learned)

    def succeeded(old: LearnedVersion) -> int:
        learned = [each.number for each in plan.learned if each.name == old.name]
        number = models.successor_of(params, old, learned, state.id, allowance)
        state.successors[old.name], state.judged[old.name] = number, models.how_it_came(old.name, number)
        if promoted := models.promotion_of(old.name, number):
            state.promoted[old.name] = promoted
        if (checks := models.checks_of(old.name, number)) is not None:
            state.checks[old.name] = checks
        return 1

    def copied() -> int:
        removed = sum(take_out_of(address, persons, column) for address in plan.copies)
        settle_parts(plan.copies, keys, persons)
        return removed

    def cleared() -> int:
        here = files.documents_here([params.output.report, params.output.metrics], persons)
        state.removed["pages"] = max(here, sum(plan.pages.values()))
        return sum(files.documents_of_run(each, persons) for each in plan.runs)

    def gone(action: str) -> int:
        those = [old for old in state.plan.learned if old.action == action]
        state.folders += [folder for old in those for folder in models.remove(params, old)]
        return len(those)

    part("suppressed", suppressed)
    part("marked", marked)
    part("documents", cleared)
    if "cache" not in state.done:
        texts = None if plan.vectors is None else texts_of(params, persons, plan.inputs, plan.copies)
        part("cache", lambda: files.forget_texts(params, texts))
    part("tables", lambda: sum(files.tables_of_run(each, persons, column) for each in plan.runs))
    part(
        "splits",
        lambda: sum(files.split_of_run(params, each, keys, persons, state.id) for each in plan.runs if each.split),
    )
    part("copies", copied)
    part("others", lambda: gone("remove"))
    for place, planned_so in enumerate(plan.learned):
        if {f"successor {planned_so.name}", "versions"} & {*state.done}:
            continue
        holding.look()
        if (old := state.plan.learned[place]).action == "replace":
            part(f"successor {old.name}", partial(succeeded, old))
    part("versions", lambda: gone("replace"))
    part("manifests", lambda: sum(files.manifest_of_run(each, keys, persons, state.id) for each in plan.runs))


def _certified(params: Params, state: State, folder: Path, keys: Keys, opened: StepRun) -> ErasedOutcome:
    assert keys.writing is not None, "asked for before"
    state.kept_in = kept_in(places_of(opened.run_id))
    still = still_standing(params, state.persons, keys, state.plan)
    document = certificate(state, still, keys.writing, params.output.erasures_dir)
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
    # All its parts are done: where rows stand yet, that is for a new plan.
    file_of(folder, state.id).unlink(missing_ok=True)
    return ErasedOutcome(opened.run_id, state, still, tuple(paths), kept=tuple(map(words, standing(state.plan))))


def _names(path: str | None) -> list[str]:
    """The lines of a text file, each once, as manifests have names."""
    if path is None:
        return []
    file = local_path(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8, as an Excel file is none"
        raise ConfigError(
            f"the list cannot be read: {what}",
            where=str(file),
            fix="write the names into a text file, a name a line, and give that; saved as UTF-8",
        ) from error
    names = list(dict.fromkeys(label_text(line.strip()) for line in lines if line.strip()))
    if not names:
        raise ConfigError("the list is empty", where=str(file), fix="give a text file with a name a line")
    return names
