"""The champion as files for the downstream system: under `registry.publish.target`, and a copy on this machine."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.errors import TrackingError
from pcc_pipeline.files import private_folder
from pcc_pipeline.publishing.joblib_files import check_classifier
from pcc_pipeline.publishing.publish import Publication
from pcc_pipeline.publishing.read import MODEL
from pcc_pipeline.publishing.version_names import check_writable, publish_newest
from pcc_pipeline.steps.records.audit import Audit
from pcc_pipeline.steps.records.used_options import used
from pcc_pipeline.storage.objects import FolderStore, ObjectStore, open_store
from pcc_pipeline.tracking import payloads
from pcc_pipeline.tracking.logged_models.log_and_load import LoadedModel, load_trained_model
from pcc_pipeline.tracking.registry.champion import CHAMPION, PUBLISHED_MOVE_TAG, last_move
from pcc_pipeline.tracking.registry.publications import PublicationRecords
from pcc_pipeline.tracking.registry.reference_profiles import profile_content
from pcc_pipeline.tracking.registry.versions import Resolved, find_alias, tag_version
from pcc_pipeline.tracking.runs import StepRun, read_training_run, step_run

logger = logging.getLogger(__name__)

# Promotions that may overtake one another while one of them publishes.
_ATTEMPTS = 5


@dataclass(frozen=True)
class PublishOutcome:
    """What the targets hold now: `version` of the registry, one publication for each target."""

    run_id: str
    name: str
    version: str
    publications: tuple[Publication, ...]
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> list[str]:
        lines = [f"champion   version {self.version} of {self.name}", *publication_lines(self.publications)]
        return [*lines, *self.warnings]


def targets(params: Params) -> list[str]:
    """Where champions are published: the downstream system's place, if there is one, before this machine's copy."""
    return [target for target in (params.registry.publish.target, params.output.model_dir) if target]


def _opened(params: Params, target: str) -> ObjectStore:
    """The store at a target. This machine's copy is for its owner alone; what others read is as they need it."""
    store = open_store(target)
    if isinstance(store, FolderStore) and target == params.output.model_dir:
        with suppress(OSError):  # told by whoever writes there
            private_folder(Path(store.address))
    return store


def publication_lines(publications: tuple[Publication, ...]) -> list[str]:
    """A line for each publication."""
    return [f"published  {each.address}{' (was there)' if each.already_there else ''}" for each in publications]


def check_targets(params: Params, model: LoadedModel) -> None:
    """Find out before an alias moves what would keep this model from being published.

    Raises:
        StorageError: a target cannot be written.
        ModelError: the downstream system could not use this model.
    """
    for target in targets(params):
        check_classifier(model.model.classifier)
        check_writable(_opened(params, target), model.model.model_version)


def check_room(params: Params) -> None:
    """The same as far as it can be said of a model that is yet to be trained.

    Raises:
        StorageError: a target cannot be written.
    """
    for target in targets(params):
        check_writable(_opened(params, target), f"v{datetime.now(UTC):%Y%m%d_%H%M%S}")


def publish_champion(params: Params, run: StepRun, audit: Audit) -> tuple[Publication, ...]:
    """Make the champion the version that each target's reader takes up; what is published already stays.

    Asks again who is champion when it is done, so that of several promotions at once the last one's model comes out.

    Args:
        audit: that of the step.

    Raises:
        TrackingError: there is no champion.
        StorageError, ModelError: it could not be published; the message says why.
    """
    if not targets(params):
        return ()
    name = params.registry.model_name
    champion = _champion(name)
    for _ in range(_ATTEMPTS):
        about = {"model": name, "version": champion.version, "model_id": champion.model_id, "run": run.run_id}
        with audit.act("publish", about) as act:
            publications = _publish(params, name, champion)
            act.on["published"] = {each.address: each.files[MODEL] for each in publications}
        run.log(payloads.Tags({"pcc.published": " ".join(each.address for each in publications)}))
        standing = _champion(name)
        if standing.version == champion.version:
            return publications
        logger.info("version %s became champion meanwhile; publishing it", standing.version)
        champion = standing
    raise TrackingError(
        "the champion changed again and again while it was being published",
        where=f"registered model {name}",
        fix="when the promotions have ended: pcc models publish",
    )


def run(params: Params, *, experiment: str | None = None) -> PublishOutcome:
    """Publish the champion, as promoting it would.

    Args:
        experiment: id of the one that the run goes to; default is the one that the environment names.

    Raises:
        TrackingError: there is no champion, or nowhere to publish it.
    """
    name = params.registry.model_name
    if not targets(params):
        raise TrackingError(
            "there is nowhere to publish to", where="registry.publish.target", fix="set it, or output.model_dir"
        )
    with step_run("publish", params, experiment=experiment) as opened:
        opened.log(payloads.LoggedParams(used(params, "publish")))
        audit = Audit(params, opened)
        publications = publish_champion(params, opened, audit)
        version = str(_champion(name).version)
        opened.log(payloads.Tags({"pcc.registered_version": version}))
        return PublishOutcome(opened.run_id, name, version, publications, tuple(audit.warnings))


def _champion(name: str) -> Resolved:
    champion = find_alias(name, CHAMPION)
    if champion is None:
        raise TrackingError(
            f"{name} has no champion to publish", where=f"models:/{name}@{CHAMPION}", fix="promote a version first"
        )
    return champion


def _publish(params: Params, name: str, champion: Resolved) -> tuple[Publication, ...]:
    move = last_move(name, str(champion.version))  # before: one that comes meanwhile is published once more
    loaded = load_trained_model(champion.model_uri)
    model = loaded.model
    metadata = {
        **read_training_run(loaded.run_id).metadata,
        "model_version": model.model_version,
        "embedding_model": model.embedding_model,
        "encoder_digest": model.encoder_digest,
        "run_id": loaded.run_id,
        "registered_model": name,
        "registered_version": champion.version,
    }
    publications = []
    profile = profile_content(champion)
    records = PublicationRecords(name, str(champion.version))
    now = datetime.now(UTC)  # one name at all targets
    for target in targets(params):
        logger.info("publishing %s to %s", model.model_version, target)
        publications.append(
            publish_newest(_opened(params, target), model.classifier, model.lexical, metadata, records, now, profile)
        )
    addresses = " ".join(each.address for each in publications)
    tag_version(name, str(champion.version), {"pcc.published": addresses, PUBLISHED_MOVE_TAG: move})
    return tuple(publications)
