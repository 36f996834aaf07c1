"""Anchors of audit logs: the end of a log, kept in MLflow, where who can write to the log's machine alone cannot go.

Each decision's run holds the end that the log had then. The registered model holds the last one of each log, with the
place of that log, so that a log that is gone is missed; a server's own log is held so by MLflow's first experiment.
"""

from __future__ import annotations

import re

from mlflow import MlflowClient
from mlflow.entities import ViewType

from pcc_pipeline.auditing.chain import Anchor, Head
from pcc_pipeline.tracking.delivery.writer import brief_requests
from pcc_pipeline.tracking.registry.versions import asking
from pcc_pipeline.tracking.store.paging import name_is, pages

# On a run: "<log> <line> <hash>"; on a model or experiment, with the log's id behind it: "<line> <hash> <place>".
ANCHOR_TAG, _LAST = "pcc.audit", "pcc.audit."
_FORM = re.compile(r"([0-9a-f]{16}) (\d+) ([0-9a-f]{64})")


def anchor_of(head: Head) -> dict[str, str]:
    """The tag by which a run holds the end of a log."""
    return {ANCHOR_TAG: f"{head.log} {head.seq} {head.hash}"}


def anchor_at(name: str, head: Head, place: str) -> None:
    """Put the end of the log of a place on a registered model, if there is one; no waiting for a server.

    Raises:
        TrackingError: MLflow refuses or does not answer.
    """
    client = MlflowClient()
    with brief_requests(), asking(f"registered model {name}"):
        if list(client.search_registered_models(name_is(name), max_results=1)):
            client.set_registered_model_tag(name, _LAST + head.log, f"{head.seq} {head.hash} {place}")


def anchors_of(log: str) -> list[Anchor]:
    """What runs and registered models hold of a log, deleted runs too.

    Raises:
        TrackingError: MLflow does not answer.
    """
    client, anchors = MlflowClient(), []
    with asking("the anchors of the audit log"):
        experiments = [each.experiment_id for each in pages(client.search_experiments, ViewType.ALL)]
        condition = f"tags.`{ANCHOR_TAG}` LIKE '{log} %'"
        for run in pages(client.search_runs, experiments, condition, ViewType.ALL) if experiments else ():
            if match := _FORM.fullmatch(run.data.tags[ANCHOR_TAG]):
                anchors.append(Anchor(int(match[2]), match[3], f"run {run.info.run_id[:8]}"))
    return anchors + [Anchor(seq, digest, where) for ident, (seq, digest, where, _) in _last_ones() if ident == log]


def logs_of(place: str) -> dict[str, tuple[int, str]]:
    """The logs that lay at a place, by their id: their last anchored line, and what holds that.

    Raises:
        TrackingError: MLflow does not answer.
    """
    return {ident: (seq, where) for ident, (seq, _, where, there) in _last_ones() if there == place}


def _last_ones() -> list[tuple[str, tuple[int, str, str, str]]]:
    """Log -> the last line that is held of it, its hash, what holds it, and the place of the log."""
    client, held = MlflowClient(), []
    with asking("the anchors of the audit log"):
        holders = [(f"registered model {model.name}", model.tags) for model in pages(client.search_registered_models)]
        experiments = pages(client.search_experiments, ViewType.ALL)
        holders += [(f"experiment {experiment.name}", experiment.tags) for experiment in experiments]
        for where, tags in holders:
            for tag, value in tags.items():
                ident, (number, _, rest) = tag.removeprefix(_LAST), value.partition(" ")
                if tag.startswith(_LAST) and number.isdecimal():
                    digest, _, place = rest.partition(" ")
                    held.append((ident, (int(number), digest, where, place)))
    return held
