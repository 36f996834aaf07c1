"""Four eyes: who trained a model does not make it the champion, whatever program asks.

The server notes on each version which account registered it, and whom it let make it the champion first; nobody else
can write these two tags. Of the registered models that PCC_SERVER_APPROVALS names (patterns such as `pcc-*`, parted by
blanks or commas; `*` for all) only an approver moves `champion` and `previous`: to a version that another account
registered, or one that was approved once, as a rollback does. What would take the aliases away by another road,
deleting the model or such a version, is the approvers' as well. Renaming would bring a champion that nobody approved
from a name that is not guarded, so from or to a guarded one it is the admin's. And the digest of a logged model's files
stays what it was, whoever asks: files that others were put in place of are refused by all readers.
"""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pcc_requests import ANCHOR_TAG
from pcc_rights import Tier, account, current, registry_message, tracking_message, tracking_store

if TYPE_CHECKING:
    from flask import Request, Response

VARIABLE = "PCC_SERVER_APPROVALS"
REGISTERED_BY, APPROVED_BY = "pcc.registered_by", "pcc.approved_by"
_RECORDS = {REGISTERED_BY, APPROVED_BY}
GUARDED = ("champion", "previous")
# Of a logged model: what readers hold its files against (pcc_pipeline.tracking.logged_models).
DIGEST_TAG = "pcc.bundle_digest"

_ONLY_APPROVERS = "Only an approver may do this: it moves champion or previous of {name}. `pcc promote` asks for one."
_OWN = "Who registered a version does not approve it: ask another approver."
_RENAMES = "Renaming from or to a name whose champion is approved is the admin's: {name}."
_SERVERS = "This tag is the server's own record."
_LOGGED = "This tag says which files the model was logged with; it stays as it is. Log another model."


def fault_of_approval(request: Request) -> str:
    """Why a request of the current account is refused for want of an approver; empty where it is not.

    Args:
        request: Flask's, of a route that the account may call. It is read as MLflow reads it.

    Raises:
        MlflowException: the request is about a version that there is not.
    """
    if current.get() is None:  # /health has no account
        return ""
    check = _CHECKS.get((request.method, _action(request)))
    return "" if check is None else check()


def note(request: Request, response: Response) -> Response:
    """What the server puts on record of a request that went well: who registered a version, who approved it first."""
    action = _action(request)
    if response.status_code == 200 and request.method == "POST":
        if action == "model-versions/create":
            made = (response.get_json(silent=True) or {})["model_version"]
            _stamp(made["name"], str(made["version"]), REGISTERED_BY)
        elif action == "registered-models/alias":
            message = registry_message("SetRegisteredModelAlias")
            if message.alias == GUARDED[0] and _is_guarded(message.name):
                _stamp(message.name, message.version, APPROVED_BY)
    return response


def _action(request: Request) -> str:
    """What a request does, such as model-versions/create: its path without the id of a logged model, or its tag."""
    action = re.sub(r"^/(?:ajax-)?api/2\.0/mlflow/", "", request.path)
    return re.sub(r"^(logged-models)/[^/]+/(tags)(?:/[^/]+)?$", r"\1/\2", action)


def _may_move() -> str:
    message = registry_message("SetRegisteredModelAlias")
    if message.alias not in GUARDED or not _is_guarded(message.name):
        return ""
    if _tier() < Tier.APPROVER:
        return _ONLY_APPROVERS.format(name=message.name)
    tags = _registry().get_model_version(message.name, message.version).tags
    return _OWN if tags.get(REGISTERED_BY) == account.get() and APPROVED_BY not in tags else ""


def _may_take_alias_away() -> str:
    message = registry_message("DeleteRegisteredModelAlias")
    return _approvers_alone(message.name) if message.alias in GUARDED else ""


def _may_delete_model() -> str:
    return _approvers_alone(registry_message("DeleteRegisteredModel").name)


def _may_rename() -> str:
    message = registry_message("RenameRegisteredModel")
    guarded = [name for name in (message.name, message.new_name) if _is_guarded(name)]
    return _RENAMES.format(name=guarded[0]) if guarded and _tier() < Tier.ADMIN else ""


def _may_delete_version() -> str:
    message = registry_message("DeleteModelVersion")
    if not _is_guarded(message.name):
        return ""
    aliases = _registry().get_model_version(message.name, message.version).aliases
    return _approvers_alone(message.name) if set(aliases) & set(GUARDED) else ""


def _creates_no_record_of_ours() -> str:
    return _SERVERS if {tag.key for tag in registry_message("CreateModelVersion").tags} & _RECORDS else ""


def _sets_no_record_of_ours() -> str:
    return _SERVERS if registry_message("SetModelVersionTag").key in _RECORDS else ""


def _deletes_no_record_of_ours() -> str:
    return _SERVERS if registry_message("DeleteModelVersionTag").key in _RECORDS else ""


def _sets_no_other_digest() -> str:
    digests = {tag.value for tag in tracking_message("SetLoggedModelTags").tags if tag.key == DIGEST_TAG}
    # The same one again is what a client sends that tries again after an outage.
    return _LOGGED if digests and len(digests | _digest()) > 1 else ""


def _deletes_no_digest() -> str:
    from flask import request

    return _LOGGED if (request.view_args or {}).get("tag_key") == DIGEST_TAG else ""


def _digest() -> set[str]:
    """The digest of the logged model that the current request is about, if it has one yet."""
    from flask import request

    tags = tracking_store().get_logged_model((request.view_args or {})["model_id"]).tags
    return {tags[DIGEST_TAG]} if DIGEST_TAG in tags else set()


def _leaves_anchors_alone() -> str:
    return _SERVERS if str(tracking_message("SetExperimentTag").key).startswith(ANCHOR_TAG) else ""


def _keeps_anchors() -> str:
    return _SERVERS if str(tracking_message("DeleteExperimentTag").key).startswith(ANCHOR_TAG) else ""


_CHECKS = {
    ("PATCH", "logged-models/tags"): _sets_no_other_digest,
    ("DELETE", "logged-models/tags"): _deletes_no_digest,
    ("POST", "experiments/set-experiment-tag"): _leaves_anchors_alone,
    ("POST", "experiments/delete-experiment-tag"): _keeps_anchors,
    ("POST", "registered-models/alias"): _may_move,
    ("DELETE", "registered-models/alias"): _may_take_alias_away,
    ("DELETE", "registered-models/delete"): _may_delete_model,
    ("POST", "registered-models/rename"): _may_rename,
    ("DELETE", "model-versions/delete"): _may_delete_version,
    ("POST", "model-versions/create"): _creates_no_record_of_ours,
    ("POST", "model-versions/set-tag"): _sets_no_record_of_ours,
    ("DELETE", "model-versions/delete-tag"): _deletes_no_record_of_ours,
}


def _approvers_alone(name: str) -> str:
    return _ONLY_APPROVERS.format(name=name) if _is_guarded(name) and _tier() < Tier.APPROVER else ""


def _is_guarded(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in re.split(r"[\s,]+", os.environ.get(VARIABLE, "")) if pattern)


def _tier() -> Tier:
    return current.get() or Tier.READER


def _registry() -> Any:
    from mlflow.server.handlers import _get_model_registry_store

    return _get_model_registry_store()


def _stamp(name: str, version: str, key: str) -> None:
    from mlflow.entities.model_registry import ModelVersionTag

    store = _registry()
    if key not in store.get_model_version(name, version).tags:
        store.set_model_version_tag(name, version, ModelVersionTag(key, account.get()))
