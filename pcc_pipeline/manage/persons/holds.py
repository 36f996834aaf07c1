"""`pcc hold`: what must be kept for a court or an authority, whatever retention or erasure would do to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime

from pcc_pipeline.config.paths import local_path
from pcc_pipeline.data.columns import label_text
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.persons import erasures
from pcc_pipeline.manage.queries import Question
from pcc_pipeline.manage.tables import table
from pcc_pipeline.persons.holds import Person, PersonHold, VersionHold, hold_on, names
from pcc_pipeline.persons.keys import VARIABLE, Keys, Kind, read_keys
from pcc_pipeline.steps.erasing.held import holds_on
from pcc_pipeline.steps.erasing.holdings import holdings, names_of
from pcc_pipeline.steps.erasing.spelling import NEARLY, near_forms, unknown_names
from pcc_pipeline.steps.erasing.still import still_standing
from pcc_pipeline.steps.erasing.telling.vocabulary import moment
from pcc_pipeline.steps.records.audit import demand_reason, record
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.registry import holds as registry
from pcc_pipeline.tracking.store import past_runs


class ErasedError(ConfigError):
    """Who is to be held was erased, and nothing of theirs is left."""


def add(question: Question, *, version: str | None, subject: str | None, case_id: str | None, reason: str) -> str:
    """Hold a version, a subject or a case.

    Raises:
        ConfigError: not one thing is named, there is no reason, no key for a person, or they were erased.
        TrackingError: there is no such version, or MLflow refuses.
    """
    _demand_one(version, subject, case_id)
    demand_reason(reason, "a hold", 'say why, without a name: --reason "the lawsuit 12/26"')
    since, by = datetime.now(UTC).isoformat(timespec="seconds"), account()
    if version is not None:
        number = _number(question, version)
        registry.hold_version(VersionHold(question.model_name, number, reason, since, by))
        warnings = record(question.params, "hold", {"model": question.model_name, "version": number}, reason=reason)
        held = f"{question.model_name} version {number}: its model and what is published of it"
        also = "and from retention its runs and files too; rows of persons who are erased leave those all the same"
        return _with(f"held       {held}, {also}", warnings)
    kind, name = _person(subject, case_id)
    _demand_nameless(reason, name, "the registry")
    hold = hold_on(kind, name, _keys(question), reason=reason, since=since, by=by)
    sought = names_of(name if kind == "subject" else None, name if kind == "case" else None)
    known = holdings(question.params, **sought)
    try:
        erased = [] if known.traces else _left_of_erased(question, sought)
    except ErasedError as error:
        # That somebody asked for it, and why it was refused, is asked for later, as of a hold that stands.
        record(question.params, "hold", {"hold": hold.id, "of a": kind}, f"refused: {error.what}", reason=reason)
        raise
    unknown = {} if erased else unknown_names(question.params, known, sought)
    registry.hold_person(question.model_name, hold)
    warnings = [
        f"warning    no run knows this {kind}{NEARLY if nearly else ' as it is written'}: the hold keeps nothing yet. "
        f'Look at the spelling; to take it back: pcc hold remove --hold {hold.id} --reason "misspelt"'
        for nearly in unknown.values()
    ]
    warnings += erased + _half_erased(question, sought)
    warnings += record(question.params, "hold", {"hold": hold.id, "of a": kind}, reason=reason)
    return _with(f"held       a {kind}, as hold {hold.id}: every run and copy in which they stand", warnings)


def remove(
    question: Question,
    *,
    version: str | None,
    subject: str | None,
    case_id: str | None,
    hold: str | None,
    reason: str,
) -> str:
    """Let a version, a subject, a case or the hold of an id go; the reason stands in the audit log alone.

    Raises:
        ConfigError: not one thing is named, it is not held, or there is no reason.
        TrackingError: MLflow refuses.
    """
    _demand_one(version, subject, case_id, hold)
    # What is let go may be erased for ever: who looks back must find why.
    demand_reason(reason, "letting a hold go", 'say why, without a name: --reason "the lawsuit 12/26 is over"')
    known = registry.read_holds()
    if version is not None:
        number = _number(question, version)
        if known.on_version(question.model_name, number) is None:
            raise ConfigError("this version is not held", where=f"{question.model_name} version {number}", fix=_LIST)
        registry.release_version(question.model_name, number)
        released = {"model": question.model_name, "version": number}
        warnings = record(question.params, "release", released, reason=reason)
        return _with(f"released   {question.model_name} version {number}", warnings)
    if hold is not None:
        its = [one for one in known.persons if one.id == hold]
    else:
        kind, name = _person(subject, case_id)
        _demand_nameless(reason, name, "the audit log")
        person, keys = Person(**{_OPTION[kind]: name}), _keys(question)
        its = [one for one in known.persons if names(one, person, keys)]
    if not its:
        raise ConfigError("there is no such hold", where="pcc hold remove", fix=_LIST)
    warnings = []
    for one in its:
        registry.release_person(one.id)
        warnings += record(question.params, "release", {"hold": one.id, "of a": one.kind}, reason=reason)
    return _with("\n".join(f"released   hold {one.id}" for one in its), warnings)


def listed(question: Question, *, subject: str | None, case_id: str | None) -> str:
    """All holds, of every registered model; or those of a subject and their cases, or of a case and whose it is.

    Raises:
        ConfigError: a person is named, and there is no key.
        DataError: a manifest is damaged.
        TrackingError: MLflow does not answer, or a hold cannot be read.
    """
    known = registry.read_holds()
    versions, persons, nothing = known.versions, known.persons, "nothing is held"
    words: dict[Kind, str] = {"subject": "subject", "case": "case"}
    if subject is not None or case_id is not None:
        _demand_one(subject, case_id)
        kind, name = _person(subject, case_id)
        sought = names_of(name if kind == "subject" else None, name if kind == "case" else None)
        rows_of = holdings(question.params, **sought)
        versions, persons = (), tuple(holds_on(rows_of.persons, known, rows_of.seen))
        words = {kind: kind, "case" if kind == "subject" else "subject": _BY_ROWS[kind]}
        if not persons:
            nothing = f"no hold is on this {kind}, as it is written"
            unknown = unknown_names(question.params, rows_of, sought)
            nothing += _spelt_otherwise(kind, name, known.persons, _keys(question), unknown.get((kind, name)))
    if question.as_json:
        return json_text(
            {"versions": [vars(hold) for hold in versions], "persons": [_document(hold) for hold in persons]}
        )
    rows = [(f"{hold.name}/{hold.number}", "version", hold.since, hold.by, hold.reason) for hold in versions]
    rows += [(hold.id, words[hold.kind], hold.since, hold.by, hold.reason) for hold in persons]
    if not rows:
        return nothing
    hint = "who is held the list does not know; whether somebody is: pcc hold list --subject …, or --case-id …"
    lines = [hint] if persons and subject is None and case_id is None else []
    return _with(table(("hold", "of a", "since (UTC)", "by", "reason"), rows), lines)


def _spelt_otherwise(kind: Kind, name: str, held: Sequence[PersonHold], keys: Keys, nearly: bool | None) -> str:
    """What to look at before one goes by it that nobody is held.

    Args:
        nearly: whether a run knows the name spelt otherwise; None where one knows it as it is.
    """
    near = [Person(**{_OPTION[kind]: form}) for form in near_forms(name)]
    if ids := [hold.id for hold in held if any(names(hold, person, keys) for person in near)]:
        return f"{_OTHERWISE} there is: hold {', '.join(ids)}"
    if nearly:
        return f"{_OTHERWISE} runs know it: ask for it so"
    return "" if nearly is None else ", and no run knows it: look at the spelling"


def _half_erased(question: Question, names: dict[str, list[str]]) -> list[str]:
    """A warning where an erasure of the person was begun: what it took out is gone."""
    return [
        f"warning    an erasure of theirs was begun {moment(state.began)} ({state.id}): what it has taken out is gone; "
        "what is left is kept from now on, and it goes no further"
        for state in erasures.half_erased(question.params, names)
    ]


def _left_of_erased(question: Question, names: dict[str, list[str]]) -> list[str]:
    """Of somebody whom no run knows: a warning where they were erased and rows of theirs stand again.

    Raises:
        ErasedError: they were erased, and nothing is left.
    """
    earlier, was = erasures.erased(question.params, names), erasures.erased_words(question.params, names)
    if not earlier.files:
        return [f"warning    {was}"] if was else []
    still = still_standing(question.params, earlier.persons, _keys(question), earlier.plans[-1])
    if not still:
        raise ErasedError(
            f"{was}: there is nothing left to hold",
            where="pcc hold add",
            fix="hold a model that learned from their rows, if the certificate names one that stays: --version",
        )
    return [f"warning    {was}; of those who are in it rows stand in {', '.join(still)}"]


def _with(said: str, warnings: list[str]) -> str:
    return "\n".join([said, *warnings])


_LIST = "pcc hold list shows what is held"
_OTHERWISE = "; in small letters, or without signs around it,"
# What a hold is on that is found by rows of who is asked for.
_BY_ROWS: dict[Kind, str] = {"subject": "case of theirs", "case": "subject whose case it is"}
_OPTION: dict[Kind, str] = {"subject": "subject", "case": "case_id"}


def _document(hold: PersonHold) -> dict[str, object]:
    return {
        "id": hold.id,
        "kind": hold.kind,
        "keys": list(hold.hashes),
        "reason": hold.reason,
        "since": hold.since,
        "by": hold.by,
    }


def _demand_one(*names: str | None) -> None:
    if sum(name is not None for name in names) != 1:
        raise ConfigError(
            "name one thing that is meant", where="pcc hold", fix="--version, --subject or --case-id, one of them"
        )


def _person(subject: str | None, case_id: str | None) -> tuple[Kind, str]:
    """The kind, and the name as manifests have it, whatever the file's format was."""
    return ("subject", label_text(subject)) if subject is not None else ("case", label_text(case_id))


def _demand_nameless(reason: str, name: str, who: str) -> None:
    if name in reason:
        raise ConfigError(
            f"the reason names the person, whom {who} must not know", where="--reason", fix="say it otherwise"
        )


def _number(question: Question, reference: str) -> str:
    record = past_runs.find_version(reference, question.model_name, past_runs.open_experiment(question.experiment))
    if record.registered is None:
        raise ConfigError(
            "this version is not registered", where=reference, fix="name one that `pcc models list` shows"
        )
    return record.registered.number


def _keys(question: Question) -> Keys:
    keys = read_keys(local_path(question.params.lineage.key_file), os.environ)
    if not keys.all:
        raise ConfigError(
            "there is no key of lineage, so nobody can be held by name",
            where=question.params.lineage.key_file,
            fix=f"bring the key of the machine that trained, as {VARIABLE} or lineage.key_file",
        )
    return keys
