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
from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.blocks import Block, Bullets, Paragraph, Section, Table, Tile, Tiles
from pcc_pipeline.files import replacing
from pcc_pipeline.persons.keys import Key, Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.plan import Plan
from pcc_pipeline.steps.erasing.state import State
from pcc_pipeline.tracking.registry.erased import ERASURE_TAG
from pcc_pipeline.tracking.runs import SPLIT_FILE

_FORMAT = 1
# Files and folders that the page names; the JSON names all.
_SHOWN = 12
_NAME_IT = "name the .certificate.json that pcc erase wrote, with its folder (output.erasures_dir)"
_POLICIES = {
    "retrain": "trained again without them; versions that learned are removed, but for those that are held",
    "block": "out of use at once, and trained again without them; versions that learned are removed, but for held ones",
    "note": "marked, and still in use",
}
_ACTIONS = {
    "replace": "trained again without the rows; removed with its files",
    "remove": "removed with its files",
    "note": "stays as it is, by the policy or a hold",
}


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
        # What a process that was killed removed stands in the plan.
        "unpublished": sorted({*state.folders, *_planned_folders(state.plan)}),
        "folder": folder,
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
            fix="take certificate.json from MLflow, from the run that has the tag "
            f"{ERASURE_TAG}={document.get('erasure')}, and find out who changed this one",
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


def page(document: Mapping[str, Any]) -> str:
    """The certificate for people."""
    plan, removed, still = Plan.of(document["plan"]), document["removed"], document["still"]
    kept = [each for each in plan.learned if each.action == "note" and each.name]
    learned = sum(1 for each in plan.learned if each.name)
    if still:
        stand = f"Rows of theirs still stand in {counted(len(still), 'place')}; they are listed below."
        answer = Paragraph(stand, "bad")
    elif plan.holds_nothing:
        answer = Paragraph(
            "Nothing is held of those who were asked for: no run read their rows, and no file here has any. Whatever "
            "is read from now on leaves them out.",
            "good",
        )
    elif kept:
        answer = Paragraph(
            f"Their rows are gone from runs and files. {counted(len(kept), 'model')} that learned from them "
            f"{'stays' if len(kept) == 1 else 'stay'}, by a hold or the policy; see below.",
            "open",
        )
    else:
        answer = Paragraph(
            "The runs, the models, and the files that runs wrote here were looked through again after it was done: "
            "nothing of theirs was found. "
            "What is left for you to do stands below.",
            "good",
        )
    counts = [
        Tile("rows taken out of runs", f"{removed.get('tables', 0) + removed.get('documents', 0):,}"),
        Tile("rows taken out of files here", f"{removed.get('copies', 0):,}"),
        Tile("messages forgotten by the cache", f"{removed.get('cache', 0):,}"),
        *([Tile("models that had learned", f"{learned:,}", "see below")] if learned else []),
    ]
    sections = [
        Section("answer", "What was done", [answer, Tiles(counts)]),
        Section(
            "request",
            "The request",
            [
                Table(
                    [],
                    [
                        ["asked for", asked_for(plan)],
                        *([["of these not known here", _unknown(plan)]] if plan.unknown else []),
                        ["who they are", "is left out on purpose; the list that was given says it"],
                        ["begun", f"{moment(document['began'])}, by {document['who']}"],
                        ["ended", moment(document["ended"])],
                        ["number", str(document["erasure"])],
                        *([["models that learned from the rows", _POLICIES[plan.policy]]] if learned else []),
                        *([f"the new {name}", judged] for name, judged in document.get("judged", {}).items() if judged),
                    ],
                    words=2,
                )
            ],
        ),
    ]
    if plan.learned:
        rows = [
            [
                each.former_title,
                f"{each.rows:,}",
                _ACTIONS[each.action],
                _in_place(document, each.name),
            ]
            if each.action == "replace"
            else [
                each.former_title,
                f"{each.rows:,}",
                f"stays: {each.held}" if each.held else _ACTIONS[each.action],
                "",
            ]
            for each in plan.learned
        ]
        columns = ["version", "rows learned", "what became of it", "in its place"]
        checked = [Paragraph(_checked(name, *counts)) for name, counts in document.get("checks", {}).items()]
        models: list[Block] = [*checked, Table(columns, rows, words=4)]
        sections.append(Section("models", "Models that had learned from the rows", models))
    if still:
        left = [[place, f"{rows:,}"] for place, rows in still.items()]
        sections.append(Section("still", "What still stands", [Table(["where", "rows"], left)]))
    if files := _files(plan):
        shown: list[Block] = [Table(["file", "rows"], files[:_SHOWN])]
        sections.append(Section("files", "Files that rows were taken out of", [*shown, *_more(len(files), "file")]))
    if folders := document.get("unpublished", []):
        removed_with = "Removed with the models that were published there:"
        shown = [Paragraph(removed_with), Bullets(folders[:_SHOWN]), *_more(len(folders), "folder")]
        sections.append(Section("folders", "Published folders that were removed", shown))
    sections.append(Section("outside", "What is left for you to do", [Bullets(outside(plan))]))
    place = f"{document.get('folder', 'outputs/erasures')}/{document['erasure']}.certificate.html"
    signed = f"Signed with the key {document['signed_by']}. To check it, and to look through all of it again: "
    signed += f"pcc erase --verify {place}, in the project's folder, where params.yaml lies"
    sections.append(Section("signature", "Signature", [Paragraph(signed)]))
    title = "Nothing is held" if plan.holds_nothing and not still else "Certificate of erasure"
    return to_html(title, f"{document['erasure']}, ended {moment(document['ended'])}", sections, {})


def _planned_folders(plan: Plan) -> list[str]:
    return [address for each in plan.learned if each.action != "note" for address in each.published]


def _files(plan: Plan) -> list[list[str]]:
    """Those of this machine and those of runs that rows or entries were taken out of, and how many."""
    of_runs = [
        [f"{name} of the {part.step} run {part.run_id[:8]}", f"{rows:,}"]
        for part in plan.runs
        for name, rows in [*part.tables.items(), *part.documents.items()]
    ]
    splits = [
        [f"{SPLIT_FILE} of the {part.step} run {part.run_id[:8]}", f"{sum(part.rows.values()):,}"]
        for part in plan.runs
        if part.split
    ]
    return [*([path, f"{rows:,}"] for path, rows in plan.copies.items()), *of_runs, *splits]


def _more(number: int, what: str) -> list[Paragraph]:
    if number <= _SHOWN:
        return []
    rest = counted(number - _SHOWN, f"more {what}")
    return [Paragraph(f"and {rest}; the .json that lies beside this page names all")]


def _checked(name: str, passed: int, of: int) -> str:
    """What the table of gates comes to, for who does not know what a gate is."""
    if not of:
        return f"For a new {name} no checks are set here: it took the old one's place without any."
    share = f"The new {name} passed {passed} of {counted(of, 'check')}, as set for a model before it may answer"
    if passed == of:
        return f"{share}."
    return f"{share}; it answers all the same, because somebody let it. Who and why stands below."


def asked_for(plan: Plan) -> str:
    """Such as `2 persons and 1 case`."""
    parts = [(plan.subjects, "person"), (plan.cases, "case")]
    return " and ".join(counted(number, word) for number, word in parts if number)


def moment(text: str) -> str:
    """A time of ISO 8601 in UTC, as a person reads it."""
    return f"{datetime.fromisoformat(text):%-d %B %Y, %H:%M} UTC"


def outside(plan: Plan) -> list[str]:
    """What an erasure does not reach, and what the owner must do about each, a line for each."""
    return [
        *(
            f"your file {file} holds {counted(rows, 'row')} of theirs. It is yours and stays as it is; they are kept "
            "out of whatever is read from now on. Remove them there, and in its copies."
            for file, rows in plan.inputs.items()
        ),
        *(f"not on this machine: {place}. Erase there too, or remove it." for place in plan.elsewhere),
        *(f"not looked into: {text}." for text in plan.unseen),
        "backups of the tracking server, the bucket, this machine and the files: let them expire, or remove the persons"
        " there.",
        "whatever took models or predictions from here, such as a downstream system: ask its owner.",
        "a folder that pcc subject export wrote of theirs, if there is one: remove it once it was handed over.",
        "the list of names that you gave: keep it locked away beside the certificate, which does not say who they "
        "were. Lines with a name in your shell's history: clear them.",
        "names are compared as they are written: see whether these persons stand in the data under other spellings, "
        "and ask for those too.",
    ]


def _unknown(plan: Plan) -> str:
    return f"{plan.unknown} of {plan.subjects + plan.cases}, as they are written in the list: nothing is held of these"


def _in_place(document: Mapping[str, Any], name: str) -> str:
    """The version that stands in place of a model's one, and how it came there."""
    judged = document.get("judged", {}).get(name, "")
    return f"version {document['successors'].get(name, '?')}{': ' + judged if judged else ''}"


def _signature(document: Mapping[str, Any], key: Key) -> str:
    content = json.dumps(document, sort_keys=True, ensure_ascii=True).encode()
    return hmac.digest(key.secret, b"certificate of an erasure\0" + content, "sha256").hex()
