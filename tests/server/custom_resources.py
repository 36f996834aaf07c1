"""Schemas of the custom resources in deploy/kubernetes, as far as those files use them.

Written from the public API references of External Secrets Operator (v1), Prometheus Operator (v1) and GKE's Ingress
(BackendConfig v1, FrontendConfig v1beta1, ManagedCertificate v1): names and types of fields, and which must be there.
They are closed, so that a field that is misspelt, or that nobody has looked up, is a fault.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}
DURATION: Schema = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def closed(*needed: str, **fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(needed or fields), "additionalProperties": False}


def several(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


_ACCOUNT = closed("name", name=TEXT, namespace=TEXT)
_PROVIDER = {
    **closed(
        gcpsm=closed(projectID=TEXT, auth=closed(workloadIdentity=closed(serviceAccountRef=_ACCOUNT))),
        aws=closed(
            service=one_of("SecretsManager", "ParameterStore"),
            region=TEXT,
            auth=closed(jwt=closed(serviceAccountRef=_ACCOUNT)),
        ),
    ),
    "required": [],
    "minProperties": 1,
    "maxProperties": 1,
}
SPECIFICATIONS: dict[tuple[str, str], Schema] = {
    ("external-secrets.io/v1", "SecretStore"): closed(provider=_PROVIDER),
    ("external-secrets.io/v1", "ExternalSecret"): closed(
        refreshInterval=DURATION,
        secretStoreRef=closed(kind=one_of("SecretStore", "ClusterSecretStore"), name=TEXT),
        target=closed(name=TEXT),
        data=several(closed(secretKey=TEXT, remoteRef=closed("key", key=TEXT, property=TEXT, version=TEXT))),
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): closed(
        selector=closed(matchLabels=TEXTS),
        podTargetLabels=several(TEXT),
        endpoints=several(
            closed(
                port=TEXT,
                path=TEXT,
                interval=DURATION,
                authorization=closed(type=one_of("Bearer"), credentials=closed(name=TEXT, key=TEXT)),
            )
        ),
    ),
    ("networking.gke.io/v1", "ManagedCertificate"): closed(domains=several(TEXT)),
    ("networking.gke.io/v1beta1", "FrontendConfig"): closed(redirectToHttps=closed(enabled={"type": "boolean"})),
    ("cloud.google.com/v1", "BackendConfig"): closed(
        timeoutSec=COUNT,
        connectionDraining=closed(drainingTimeoutSec=COUNT),
        healthCheck=closed(
            type=one_of("HTTP", "HTTPS", "HTTP2"),
            requestPath={"type": "string", "pattern": "^/"},
            port=COUNT,
            checkIntervalSec=COUNT,
            timeoutSec=COUNT,
            healthyThreshold=COUNT,
            unhealthyThreshold=COUNT,
        ),
    ),
}


def schema_of(document: dict[str, Any]) -> Schema:
    """The whole document's; KeyError for a kind that is not known."""
    api, kind = document["apiVersion"], document["kind"]
    metadata = closed("name", name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS)
    return closed(apiVersion={"const": api}, kind={"const": kind}, metadata=metadata, spec=SPECIFICATIONS[api, kind])
