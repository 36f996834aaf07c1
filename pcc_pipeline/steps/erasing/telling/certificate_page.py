"""The certificate of an erasure as a page, for who reads and files it: made of the signed document alone."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.blocks import Block, Bullets, Code, Paragraph, Section, Table, Tile, Tiles
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan
from pcc_pipeline.steps.erasing.telling.sentences import (
    BY_POLICY,
    LOOKED_THROUGH,
    asked_for,
    judged,
    outside,
    rest,
    titles,
)
from pcc_pipeline.steps.erasing.telling.vocabulary import by_whom, file_here, file_of_run, moment
from pcc_pipeline.tracking.runs import SPLIT_FILE

# Files and folders that the page names; the JSON names all.
_SHOWN = 12
_POLICIES = {
    "retrain": "every model that learned from them was removed, and a new one, trained without them, took its place "
    "where one was in use",
    "block": "every model that learned from them was taken out of use at once and removed, and a new one, trained "
    "without them, took its place where one was in use",
    "note": "they were marked and stay in use, as this project is set (registry.erasure_policy: note)",
}
_YOURS = 'What is yours to do stands below, under "What is left for you to do".'
_BUT_HELD = "; but for those that somebody ordered to be kept (a legal hold)"
_ACTIONS = {
    "replace": "a new one was trained without the rows; this one was removed with its files",
    "remove": "removed with its files",
    "note": f"stays as it is: {BY_POLICY}",
}


def page(document: Mapping[str, Any]) -> str:
    """The certificate for people."""
    plan, still, kept = Plan.of(document["plan"]), document["still"], document.get("kept_in", {})
    answered: list[Block] = [*_answer(plan, still), Tiles(_tiles(document, plan))]
    sections = [
        Section("answer", "What was done", answered),
        Section("request", "The request", [Table([], _request(document, plan), words=2)]),
    ]
    if plan.learned:
        sections.append(Section("models", "Models that had learned from the rows", _models(document, plan)))
    if still:
        left = [[place, f"{rows:,}"] for place, rows in still.items()]
        sections.append(Section("still", "What still stands", [Table(["where", "rows"], left)]))
    if files := _files(plan):
        sections.append(Section("files", "Files that rows were taken out of", _table_of(files)))
    if folders := document.get("unpublished", []):
        removed_with = "Models lay in these folders for others to take. The folders were removed with them:"
        shown: list[Block] = [Paragraph(removed_with), Bullets(folders[:_SHOWN]), *_more(len(folders), "folder")]
        sections.append(Section("folders", "Published folders that were removed", shown))
    sections.append(Section("outside", "What is left for you to do", [Bullets(outside(plan, kept))]))
    sections.append(Section("signature", "Signature: how to check this page", _signature(document)))
    title = "Nothing is held" if plan.holds_nothing and not still else "Certificate of erasure"
    return to_html(title, f"number {document['erasure']}, ended {moment(document['ended'])}", sections, {})


def _answer(plan: Plan, still: Mapping[str, int]) -> list[Paragraph]:
    """What was found when all was looked through again, and beside it what that does not say."""
    kept = [each for each in plan.learned if each.action == "note" and each.name]
    if still:
        stand = f"Rows of theirs still stand in {counted(len(still), 'place')}; they are listed below."
        return [Paragraph(stand, "bad")]
    if plan.holds_nothing:
        return [
            Paragraph(
                "Nothing is held of those who were asked for: none of the jobs on record (trainings, scorings and the "
                "like) read rows of theirs, and none of the files that jobs wrote here has any. Whatever is read from "
                "now on leaves them out.",
                "good",
            ),
            Paragraph(f"Other files and systems were not looked through. {_YOURS}", "open"),
        ]
    if kept:
        stays = "stays" if len(kept) == 1 else "stay"
        by = "because somebody ordered that (a legal hold)" if any(each.held for each in kept) else f"as {BY_POLICY}"
        gone = Paragraph(
            f"Their rows are gone from {LOOKED_THROUGH}. {counted(len(kept), 'model')} that learned from them {stays}, "
            f"{by}; see below.",
            "open",
        )
        return [gone, *([Paragraph(f"But {rest(plan)}. {_YOURS}", "open")] if plan.inputs else [])]
    return [
        Paragraph(
            f"Looked through again after it was done: {LOOKED_THROUGH}. Nothing of theirs was found there.", "good"
        ),
        Paragraph(f"But {rest(plan)}. {_YOURS}", "open")
        if plan.inputs
        else Paragraph(f"Nothing else was looked through. {_YOURS}", "open"),
    ]


def _tiles(document: Mapping[str, Any], plan: Plan) -> list[Tile]:
    """How much was taken out; the first three are what the table of files adds up to."""
    removed, learned = document["removed"], sum(1 for each in plan.learned if each.name)
    of_runs = removed.get("tables", 0) + removed.get("documents", 0)
    here = removed.get("copies", 0) + removed.get("pages", 0)
    return [
        Tile("from files of jobs on record", f"{of_runs:,}", "rows taken out"),
        Tile("from the records of trainings", f"{removed.get('splits', 0):,}", "lines that said what each row was for"),
        Tile("from files on this machine", f"{here:,}", "rows taken out"),
        Tile("from the cache", f"{removed.get('cache', 0):,}", "messages whose numbers were removed"),
        *([Tile("models that had learned", f"{learned:,}", "see below")] if learned else []),
    ]


def _request(document: Mapping[str, Any], plan: Plan) -> list[list[str]]:
    started = by_whom(document["who"], document.get("login", ""))
    held = any(each.held for each in plan.learned)
    policy = _POLICIES[plan.policy] + (_BUT_HELD if held and plan.policy != "note" else "")
    unknown = (
        f"{plan.unknown} of {plan.subjects + plan.cases}, as they are written in the list: nothing is held of these"
    )
    return [
        ["asked for", asked_for(plan)],
        *([["of these not known here", unknown]] if plan.unknown else []),
        [
            "who they are",
            "is left out on purpose; the list that was given says it. To show that this page is about somebody, type "
            "pcc lineage --subject NAME, the name as it stands in the list, in quotation marks if it has blanks (for a "
            f"case: --case-id): the answer names the certificate {document['erasure']} if, and only if, it is about "
            "them.",
        ],
        [
            "what is kept of them",
            "coded marks of their names (keyed hashes), in this certificate and in the list that keeps them out of "
            "whatever is read from now on. Who has not got the key file cannot tell from them who it was.",
        ],
        ["begun", f"{moment(document['began'])}, started by {started}"],
        ["ended", moment(document["ended"])],
        ["number", str(document["erasure"])],
        *([["models that learned from the rows", policy]] if any(each.name for each in plan.learned) else []),
        *_other_trainings(plan),
    ]


def _other_trainings(plan: Plan) -> list[list[str]]:
    """Those whose records had rows of theirs, and of which no model stands below."""
    learned = {each.run_id for each in plan.learned}
    others = [part.run_id[:8] for part in plan.runs if part.split and part.run_id not in learned]
    if not others:
        return []
    shown = ", ".join(others[:_SHOWN]) + (", …" if len(others) > _SHOWN else "")
    left = "no model that learned from rows of theirs was left of " + ("it" if len(others) == 1 else "them")
    return [["other trainings that read rows", f"{len(others)} ({shown}): {left}, or there never was one"]]


def _models(document: Mapping[str, Any], plan: Plan) -> list[Block]:
    rows = [
        [title, f"{each.rows:,}", _became(each), _in_place(document, each)]
        for title, each in zip(titles(plan.learned, former=True), plan.learned, strict=True)
    ]
    sentences = [Paragraph(text) for name in document["successors"] if (text := judged(document, name))]
    columns = ["model", "rows of theirs that it learned from", "what became of it", "in its place"]
    return [*sentences, Table(columns, rows, words=4)]


def _became(version: LearnedVersion) -> str:
    return f"stays: {version.held}" if version.held else _ACTIONS[version.action]


def _in_place(document: Mapping[str, Any], version: LearnedVersion) -> str:
    return f"version {document['successors'].get(version.name, '?')}" if version.action == "replace" else ""


def _files(plan: Plan) -> list[tuple[str, int]]:
    """Those of this machine and those of runs that rows, entries or lines were taken out of, and how many."""
    of_runs = [
        (file_of_run(name, part.step, part.run_id), rows)
        for part in plan.runs
        for name, rows in [*part.tables.items(), *part.documents.items()]
    ]
    splits = [
        # An erasure that an earlier version of this program began did not count them alone.
        (file_of_run(SPLIT_FILE, part.step, part.run_id), part.split_lines or sum(part.rows.values()))
        for part in plan.runs
        if part.split
    ]
    here = [
        (file_here(path, plan.kinds.get(path, "")), rows) for path, rows in (*plan.copies.items(), *plan.pages.items())
    ]
    return [*here, *of_runs, *splits]


def _table_of(files: list[tuple[str, int]]) -> list[Block]:
    total = sum(rows for _, rows in files)
    rows = [[name, f"{number:,}"] for name, number in files[:_SHOWN]]
    if len(files) > _SHOWN:
        hidden = counted(len(files) - _SHOWN, "more file")
        rows.append(
            [f"{hidden}, which the .json beside this page names", f"{sum(each[1] for each in files[_SHOWN:]):,}"]
        )
    return [
        Table(
            ["what the file holds (its name), and which job left it", "rows or lines"],
            [*rows, ["together", f"{total:,}"]],
        ),
        Paragraph(
            "Together they are the first three numbers at the top. Not counted are the coded lists by which the rows "
            "were looked up (lineage.parquet of each job): their lines went last."
        ),
    ]


def _more(number: int, what: str) -> list[Paragraph]:
    if number <= _SHOWN:
        return []
    return [
        Paragraph(f"and {counted(number - _SHOWN, f'more {what}')}; the .json that lies beside this page names all")
    ]


def _signature(document: Mapping[str, Any]) -> list[Block]:
    """How somebody checks it who has never done that."""
    place = f"{document.get('folder', 'outputs/erasures')}/{document['erasure']}.certificate.html"
    return [
        Paragraph(
            "This page was signed when it was written, so that a later change of it, be it a single letter, is found. "
            "To check it, open the window in which pcc is used (a terminal) and type these two lines; the first goes "
            "to the project's folder, in which params.yaml lies:"
        ),
        Code(f"cd {shlex.quote(document.get('project', 'FOLDER'))}"),
        Code(f"pcc erase --verify {place}"),
        Table(
            [],
            [
                [
                    "what it needs",
                    f"the key file with the key {document['signed_by']}, which signed it (the setting lineage.key_file "
                    "in params.yaml names that file; whoever set this program up knows it), and, beside this page, the "
                    "file of the same name that ends in .certificate.json. Keep both as long as the page. Where you "
                    "filed them elsewhere, type that place. Who has no key can neither check nor forge a certificate.",
                ],
                [
                    "a good answer",
                    f'"verified   the certificate of erasure {document["erasure"]}, ended {moment(document["ended"])}, '
                    'is as it was signed". The lines after it say what was looked through once more, and that '
                    "no row of theirs is in it.",
                ],
                [
                    "your own files",
                    '"to do      your file … still holds … rows of theirs" is no fault of the certificate: remove them '
                    'there. Once you have, it says "no row of theirs is in it any more".',
                ],
                [
                    "a bad answer",
                    '"error: the page was changed after it was written", or "error: the certificate was changed after '
                    'it was signed". Do not rely on it: ask whoever runs this program for the copy that MLflow keeps.',
                ],
                [
                    "rows are back",
                    '"warning    … rows of theirs stand in …". The certificate is genuine, but somebody put rows back '
                    "into what this program keeps, such as by an old copy: make a new plan for these persons.",
                ],
                [
                    "no answer",
                    f'"error: the key {document["signed_by"]}, which signed it, is not here". This says nothing about '
                    "the certificate: check it where the key file is.",
                ],
            ],
            words=2,
        ),
    ]
