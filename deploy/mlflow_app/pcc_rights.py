"""Who may call which route of MLflow: a list of what readers and trainers need; what is not on it is the admin's.

MLflow 3.17 lets every account create experiments, registered models, gateway secrets, demo data and more. So a route
that a later MLflow adds is closed to readers and trainers until it stands here. MLflow's own rules hold besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flask import Request

# `accounts.py` gives them; whoever has an account without either is a reader.
TRAINER_ROLE, APPROVER_ROLE = "trainer", "approver"


class Tier(IntEnum):
    """What an account may do, or a route asks for; `NOBODY` is a route that is switched off."""

    READER = 1
    TRAINER = 2
    APPROVER = 3
    ADMIN = 4
    NOBODY = 5


# Of the account that makes the request which is worked on, for the checks within MLflow's own app; and its name.
current: ContextVar[Tier | None] = ContextVar("pcc_tier", default=None)
account: ContextVar[str] = ContextVar("pcc_account", default="")

# Parts of MLflow that this project has no use for, and that act on the server's machine or call out of it: the
# assistant may run commands there for a browser on the same machine, the gateway passes requests on to others with
# secrets that are kept here, the demo fills the store, and usage is told to MLflow's makers.
_SWITCHED_OFF = re.compile(
    r"/gateway/|/(?:ajax-)?api/[23]\.0/mlflow/(?:assistant|gateway|gateway-proxy|demo|ui-telemetry)(?:/|$)"
)

# `{api}` is /api and its twin for pages, /ajax-api; <x> is one part of a path, <x...> one or more.
_READ = """
GET /
GET /version
GET /static-files/<x...>
GET /build/<x...>
GET /get-artifact
GET /model-versions/get-artifact
GET,POST /graphql
GET {api}/2.0/mlflow-artifacts/artifacts
GET {api}/2.0/mlflow-artifacts/artifacts/<x...>
GET {api}/2.0/mlflow-artifacts/presigned/<x...>
GET {api}/2.0/mlflow/artifacts/list
POST {api}/2.0/mlflow/artifacts/presigned-download-url
GET {api}/2.0/mlflow/experiments/get
GET {api}/2.0/mlflow/experiments/get-by-name
GET,POST {api}/2.0/mlflow/experiments/search
POST {api}/2.0/mlflow/experiments/search-datasets
POST {api}/2.0mlflow/experiments/search-datasets
GET {api}/2.0/mlflow/get-online-trace-details
GET {api}/2.0/mlflow/get-trace-artifact
GET {api}/2.0/mlflow/logged-models/<x>
GET {api}/2.0/mlflow/logged-models/<x>/artifacts/directories
GET {api}/2.0/mlflow/logged-models/<x>/artifacts/files
POST {api}/2.0/mlflow/logged-models/search
GET {api}/2.0/mlflow/metrics/get-history
GET {api}/2.0/mlflow/metrics/get-history-bulk
GET {api}/2.0/mlflow/metrics/get-history-bulk-interval
GET {api}/2.0/mlflow/model-versions/get
GET {api}/2.0/mlflow/model-versions/get-download-uri
GET {api}/2.0/mlflow/model-versions/search
GET {api}/2.0/mlflow/registered-models/alias
GET {api}/2.0/mlflow/registered-models/get
GET,POST {api}/2.0/mlflow/registered-models/get-latest-versions
GET {api}/2.0/mlflow/registered-models/search
GET {api}/2.0/mlflow/runs/get
POST {api}/2.0/mlflow/runs/search
GET {api}/2.0/mlflow/traces
GET {api}/2.0/mlflow/traces/<x>/info
GET {api}/2.0/mlflow/unified-traces
GET {api}/2.0/mlflow/users/current
GET {api}/2.0/mlflow/users/get
GET {api}/2.0/mlflow/users/list
PATCH {api}/2.0/mlflow/users/update-password
GET {api}/3.0/mlflow/datasets/<x>
GET {api}/3.0/mlflow/datasets/<x>/experiment-ids
GET {api}/3.0/mlflow/datasets/<x>/records
GET,POST {api}/3.0/mlflow/datasets/search
GET {api}/3.0/mlflow/get-trace-artifact
GET {api}/3.0/mlflow/issues/<x>
POST {api}/3.0/mlflow/issues/search
GET {api}/3.0/mlflow/jobs/<x>
GET {api}/3.0/mlflow/label-schemas/get
GET {api}/3.0/mlflow/label-schemas/get-by-name
GET {api}/3.0/mlflow/label-schemas/list
GET {api}/3.0/mlflow/mcp-servers
GET {api}/3.0/mlflow/mcp-servers/<x...>
GET {api}/3.0/mlflow/prompt-optimization/jobs/<x>
GET,POST {api}/3.0/mlflow/prompt-optimization/jobs/search
GET {api}/3.0/mlflow/review-queues/get
GET {api}/3.0/mlflow/review-queues/get-by-name
GET {api}/3.0/mlflow/review-queues/items/list
GET {api}/3.0/mlflow/review-queues/list
GET {api}/3.0/mlflow/roles/get
GET {api}/3.0/mlflow/roles/list
GET {api}/3.0/mlflow/roles/permissions/list
GET {api}/3.0/mlflow/roles/users/list
GET {api}/3.0/mlflow/scorers/get
GET {api}/3.0/mlflow/scorers/list
GET {api}/3.0/mlflow/scorers/online-configs
GET {api}/3.0/mlflow/scorers/versions
GET {api}/3.0/mlflow/server-info
GET {api}/3.0/mlflow/traces/<x>
GET {api}/3.0/mlflow/traces/<x>/assessments/<x>
GET {api}/3.0/mlflow/traces/batchGet
POST {api}/3.0/mlflow/traces/batchGetInfos
POST {api}/3.0/mlflow/traces/calculate-filter-correlation
GET {api}/3.0/mlflow/traces/get
POST {api}/3.0/mlflow/traces/metrics
POST {api}/3.0/mlflow/traces/search
GET {api}/3.0/mlflow/users/current/permissions
GET {api}/3.0/mlflow/users/permissions/get
GET {api}/3.0/mlflow/users/permissions/list
GET {api}/3.0/mlflow/users/roles/list
GET {api}/3.0/mlflow/workspaces
GET {api}/3.0/mlflow/workspaces/<x>
GET {api}/3.0/mlflow/ui-telemetry
GET {api}/3.0/mlflow/assistant/config
GET {api}/3.0/mlflow/assistant/providers
GET {api}/2.0/mlflow/gateway-proxy
GET {api}/3.0/mlflow/gateway/endpoints/list
GET {api}/3.0/mlflow/gateway/model-definitions/list
GET {api}/3.0/mlflow/gateway/provider-config
GET {api}/3.0/mlflow/gateway/secrets/config
GET {api}/3.0/mlflow/gateway/secrets/list
GET {api}/3.0/mlflow/gateway/supported-models
GET {api}/3.0/mlflow/gateway/supported-providers
"""

_TRAIN = """
PUT,DELETE {api}/2.0/mlflow-artifacts/artifacts/<x...>
POST {api}/2.0/mlflow-artifacts/mpu/<x>/<x...>
POST {api}/2.0/mlflow/artifacts/presigned-upload-url
POST {api}/2.0/mlflow/upload-artifact
POST {api}/2.0/mlflow/experiments/create
POST {api}/2.0/mlflow/experiments/delete
POST {api}/2.0/mlflow/experiments/delete-experiment-tag
POST {api}/2.0/mlflow/experiments/restore
POST {api}/2.0/mlflow/experiments/set-experiment-tag
POST {api}/2.0/mlflow/experiments/update
POST {api}/2.0/mlflow/logged-models
PATCH,DELETE {api}/2.0/mlflow/logged-models/<x>
POST {api}/2.0/mlflow/logged-models/<x>/params
PATCH {api}/2.0/mlflow/logged-models/<x>/tags
DELETE {api}/2.0/mlflow/logged-models/<x>/tags/<x>
POST {api}/2.0/mlflow/model-versions/create
DELETE {api}/2.0/mlflow/model-versions/delete
DELETE {api}/2.0/mlflow/model-versions/delete-tag
POST {api}/2.0/mlflow/model-versions/set-tag
POST {api}/2.0/mlflow/model-versions/transition-stage
PATCH {api}/2.0/mlflow/model-versions/update
POST,DELETE {api}/2.0/mlflow/registered-models/alias
POST {api}/2.0/mlflow/registered-models/create
DELETE {api}/2.0/mlflow/registered-models/delete
DELETE {api}/2.0/mlflow/registered-models/delete-tag
POST {api}/2.0/mlflow/registered-models/rename
POST {api}/2.0/mlflow/registered-models/set-tag
PATCH {api}/2.0/mlflow/registered-models/update
POST {api}/2.0/mlflow/runs/create
POST {api}/2.0/mlflow/runs/delete
POST {api}/2.0/mlflow/runs/delete-tag
POST {api}/2.0/mlflow/runs/log-batch
POST {api}/2.0/mlflow/runs/log-inputs
POST {api}/2.0/mlflow/runs/log-metric
POST {api}/2.0/mlflow/runs/log-model
POST {api}/2.0/mlflow/runs/log-parameter
POST {api}/2.0/mlflow/runs/outputs
POST {api}/2.0/mlflow/runs/restore
POST {api}/2.0/mlflow/runs/set-tag
POST {api}/2.0/mlflow/runs/update
"""


def _patterns(table: str) -> dict[str, re.Pattern[str]]:
    """Method -> what matches the paths of its routes."""
    paths: dict[str, list[str]] = {}
    for line in table.strip().splitlines():
        methods, _, template = line.partition(" ")
        parts = re.split(r"(\{api\}|<x\.\.\.>|<x>)", template)
        known = {"{api}": "/(?:ajax-)?api", "<x...>": ".+", "<x>": "[^/]+"}
        for method in methods.split(","):
            paths.setdefault(method, []).append("".join(known.get(part, re.escape(part)) for part in parts))
    return {method: re.compile("|".join(each)) for method, each in paths.items()}


_BY_TIER: Mapping[Tier, Mapping[str, re.Pattern[str]]] = {
    Tier.READER: _patterns(_READ),
    Tier.TRAINER: _patterns(_TRAIN),
}


def needed(method: str, path: str) -> Tier:
    """What a request asks for; what stands on no list is the admin's, and what is switched off nobody's."""
    method = "GET" if method == "HEAD" else method
    for tier, patterns in _BY_TIER.items():
        if method in patterns and patterns[method].fullmatch(path):
            return tier
    return Tier.NOBODY if _SWITCHED_OFF.match(path) else Tier.ADMIN


# Mutations of MLflow's GraphQL that write nothing: pages search by them.
READING_MUTATIONS = {"mlflowSearchDatasets", "mlflowSearchRuns"}
# A version's files lie with a model, in a run, or in the server's own place.
_SOURCES = ("models:/", "runs:/", "mlflow-artifacts:/")


def fault_of_request(request: Request) -> str:
    """Why a request of the current account is refused for what stands in it; empty where it is not.

    Args:
        request: Flask's, of a route that the account may call. It is read as MLflow reads it.
    """
    if (current.get() or Tier.ADMIN) >= Tier.ADMIN:  # /health has no account
        return ""
    from mlflow.server.handlers import _get_request_json

    if request.path.endswith("/mlflow/experiments/create"):
        if tracking_message("CreateExperiment").artifact_location:
            return "Where an experiment's artifacts lie is the admin's to choose: leave out artifact_location."
    elif request.path.endswith("/mlflow/model-versions/create"):
        source = str(registry_message("CreateModelVersion").source)
        if source and not source.startswith(_SOURCES):
            return f"A version's source begins with one of {', '.join(_SOURCES)}."
    elif request.path == "/graphql" and _writes(_get_request_json().get("query")):
        return "This GraphQL mutation is not allowed."
    return ""


def registry_message(kind: str) -> Any:
    """The message of the registry, such as CreateModelVersion, that MLflow reads out of the current request."""
    from mlflow.protos import model_registry_pb2

    return _read_message(getattr(model_registry_pb2, kind)())


def tracking_message(kind: str) -> Any:
    """The same of tracking, such as CreateExperiment."""
    from mlflow.protos import service_pb2

    return _read_message(getattr(service_pb2, kind)())


def tracking_store() -> Any:
    """MLflow's store of runs and logged models, for the server's own records."""
    from mlflow.server.handlers import _get_tracking_store

    return _get_tracking_store()


def _read_message(empty: Any) -> Any:
    from mlflow.server.handlers import _get_request_message

    return _get_request_message(empty)


def _writes(query: object) -> bool:
    """Whether a GraphQL document holds a mutation, or subscription, that is not known to only read."""
    from graphql import FieldNode, OperationDefinitionNode, OperationType, parse

    for node in parse(str(query)).definitions:
        if isinstance(node, OperationDefinitionNode) and node.operation != OperationType.QUERY:
            for field in node.selection_set.selections:
                if not isinstance(field, FieldNode) or field.name.value not in READING_MUTATIONS:
                    return True
    return False
