"""Legal holds as tags of the registry: of a version, and of the registered model for persons.

There they are seen from every machine that shares the tracking server, are in its backup, and may be changed by nobody
who may only read. A file beside the key would hold back one machine alone.
"""

from __future__ import annotations

import json

from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.persons.holds import Holds, PersonHold, VersionHold
from pcc_pipeline.tracking.registry import versions
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.store.paging import pages

# Of a version; and, with the hold's id behind it, of a registered model.
HOLD_TAG, PERSON_TAG = "pcc.hold", "pcc.hold."


def read_holds() -> Holds:
    """All holds, of every registered model.

    Raises:
        TrackingError: MLflow does not answer, or a hold cannot be read.
    """
    client = MlflowClient()
    with asking("registered models"):
        models = list(pages(client.search_registered_models))
        every = list(pages(client.search_model_versions))
    held = [
        VersionHold(version.name, str(version.version), *_document(version.tags[HOLD_TAG]), version.run_id or "")
        for version in every
        if HOLD_TAG in (version.tags or {})
    ]
    persons = {}
    for model in models:
        for tag, text in (model.tags or {}).items():
            if tag.startswith(PERSON_TAG):
                try:
                    persons[tag] = PersonHold.from_json(text)
                except ValueError as error:
                    raise TrackingError(
                        "a hold cannot be read, so nobody can tell what is held",
                        where=f"registered model {model.name}, tag {tag}",
                        fix="find out who changed it; remove the tag, and `pcc hold add` it again",
                    ) from error
    return Holds(tuple(held), tuple(persons.values()))


def hold_version(hold: VersionHold) -> None:
    """Hold a version; again, with another reason, replaces the hold.

    Raises:
        TrackingError: there is no such version, or MLflow refuses.
    """
    text = json.dumps({"reason": hold.reason, "since": hold.since, "by": hold.by}, ensure_ascii=False)
    versions.tag_version(hold.name, hold.number, {HOLD_TAG: text})


def release_version(name: str, number: str) -> None:
    """Let a version go.

    Raises:
        TrackingError: there is no such version, or MLflow refuses.
    """
    with asking(f"models:/{name}/{number}"):
        MlflowClient().delete_model_version_tag(name, number, HOLD_TAG)


def hold_person(name: str, hold: PersonHold) -> None:
    """Hold a person, or a case, by a tag of a registered model, which is made where there is none; it holds for all.

    Raises:
        TrackingError: MLflow refuses.
    """
    versions.demand_model(name)
    with asking(f"registered model {name}"):
        MlflowClient().set_registered_model_tag(name, f"{PERSON_TAG}{hold.id}", hold.to_json())


def release_person(ident: str) -> None:
    """Let a person go, at whatever registered model the hold stands.

    Raises:
        TrackingError: MLflow refuses.
    """
    client, tag = MlflowClient(), f"{PERSON_TAG}{ident}"
    with asking("registered models"):
        for model in list(pages(client.search_registered_models)):
            if tag in (model.tags or {}):
                client.delete_registered_model_tag(model.name, tag)


def _document(text: str) -> tuple[str, str, str]:
    """Reason, since when, and by whom; a tag that was set by hand is its own reason."""
    try:
        document = json.loads(text)
        return str(document["reason"]), str(document["since"]), str(document["by"])
    except (ValueError, KeyError, TypeError):
        return text or "no reason is given", "", ""
