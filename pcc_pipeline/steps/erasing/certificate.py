"""The certificate of an erasure: what was asked, found, removed, replaced and left; signed by the key of lineage."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.files import replacing
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.plan import Plan
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.steps.erasing.telling.certificate_page import page
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG

_FORMAT = 1
_NAME_IT = "name the .certificate.json that pcc erase wrote, with its folder (output.erasures_dir)"


def certificate(state: State, still: Mapping[str, int], key: Key, folder: str) -> dict[str, Any]:
    """The document, with its signature.

    Args:
        still: place -> rows of the persons that stand there yet; empty where all is done.
        folder: where it lies, as the configuration names it.
        key: what it is signed with.
    """
    document = {
        "format": _FORMAT,
        "erasure": state.id,
        "began": state.began,
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": state.who,
        "hashes": state.persons.document(),
        "plan": state.plan.document(),
        "removed": state.removed,
        "successors": state.successors,
        "judged": state.judged,
        "checks": state.checks,
        "promoted": state.promoted,
        "login": state.login,
        "kept_in": state.kept_in,
        # What a process that was killed removed stands in the plan.
        "unpublished": sorted({*state.folders, *_planned_folders(state.plan)}),
        "folder": folder,
        "project": str(Path.cwd()),
        "still": dict(still),
    }
    # The page is not signed itself; by its digest it is seen whether it is the one that was written.
    document["page"] = sha256(page({**document, "signed_by": key.id}).encode()).hexdigest()
    return {**document, "signed_by": key.id, "signature": _signature(document, key)}


def demand_same_page(file: Path, document: Mapping[str, Any]) -> None:
    """See that the page of a certificate is as it was written.

    Raises:
        ConfigError: it cannot be read.
        DataError: it was changed, or is of an earlier version of this program, which did not sign what it says.
    """
    try:
        digest = sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"the page cannot be read: {error.strerror}", where=str(file), fix=_NAME_IT) from error
    if digest != document.get("page"):
        raise DataError(
            "the page was changed after it was written"
            if "page" in document
            else "the page says what nobody signed: an earlier version of this program wrote it",
            where=str(file),
            fix=f"go by the one that is signed: {file.with_suffix('.json')}, or the copy that the erasure's run keeps",
        )


def read_certificate(file: Path, keys: Keys) -> dict[str, Any]:
    """A certificate that is as it was signed.

    Raises:
        ConfigError: it cannot be read, or its key is not here.
        DataError: it was changed since.
    """
    if not file.exists() and file.with_suffix(".html").is_file():
        raise ConfigError(
            "this page is checked by the .json that lies beside it, which is not there",
            where=str(file.with_suffix(".html")),
            fix=f"bring {file.name} there; MLflow has it as certificate.json of the erasure's run",
        )
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        ident, signature = document.pop("signed_by"), document.pop("signature")
    except OSError as error:
        raise ConfigError(f"the certificate cannot be read: {error.strerror}", where=str(file), fix=_NAME_IT) from error
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError("this is no certificate of an erasure", where=str(file), fix=_NAME_IT) from error
    key = keys.by_id(str(ident))
    if key is None:
        raise ConfigError(
            f"the key {ident}, which signed it, is not here",
            where=str(file),
            fix="bring it, as PCC_LINEAGE_KEY or in lineage.key_file",
        )
    if not hmac.compare_digest(str(signature), _signature(document, key)):
        raise DataError(
            "the certificate was changed after it was signed",
            where=str(file),
            fix="do not rely on it, and find out who changed it; MLflow has the one that was written, certificate.json "
            f"of the run with the tag {ERASURE_TAG}={document.get('erasure')}",
        )
    return dict(document)


def persons_of(document: Mapping[str, Any], keys: Keys, where: str) -> Sought:
    """Whom a certificate is about, as hashes.

    Raises:
        ConfigError: a key is not here.
    """
    return Sought.read(document["hashes"], keys, where)


def write_certificate(folder: Path, document: Mapping[str, Any]) -> list[Path]:
    """The certificate as JSON and as a page, for this machine; the page last.

    Raises:
        OSError: it cannot be written.
    """
    paths = [folder / f"{document['erasure']}.certificate{suffix}" for suffix in (".json", ".html")]
    for path, content in zip(paths, (json_of(document), page(document)), strict=True):
        with replacing(path) as partial:
            partial.write_text(content, encoding="utf-8")
    return paths


def json_of(document: Mapping[str, Any]) -> str:
    """As it is written."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _planned_folders(plan: Plan) -> list[str]:
    return [address for each in plan.learned if each.action != "note" for address in each.published]


def _signature(document: Mapping[str, Any], key: Key) -> str:
    content = json.dumps(document, sort_keys=True, ensure_ascii=True).encode()
    return hmac.digest(key.secret, b"certificate of an erasure\0" + content, "sha256").hex()
