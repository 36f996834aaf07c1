"""Models that learned from erased rows: marked, trained again without them, judged, promoted, published, removed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pcc_pipeline.config import Params
from pcc_pipeline.errors import PccError
from pcc_pipeline.gates.judge import in_words
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps import evaluate, promote, train
from pcc_pipeline.steps.erasing.plan import LearnedVersion
from pcc_pipeline.steps.erasing.published import published_as, unpublish
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.tracking.environment import account
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.champion import CHAMPION
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG, demand_let_go, mark_versions, remove_version
from pcc_pipeline.tracking.runs import read_training_run
from pcc_pipeline.tracking.store.past_runs import RecordedRun, run_of
from pcc_pipeline.tracking.store.run_files import RunFiles

_CHALLENGER = "challenger"
_VERDICTS = "gates.json"


class WaitingError(PccError):
    """The gates refuse a successor, or it waits for its approval: somebody must decide."""

    became = "waits for a decision"


class RefusedError(WaitingError):
    """The gates refuse it."""


def mark(learned: Sequence[LearnedVersion], erasure: str, policy: str) -> dict[str, str]:
    """Say on each version that it learned from erased rows; with `block`, take it out of use at once.

    What is published of one that is held stays.

    Returns:
        Model -> the version that was champion when this was said; from then on none of them becomes it.
    """
    champions = {}
    for name in sorted({version.name for version in learned} - {""}):
        texts = {
            version.number: f"{erasure}: learned from {version.rows} rows of erased persons"
            for version in learned
            if version.name == name
        }
        champion = mark_versions(name, texts, account(), out_of_use=CHAMPION if policy == "block" else "")
        if champion is not None:
            champions[name] = champion
    for version in learned:
        if version.name and policy == "block" and not version.held:
            unpublish(version.published)
    return champions


@dataclass(frozen=True)
class Allowance:
    """Whether a successor may take its place though gates refuse it, and who says so and why."""

    force: bool = False
    reason: str = ""


def successor_of(
    params: Params, old: LearnedVersion, learned: Sequence[str], erasure: str, allowance: Allowance
) -> str:
    """Train again by the settings of its own run, and let the outcome take its place.

    Args:
        learned: the versions of this model that learned from the rows, by number.

    Returns:
        The number of the version that stands there now.

    Raises:
        WaitingError: the gates refuse it, and nobody lets it serve all the same.
        TrackingError: the old version is held by now.
        DataError, …: as the steps.
    """
    # Of a champion that was challenger too, what a try before this one trained is challenger, and no successor yet.
    standing = versions.find_alias(old.name, CHAMPION if CHAMPION in old.aliases else _CHALLENGER)
    if standing is not None and standing.version not in learned:
        return str(standing.version)  # promoted before this try was cut off, or put there by somebody meanwhile
    challenger = versions.find_alias(old.name, _CHALLENGER)
    own = settings_of(params, old)
    digest = load_dataset(own.data.path, own).digest
    number = _trained_before(own, old, digest)
    if number is None:
        trained = train.run(own)
        assert isinstance(trained, train.TrainOutcome), "a study without a name is for this run alone"
        number = trained.registered_version
        evaluate.run(own, f"models:/{old.name}/{number}", at_hand=trained.held_out)
    elif challenger is None or challenger.version in learned:
        # It was cut off between the registration and the alias, which would go with the version that has it yet.
        versions.set_alias(old.name, _CHALLENGER, number)
    if CHAMPION not in old.aliases:
        return number
    if challenger is not None and challenger.version not in (*learned, number):
        # One that has nothing to do with it goes on challenging.
        versions.set_alias(old.name, _CHALLENGER, str(challenger.version))
    demand_let_go(old.run_id)  # the training took its time
    why = allowance.reason or f"erasure {erasure}: in place of version {old.number}"
    try:
        outcome = promote.run(own, f"models:/{old.name}/{number}", reason=why, force=allowance.force)
    except promote.PromotionRefusedError as refusal:
        raise RefusedError(
            f"the new model, trained without the persons' rows, {_why_not(own, refusal)}; so it is not put in place, "
            "and the erasure is not complete",
            where=f"{old.name} version {number}, which is to take the place of version {old.number}",
            fix="nothing is lost; below stands what is done, what is not, and what to type",
        ) from refusal
    if isinstance(outcome, promote.WaitingOutcome):
        raise WaitingError(
            "the new model, trained without the persons' rows, waits until somebody who did not train it approves it; "
            "the erasure is not complete until then",
            where=f"{old.name} version {number}, which is to take the place of version {old.number}",
            fix=f'let one who may approve type: pcc approve {number} --reason "WHY"',
        )
    return number


def _why_not(own: Params, refusal: promote.PromotionRefusedError) -> str:
    """Which checks it did not pass, for who has never seen a gate."""
    if not refusal.verdicts:
        return f"may not be put in place ({refusal.what})"
    failed = [
        f"{words}; measured: {verdict.measured}" + (f", {verdict.note}" if verdict.note else "")
        for words, verdict in zip(in_words(own.registry.gates), refusal.verdicts, strict=True)
        if not verdict.passed
    ]
    of = counted(len(refusal.verdicts), "check")
    return f"did not pass {len(failed)} of the {of} that this project sets (asked for: {' / '.join(failed)})"


def how_it_came(name: str, number: str) -> str:
    """How a version that stands in place of another was judged, who let it serve, and why; for the certificate.

    Raises:
        TrackingError: MLflow does not answer.
    """
    tags = _tags_of(name, number)
    if "pcc.move_run" not in tags:
        return ""  # a challenger, which nobody promoted
    by, reason = (tags.get(f"pcc.{tag}", "") for tag in ("moved_by", "move_reason"))
    run = _judged_in(tags)
    gates = "gates not known" if run is None else run.tags.get("pcc.gates", "gates not known")
    return f"{gates}; promoted by {by}: {reason}"


def promotion_of(name: str, number: str) -> dict[str, str]:
    """Who let a version take its place and why, as `by` and `reason`; empty of one that nobody promoted.

    Raises:
        TrackingError: MLflow does not answer.
    """
    tags = _tags_of(name, number)
    if "pcc.move_run" not in tags:
        return {}
    return {"by": tags.get("pcc.moved_by", ""), "reason": tags.get("pcc.move_reason", "")}


def checks_of(name: str, number: str) -> tuple[int, int] | None:
    """How many of the gates it passed, of how many; None where it was not judged, or nobody knows.

    Raises:
        TrackingError: MLflow does not answer.
    """
    run = _judged_in(_tags_of(name, number))
    if run is None or _VERDICTS not in (files := RunFiles(run.run_id)).names():
        return None
    with files.fetched(_VERDICTS) as path:
        verdicts = json.loads(path.read_text(encoding="utf-8"))
    return sum(1 for verdict in verdicts if verdict["passed"]), len(verdicts)


def _tags_of(name: str, number: str) -> Mapping[str, str]:
    return next((each.tags for each in versions.versions_of(name) if str(each.version) == number), {})


def _judged_in(tags: Mapping[str, str]) -> RecordedRun | None:
    run = run_of(tags["pcc.move_run"]) if "pcc.move_run" in tags else None
    if run is not None and (asked_in := run.tags.get("pcc.asked_in")):
        return run_of(asked_in)  # that of the gates, where an approver moved it
    return run


def settings_of(params: Params, old: LearnedVersion) -> Params:
    """Those of its training; where things are kept, and what a champion must show, as the caller has it."""
    own = read_training_run(old.run_id).params
    search = own.search.model_copy(update={"study_name": None, "storage": None})
    encoding = {
        name: getattr(params.preprocessing, name) for name in ("backend", "batch_size", "threads", "cache_dir", "cache")
    }
    return params.model_copy(
        update={
            "data": own.data,
            "preprocessing": own.preprocessing.model_copy(update=encoding),
            "model": own.model,
            "decision": own.decision,
            "evaluation": own.evaluation,
            "search": search,
            "registry": params.registry.model_copy(update={"model_name": old.name}),
        }
    )


def _trained_before(own: Params, old: LearnedVersion, digest: str) -> str | None:
    """The version that an erasure which was killed had trained already, by the same settings from the same rows."""
    for version in versions.versions_of(old.name):
        same = version.tags.get("pcc.data_digest") == digest and ERASURE_TAG not in version.tags
        if same and int(version.version) > int(old.number):
            made = read_training_run(str(version.run_id)).params
            if (made.model, made.decision, made.preprocessing.lexical) == (
                own.model,
                own.decision,
                own.preprocessing.lexical,
            ):
                return str(version.version)
    return None


def remove(params: Params, version: LearnedVersion) -> list[str]:
    """Remove it with its files, and the folders that it was published as; which these were.

    Raises:
        TrackingError: it is held by now.
    """
    demand_let_go(version.run_id)
    # Looked for again: it may have been published since the plan.
    folders = unpublish(published_as(params, version.run_id, version.published))
    remove_version(version.name, version.number, version.run_id)
    return folders
