"""`promote`: judge a version by the gates, make it the champion and publish it, or take the champion back.

Every decision is a run of its own, with the table of gates, so the history stands in MLflow whatever aliases do later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pcc_pipeline.config import Params
from pcc_pipeline.errors import ConfigError, PccError
from pcc_pipeline.gates.verdicts import GateVerdict, headline, passed, table, to_html, to_markdown
from pcc_pipeline.interruption import allowed, protected
from pcc_pipeline.publishing.publish import Publication
from pcc_pipeline.steps.inputs.early_checks import demand_input
from pcc_pipeline.steps.inputs.test_rows import HeldOut
from pcc_pipeline.steps.judging.gate_evidence import Judgement, judge_version
from pcc_pipeline.steps.publish import check_targets, publication_lines, publish_champion, targets
from pcc_pipeline.steps.records.audit import Act, Audit, demand_reason
from pcc_pipeline.steps.records.succession import end_alerts
from pcc_pipeline.steps.records.used_options import used, used_on_model
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, load_trained_model
from pcc_pipeline.tracking.registry import champion as promotion
from pcc_pipeline.tracking.registry.approvals import approval_of, ask_approval, settle
from pcc_pipeline.tracking.registry.erased import erasure_of, read_without_list
from pcc_pipeline.tracking.registry.versions import resolve
from pcc_pipeline.tracking.runs import StepRun, step_run
from pcc_pipeline.tracking.store.past_runs import BESIDE_TAG


class PromotionRefusedError(PccError):
    """A gate failed, or the version may not be promoted at all; nothing was moved.

    Attributes:
        verdicts: what each gate said, in their order; empty where it was not judged.
    """

    verdicts: tuple[GateVerdict, ...] = ()


class NotPublishedError(PccError):
    """The champion moved, but what the downstream system takes up is still another model."""


@dataclass(frozen=True)
class PromoteOutcome:
    """A decision that moved `champion`."""

    run_id: str
    action: str
    move: promotion.Move
    verdicts: tuple[GateVerdict, ...]
    publications: tuple[Publication, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        before = f"version {self.move.before}" if self.move.before else "nobody"
        lines = [table(self.verdicts)] if self.verdicts else []
        moved = [
            f"{self.action:<10} champion is version {self.move.after} now, before it {before}",
            f"           move {self.move.number} of this model, on record in run {self.run_id}",
        ]
        if self.move.is_none:
            moved = [f"nothing moved: version {self.move.after} is the champion already, since move {self.move.number}"]
        return [
            *lines,
            *self.notes,
            *moved,
            *publication_lines(self.publications),
        ]


@dataclass(frozen=True)
class DeclinedOutcome:
    """An approver did not want it; the champion stays."""

    run_id: str
    name: str
    version: str
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        return [*self.notes, f"declined   version {self.version} of {self.name}, on record in run {self.run_id}"]


@dataclass(frozen=True)
class WaitingOutcome:
    """A version that passed the gates, or is to be forced past them, and waits for an approver.

    Attributes:
        action: what it is to be: promoted or forced.
    """

    run_id: str
    name: str
    version: str
    action: str
    verdicts: tuple[GateVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        lines = [table(self.verdicts)] if self.verdicts else []
        passed_by = "is to be forced past its gates" if self.action == "forced" else "passed its gates"
        return [
            *lines,
            *self.notes,
            f"waiting    version {self.version} of {self.name} {passed_by}, and waits for who did not train it",
            f'           they say: pcc approve {self.version} --reason "…" (on record in run {self.run_id})',
        ]


def run(
    params: Params,
    model_uri: str | None = None,
    *,
    reason: str = "",
    force: bool = False,
    data: str | HeldOut | None = None,
    experiment: str | None = None,
    before_move: Callable[[], None] = lambda: None,
) -> PromoteOutcome | WaitingOutcome:
    """Make a version the champion if every gate passes; with `registry.approvals` 1 it then waits for an approver.

    Args:
        model_uri: a registered version or alias; default is the challenger.
        reason: why, for the record; needed with `force`.
        force: go past failed gates; the failure and the reason stay on record.
        data: the version's test rows, from its training in this process; or where its training file lies now, if not
            where its training run found it.
        experiment: id of the one that the run goes to; default is the one that the environment names.
        before_move: raises where the caller may not move anything any more; asked when the gates have passed.

    Raises:
        PromotionRefusedError: a gate failed, and the message holds the table; or an erasure marked the version, before
            or while it was judged.
        ChampionMovedError: another version became champion while this one was judged; not asked with `force`.
        NotPublishedError: the version is champion now, but could not be published.
        ConfigError: `force` without a reason.
    """
    if force:
        demand_reason(reason, "force")
    name = params.registry.model_name
    with step_run("promote", params, experiment=experiment) as opened:
        address = data if isinstance(data, str) else None
        if not isinstance(data, HeldOut):
            demand_input(params.data.test_path or address)
        version = _version_of(model_uri or f"models:/{name}@{promotion.CHALLENGER}", name)
        _demand_not_erased(params, version)
        judgement = judge_version(params, f"models:/{name}/{version}", data, forced=force)
        opened.log(payloads.LoggedParams(used_on_model(params, "promote", judgement.learned, address)))
        good = passed(judgement.verdicts)
        action = "promoted" if good else "forced" if force else "refused"
        _record(opened, action if action == "refused" else "not moved", reason, judgement, version)
        if judgement.test is not None:
            opened.describe(name, version, "", judgement.test.version_tags)
        audit = Audit(params, opened)
        about = {**_about(name, version, judgement.loaded, opened), "gates": headline(judgement.verdicts)}
        if action == "refused":
            audit.record("promote", about, "refused", reason=reason)
            lines = [table(judgement.verdicts), *judgement.notes, *audit.warnings]
            refusal = PromotionRefusedError(
                "\n".join([f"{headline(judgement.verdicts)}; the champion stays", *lines]),
                where=f"{name} version {version} ({judgement.loaded.model.model_version}), run {opened.run_id}",
                fix="train a better version, change registry.gates, or go past them with force and a reason "
                '(pcc promote --force true --reason "…", or pcc models promote --force --reason "…")',
            )
            refusal.verdicts = judgement.verdicts
            raise refusal
        check_targets(params, judgement.loaded)
        if params.registry.approvals and judgement.champion != version:
            before_move()
            audit.record("force" if action == "forced" else "promote", about, "waiting for approval", reason=reason)
            against = judgement.champion
            ask_approval(name, version, asked_by=account(), run_id=opened.run_id, action=action, judged_against=against)
            opened.log(payloads.Tags({"pcc.action": "waiting"}))
            notes = (*judgement.notes, *audit.warnings)
            return WaitingOutcome(opened.run_id, name, version, action, judgement.verdicts, notes)
        judged_against = promotion.ANY_CHAMPION if force else judgement.champion
        with protected():  # a move that was made is on record
            before_move()
            with audit.act("force" if action == "forced" else "promote", about, reason=reason) as act:
                signed, demand = _signed(action, reason, opened), partial(_demand_not_erased, params)
                move = promotion.promote(name, version, signed, judged_against=judged_against, demand=demand)
                if not move.is_none:
                    _record_move(opened, action, move)
                _note_move(act, move)
            with _moved(params, move):
                ended = end_alerts(params, move)
                publications = _publish(params, opened, move, audit)
    notes = (*judgement.notes, *ended, *audit.warnings)
    return PromoteOutcome(opened.run_id, action, move, judgement.verdicts, publications, notes)


def approve(
    params: Params, version: str, *, reason: str, decline: bool = False, experiment: str | None = None
) -> PromoteOutcome | DeclinedOutcome:
    """Complete the promotion of a version that waits, or decline it.

    Args:
        version: its number in the registry.
        reason: why, for the record.
        experiment: id of the one that the run goes to; default is the one that the environment names.

    Raises:
        ConfigError: it does not wait, there is no reason, or this account trained it.
        PromotionRefusedError: an erasure marked it.
        ChampionMovedError: another version became champion since it was judged; not asked of one that is forced.
        TrackingError: the server lets this account approve nothing.
        NotPublishedError: the version is champion now, but could not be published.
    """
    name, by = params.registry.model_name, account()
    demand_reason(reason, "a decision")
    request = approval_of(name, version)
    if request is None or request.state != "waiting":
        became = "nobody asked for it" if request is None else f"it was {request.state}"
        raise ConfigError(
            f"version {version} does not wait for an approver: {became}",
            where=name,
            fix="with registry.approvals: 1, `pcc promote` asks for one",
        )
    if by == request.trained_by and not decline:
        tried = {"model": name, "version": version, "trained_by": by, "asked_in": request.run_id}
        Audit(params).record("approve", tried, "refused: who trained it", reason=reason)
        raise ConfigError(
            f"who trained a version does not approve it, and {by} trained this one",
            where=f"{name} version {version}",
            fix="ask another account to do it",
        )
    if not decline:
        _demand_not_erased(params, version)
    with step_run("promote", params, experiment=experiment) as opened:
        about = {"model": name, "version": version, "run": opened.run_id}
        about |= {"asked_by": request.asked_by, "asked_in": request.run_id, "trained_by": request.trained_by}
        on_record = {
            "pcc.registered_version": version,
            "pcc.asked_by": request.asked_by,
            "pcc.asked_in": request.run_id,
        }
        opened.log(
            payloads.LoggedParams(used(params, "roll_back")),
            payloads.Tags({"pcc.action": "not moved", "pcc.reason": reason, "pcc.who": by, **on_record}),
        )
        audit = Audit(params, opened)
        if decline:
            audit.record("decline", about, reason=reason)
            settle(name, version, "declined", by=by, reason=reason)
            opened.log(payloads.Tags({"pcc.action": "declined"}))
            return DeclinedOutcome(opened.run_id, name, version, tuple(audit.warnings))
        loaded = load_trained_model(resolve(f"models:/{name}/{version}").model_uri)
        check_targets(params, loaded)
        opened.log(
            payloads.Tags({"pcc.model_uri": loaded.model_uri, "pcc.version": loaded.model.model_version}),
        )
        judged_against = promotion.ANY_CHAMPION if request.action == "forced" else request.judged_against
        with protected():
            with audit.act("approve", {**about, "action": request.action}, reason=reason) as act:
                signed, demand = _signed("approved", reason, opened), partial(_demand_not_erased, params)
                move = promotion.promote(name, version, signed, judged_against=judged_against, demand=demand)
                settle(name, version, "approved", by=by, reason=reason)
                _record_move(opened, "approved", move)
                _note_move(act, move)
            with _moved(params, move):
                ended = end_alerts(params, move)
                publications = _publish(params, opened, move, audit)
    return PromoteOutcome(opened.run_id, "approved", move, (), publications, (*ended, *audit.warnings))


def put_on_record(params: Params, version: str, *, reason: str) -> promotion.Move:
    """Count the move of a champion whose process was killed between moving the alias and that.

    Raises:
        ChampionMovedError: another version is champion by now.
    """
    name = params.registry.model_name
    with step_run("promote", params) as opened, protected():
        signed = _signed("promoted", reason, opened)
        about = {"model": name, "version": version, "run": opened.run_id}
        with Audit(params, opened).act("promote", about, reason=reason) as act:
            move = promotion.promote(name, version, signed, judged_against=version)
            opened.log(payloads.Tags({"pcc.reason": reason, "pcc.who": account(), "pcc.registered_version": version}))
            _record_move(opened, "promoted", move)
            _note_move(act, move)
        return move


def roll_back(params: Params, *, reason: str = "", experiment: str | None = None) -> PromoteOutcome:
    """Make the previous champion the champion again, also for the downstream system.

    Raises:
        PromotionRefusedError: an erasure marked it.
        ChampionMovedError: somebody promoted or rolled back since this began, so it may not be the one to leave.
        TrackingError: there is no previous champion.
        ModelError: its files are gone or altered; nothing was moved.
        NotPublishedError: it is champion now, but could not be published.
    """
    name = params.registry.model_name
    with step_run("promote", params, experiment=experiment) as opened:
        opened.log(
            payloads.LoggedParams(used(params, "roll_back")),
            payloads.Tags({"pcc.action": "not moved", "pcc.reason": reason, "pcc.who": account()}),
        )
        seen = promotion.standing(name)
        if seen.previous is not None:
            _demand_not_erased(params, seen.previous)
            check_targets(params, load_trained_model(resolve(f"models:/{name}/{seen.previous}").model_uri))
        audit, about = Audit(params, opened), {"model": name, "run": opened.run_id}
        with protected():
            with audit.act("roll back", about, reason=reason) as act:
                signed, demand = _signed("rolled back", reason, opened), partial(_demand_not_erased, params)
                move = promotion.roll_back(name, signed, seen=seen, demand=demand)
                _record_move(opened, "rolled back", move)
                act.on["version"] = move.after
                _note_move(act, move)
            with _moved(params, move):
                champion = load_trained_model(resolve(f"models:/{name}/{move.after}").model_uri)
                opened.log(
                    payloads.Tags(
                        {
                            "pcc.model_uri": champion.model_uri,
                            "pcc.version": champion.model.model_version,
                            "pcc.registered_version": move.after,
                        }
                    )
                )
                ended = end_alerts(params, move)
                publications = _publish(params, opened, move, audit)
    return PromoteOutcome(opened.run_id, "rolled back", move, (), publications, (*ended, *audit.warnings))


def _demand_not_erased(params: Params, version: str) -> None:
    """Also where it is forced: a version that learned from erased persons' rows is on its way out.

    Asked twice, before the work and in the turn of the move: an erasure may mark it in the minutes between.
    """
    name = params.registry.model_name
    mark = erasure_of(name, version)
    if mark and params.registry.erasure_policy != "note":
        raise PromotionRefusedError(
            f"erasure {mark}; it cannot become the champion",
            where=f"{name} version {version}",
            fix="promote a version that was trained after it; pcc erase --confirm goes on where an erasure was cut off",
        )
    if read_without_list(name, version):
        raise PromotionRefusedError(
            "it was trained where the list of erased persons is not the one of the last erasure, so it may have learned"
            " from their rows; it cannot become the champion",
            where=f"{name} version {version}",
            fix=f"bring {params.lineage.suppression_file} of the machine that erased to the one that trains, and train",
        )


@contextmanager
def _moved(params: Params, move: promotion.Move) -> Iterator[None]:
    """What follows a move. A signal that came while it was made ends the step here: it publishes nothing any more."""
    try:
        with allowed():
            yield
    except KeyboardInterrupt as ended:
        if targets(params):
            ended.add_note(
                f"version {move.after} of {params.registry.model_name} is the champion now, and may not be published; "
                "for that: pcc models publish"
            )
        raise


def _publish(params: Params, opened: StepRun, move: promotion.Move, audit: Audit) -> tuple[Publication, ...]:
    try:
        return publish_champion(params, opened, audit)
    except PccError as error:
        raise NotPublishedError(
            f"version {move.after} of {params.registry.model_name} is the champion now, but it was not published "
            f"everywhere: {error.what}",
            where=error.where,
            fix=f"{error.fix or 'mend that'}; then: pcc models publish",
        ) from error


def _record(opened: StepRun, action: str, reason: str, judgement: Judgement, version: str) -> None:
    opened.log(
        *(() if judgement.test is None else judgement.test.record),
        payloads.Tags(
            {
                "pcc.action": action,
                "pcc.reason": reason,
                "pcc.who": account(),
                "pcc.version": judgement.loaded.model.model_version,
                "pcc.registered_version": version,
                "pcc.champion_at_decision": judgement.champion or "",
                "pcc.model_uri": judgement.loaded.model_uri,
                "pcc.gates": headline(judgement.verdicts),
                BESIDE_TAG: next((verdict.beside for verdict in judgement.verdicts if verdict.beside), ""),
                # MLflow shows a run's note at the top of its page.
                "mlflow.note.content": to_markdown(judgement.verdicts),
            }
        ),
        payloads.Metrics({"test/champion_overlap_removed_rows": judgement.champion_learned}),
        payloads.Text("gates.html", to_html(judgement.verdicts, f"Gates of version {version}: {action}")),
        payloads.Json("gates.json", [verdict.__dict__ for verdict in judgement.verdicts]),
    )


def _version_of(model_uri: str, name: str) -> str:
    """The registered version of `name` that an address leads to."""
    resolved = resolve(model_uri)
    if resolved.name != name or resolved.version is None:
        there = f"{resolved.name} version {resolved.version}" if resolved.name else "not registered"
        raise ConfigError(
            f"only a version of {name} can become its champion; this is {there}",
            where=model_uri,
            fix=f"name models:/{name}/<number>, or set registry.model_name",
        )
    return resolved.version


def _record_move(opened: StepRun, action: str, move: promotion.Move) -> None:
    opened.log(
        payloads.Tags(
            {
                "pcc.action": action,
                "pcc.move": str(move.number),
                "pcc.champion": move.after,
                "pcc.champion_before": move.before or "",
            }
        )
    )


def _about(name: str, version: str, loaded: LoadedModel, opened: StepRun) -> dict[str, str]:
    """A version as the audit log names it."""
    about = {"model": name, "version": version, "model_version": loaded.model.model_version}
    return {**about, "model_id": loaded.model_uri.removeprefix("models:/"), "run": opened.run_id}


def _note_move(act: Act, move: promotion.Move) -> None:
    act.on |= {"move": move.number, "champion_before": move.before}
    if move.is_none:
        act.outcome = "nothing moved"


def _signed(action: str, reason: str, opened: StepRun) -> Mapping[str, str]:
    """What stands on the versions: who moved them, why, and in which run."""
    return {"pcc.moved_by": account(), "pcc.move_reason": reason or action, "pcc.move_run": opened.run_id}
