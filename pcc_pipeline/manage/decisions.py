"""`manage_models promote | rollback | publish`: the steps of those names for a version that a person names."""

from __future__ import annotations

from typing import Any

from pcc_pipeline.errors import ConfigError
from pcc_pipeline.manage.queries import Question, find
from pcc_pipeline.publishing.publish import Publication
from pcc_pipeline.steps import promote as promotion
from pcc_pipeline.steps import publish as publishing
from pcc_pipeline.tracking.payloads import json_text
from pcc_pipeline.tracking.store import past_runs


def promote(
    question: Question, reference: str, *, reason: str = "", force: bool = False, data: str | None = None
) -> str:
    """Make a version the champion if it passes the gates; see `steps.promote.run`."""
    version = find(question, reference)
    if version.registered is None:
        raise ConfigError(
            "only a registered version can be promoted",
            where=f"{version.pcc_version}, run {version.trained.run_id}",
            fix="name one that `pcc models list` shows with a number",
        )
    uri = f"models:/{question.model_name}/{version.registered.number}"
    done = promotion.run(
        question.params, uri, reason=reason, force=force, data=data, experiment=_experiment_of(question)
    )
    return _answer(question, done)


def rollback(question: Question, *, reason: str = "") -> str:
    """Make the previous champion the champion again."""
    return _answer(question, promotion.roll_back(question.params, reason=reason, experiment=_experiment_of(question)))


def approve(question: Question, reference: str, *, reason: str, decline: bool) -> str:
    """Complete the promotion of a version that waits for an approver, or decline it; see `steps.promote.approve`."""
    version = find(question, reference)
    if version.registered is None:
        raise ConfigError("only a registered version waits", where=version.pcc_version, fix="see `pcc models list`")
    number, experiment = str(version.registered.number), _experiment_of(question)
    return _answer(
        question, promotion.approve(question.params, number, reason=reason, decline=decline, experiment=experiment)
    )


def publish(question: Question) -> str:
    """Publish the champion where it is not yet what the downstream system takes up."""
    done = publishing.run(question.params, experiment=_experiment_of(question))
    if question.as_json:
        return json_text(
            {"run_id": done.run_id, "champion": done.version, "publications": _documents(done.publications)}
        )
    return "\n".join(done.summary)


def _experiment_of(question: Question) -> str:
    """The id of the experiment that was asked about, which must exist: the run of a decision belongs to it."""
    return str(past_runs.open_experiment(question.experiment).experiment_id)


def _answer(
    question: Question, done: promotion.PromoteOutcome | promotion.WaitingOutcome | promotion.DeclinedOutcome
) -> str:
    if not question.as_json:
        return "\n".join(done.summary)
    if not isinstance(done, promotion.PromoteOutcome):
        action = "waiting" if isinstance(done, promotion.WaitingOutcome) else "declined"
        return json_text({"run_id": done.run_id, "action": action, "version": done.version})
    return json_text(
        {
            "run_id": done.run_id,
            "action": done.action,
            "champion": done.move.after,
            "champion_before": done.move.before,
            "move": done.move.number,
            "gates": [verdict.__dict__ for verdict in done.verdicts],
            "publications": _documents(done.publications),
        }
    )


def _documents(publications: tuple[Publication, ...]) -> list[dict[str, Any]]:
    return [
        {"version": each.version, "address": each.address, "files": each.files, "already_there": each.already_there}
        for each in publications
    ]
