"""What a plan, a certificate and their summaries say in whole sentences, for who has never seen MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pcc_pipeline.config import Params
from pcc_pipeline.gates.judge import in_words
from pcc_pipeline.plurals import counted
from pcc_pipeline.steps.erasing.plan import LearnedVersion, Plan
from pcc_pipeline.steps.erasing.telling.vocabulary import MLFLOW
from pcc_pipeline.storage.objects import BUCKET_SCHEME
from pcc_pipeline.tracking.store.places import Places

BY_POLICY = "this project lets such models stay: registry.erasure_policy is note"
LOOKED_THROUGH = (
    "the jobs on record (trainings, scorings and the like) with their files, the models, and the files that jobs wrote "
    "on this machine"
)
# What a reader may look for elsewhere, which is said once.
_TECHNICAL = ("champion", "challenger")
_DATABASE = "sqlite:///"


def asked_for(plan: Plan) -> str:
    """Such as `2 persons and 1 case`."""
    parts = [(plan.subjects, "person"), (plan.cases, "case")]
    return " and ".join(counted(number, word) for number, word in parts if number)


def titles(learned: Sequence[LearnedVersion], *, former: bool = False) -> list[str]:
    """What each is called and whether it is in use; the technical word for that stands with the first one.

    Args:
        former: what it was before the erasure.
    """
    said, explained = [], set[str]()
    for version in learned:
        use = version.use
        if version.alias in _TECHNICAL and version.alias not in explained:
            explained.add(version.alias)
            use += f" ({version.alias})"
        said.append(f"{version.called}{', was ' if former else ', '}{use}" if use else version.called)
    return said


def kept_in(places: Places) -> dict[str, str]:
    """What MLflow's `record` and the place of its `files` are, in words."""
    if places.record.startswith(_DATABASE):
        record = f"the file {places.record.removeprefix(_DATABASE)}"
    else:
        record = f"the {'server' if places.record.startswith('http') else 'database'} at {places.record}"
    if places.files.startswith("mlflow-artifacts:"):
        files = "a place that whoever runs its server knows"
    elif "://" in places.files and not places.files.startswith("file:"):
        files = f"the cloud storage folder {places.files}"
    else:
        files = f"the folder {unquote(places.files.removeprefix('file://'))}"
    return {"record": record, "files": files}


def checks_set(params: Params) -> list[str]:
    """What a new model must show before it may take the place of one in use, by the settings at hand; lines of text."""
    words = in_words(params.registry.gates)
    approval = "somebody who did not train it must approve it too (registry.approvals)"
    if not words:
        none = "no checks of new models are set for this project (registry.gates is empty)"
        return [f"{none}; {approval}"] if params.registry.approvals else [f"{none}, so it needs to pass none"]
    lines = [
        f"first it must pass the {counted(len(words), 'check')} that "
        f"{'is' if len(words) == 1 else 'are'} set for this project (registry.gates):",
        *(f"- {one}" for one in words),
    ]
    return [*lines, f"and {approval}"] if params.registry.approvals else lines


def judged(document: Mapping[str, Any], name: str) -> str:
    """How the new model of a name was judged, who let it answer where it did not pass, and why; empty if none is known.

    Args:
        document: of the certificate.
    """
    number = document["successors"].get(name)
    if number is None:
        return ""
    new, promoted = f"The new model, {name} version {number},", document.get("promoted", {}).get(name)
    if name not in document.get("checks", {}):
        # A candidate's successor is nobody's to judge before it is promoted.
        return (
            "" if promoted or document["judged"].get(name) else f"{new} is a candidate and not in use, as the old one."
        )
    passed, of = document["checks"][name]
    if not of:
        return f"{new} took the old one's place without a check: none is set for this project."
    sets = "that this project sets for a model before it may answer"
    if passed == of:
        return f"{new} passed {'the one check' if of == 1 else f'all {of} checks'} {sets}."
    share = f"{new} passed {passed} of the {counted(of, 'check')} {sets}"
    if not promoted:
        return (
            f"{share}; it answers all the same, because somebody let it. The .json beside this page says who, and why."
        )
    return (
        f"{share}; it answers all the same, because the login or account {promoted['by']} let it: {promoted['reason']}"
    )


def rest(plan: Plan) -> str:
    """What holds rows of theirs yet, though an erasure is complete: the owner's files; empty where none is known."""
    if not plan.inputs:
        return ""
    files = ", ".join(f"{file} ({counted(rows, 'row')})" for file, rows in plan.inputs.items())
    return f"your own files, which are never changed, still hold rows of theirs: {files}"


def whole_name(file: str) -> str:
    """A file with its folder, so that one finds it; an address of cloud storage is one already."""
    return file if "://" in file else str(Path(file).absolute())


def _in_buckets(plan: Plan, kept: Mapping[str, str]) -> list[str]:
    """Folders in cloud storage that MLflow's files are in, or that rows or models were in."""
    files = kept.get("files", "the folder")
    of_mlflow = "" if files.startswith("the folder") else f"{files}, which holds the files of MLflow's jobs,"
    published = [address for each in plan.learned for address in each.published]
    places = [address.rpartition("/")[0] for address in (*plan.copies, *published) if address.startswith(BUCKET_SCHEME)]
    return [*filter(None, [of_mlflow]), *(f"the cloud storage folder {place}" for place in dict.fromkeys(places))]


def outside(plan: Plan, kept: Mapping[str, str]) -> list[str]:
    """What an erasure does not reach, and what the owner must do about each, a line for each.

    Args:
        kept: where MLflow keeps what it has; see `kept_in`.
    """
    lies = f" (it is {kept['record']}, and the files of its jobs are in {kept['files']})" if kept else ""
    return [
        *(
            f"your file {whole_name(file)} holds {counted(rows, 'row')} of theirs. It is yours and stays as it is; "
            "they are kept out of whatever is read from now on. Remove them there, and in its copies."
            for file, rows in plan.inputs.items()
        ),
        *(
            f"not on this machine, or removed: {place}. If there is a copy, erase there too, or remove it."
            for place in plan.elsewhere
        ),
        *(f"not looked into: {text}." for text in plan.unseen),
        f"backups of {MLFLOW}{lies}, of this machine and of your files: let them expire, or remove the persons there.",
        *(
            f"{place} may keep earlier versions of a file by itself: ask whoever runs it to remove those of before "
            "this erasure."
            for place in _in_buckets(plan, kept)
        ),
        "whatever took models or answers from here, such as another system: ask its owner.",
        "a folder that pcc subject export wrote of theirs (the copy for a person who asked what is held), if there is "
        "one: remove it once it was handed over.",
        "the list of names that you gave: keep it locked away beside the certificate, which does not say who they "
        "were.",
        "the list of lines that were typed: the computer keeps one (the history of the shell). If a name, an address "
        "or a case id was typed in a line, as after --subject, delete that line: type history, which shows each line "
        "with its number; then history -d NUMBER for each such line, the greatest number first; then history -w. Where "
        "that is refused, delete the lines in the file ~/.zsh_history with a text editor.",
        "rows of theirs are those that bear a name or a case id of your list in the column for it. Names are compared "
        "as they are written: see whether these persons stand in the data under other spellings, and ask for those "
        "too. What others wrote about them in messages of their own is not looked for.",
    ]
