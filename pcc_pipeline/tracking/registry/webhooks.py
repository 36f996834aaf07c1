"""MLflow's own webhooks: its server tells an address of events in the registry, those made in its UI included.

A server sends them (an SQLite store has nobody to do so), to https addresses that are public, three times at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow import MlflowClient

from pcc_pipeline.errors import TrackingError
from pcc_pipeline.masking import masked
from pcc_pipeline.tracking.delivery.outages import is_server
from pcc_pipeline.tracking.registry.versions import asking, shown_address
from pcc_pipeline.tracking.store.paging import pages

# What we call the events -> MLflow's names.
EVENTS = {
    "promotions": ("model_version_alias.created", "model_version_alias.deleted"),
    "versions": ("model_version.created",),
    "tags": ("model_version_tag.set", "model_version_tag.deleted"),
}


@dataclass(frozen=True)
class Hook:
    """One webhook, without its address, whose path is often a password."""

    name: str
    host: str
    events: tuple[str, ...]
    active: bool


def hooks() -> list[Hook]:
    """All of this server.

    Raises:
        TrackingError: there is no server, or it refuses.
    """
    return [_hook(one) for one in _all()]


def set_hook(name: str, address: str, events: tuple[str, ...], secret: str | None) -> Hook:
    """Make a webhook, or give the one of this name a new address, secret and events.

    Args:
        events: of `EVENTS`.
        secret: signs what is sent (HMAC-SHA256, header X-MLflow-Signature).

    Raises:
        TrackingError: there is no server, or it refuses, such as an address that is not https or not public.
    """
    names: Any = [name for event in events for name in EVENTS[event]]
    client = _client()
    there = [one for one in _all() if one.name == name]
    with asking(f"webhook {name}"):
        if there:
            return _hook(client.update_webhook(there[0].webhook_id, url=address, events=names, secret=secret))
        return _hook(client.create_webhook(name, address, names, secret=secret))


def remove_hook(name: str) -> None:
    """Remove the webhook of this name.

    Raises:
        TrackingError: there is none, or no server, or it refuses.
    """
    there = [one for one in _all() if one.name == name]
    if not there:
        raise TrackingError(
            f"there is no webhook {name}", where=shown_address(), fix="`pcc alerts webhook` lists those that are there"
        )
    with asking(f"webhook {name}"):
        for one in there:
            _client().delete_webhook(one.webhook_id)


def try_hook(name: str) -> str:
    """Have the server send a test; what the address answered, in words.

    Raises:
        TrackingError: there is none of this name, or no server, or it refuses.
    """
    there = [one for one in _all() if one.name == name]
    if not there:
        raise TrackingError(f"there is no webhook {name}", where=shown_address(), fix="set it up first")
    with asking(f"webhook {name}"):
        result = _client().test_webhook(there[0].webhook_id)
    if result.success:
        return f"it answered {result.response_status}"
    status = f"it answered {result.response_status}" if result.response_status else "it was not reached by the server"
    raise TrackingError(f"the test did not get through: {status}", where=f"webhook {name}", fix="see its address")


def _client() -> MlflowClient:
    if not is_server(mlflow.get_tracking_uri()):
        raise TrackingError(
            "a webhook is sent by a tracking server, and this store has none",
            where=shown_address(),
            fix="set MLFLOW_TRACKING_URI to a server's address, or use monitoring.notify, which needs none",
        )
    return MlflowClient()


def _all() -> list[Any]:
    client = _client()
    with asking("its webhooks"):
        return list(pages(client.list_webhooks))


def _hook(one: Any) -> Hook:
    host = masked(str(one.url)).partition("://")[2].partition("/")[0].rpartition("@")[2]
    return Hook(one.name, host, tuple(str(event) for event in one.events), str(one.status) == "ACTIVE")
