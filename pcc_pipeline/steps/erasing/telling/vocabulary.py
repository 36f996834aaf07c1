"""What jobs, files, places and moments are called in a plan and a certificate, for who has never seen MLflow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from pathlib import PurePosixPath

MLFLOW = "MLflow, the record of all trainings that this project keeps"
# Step -> what its runs are.
JOBS = {
    "embed": "embedding",
    "train": "training",
    "evaluate": "evaluation",
    "score": "scoring",
    "monitor": "monitoring",
    "ab_test": "comparison",
    "promote": "promotion",
}
# File of a run, or kind of table that one wrote elsewhere -> what it holds.
_FILES = {
    "embedded": "messages as the program read them, with the numbers made of them",
    "scores": "answers to messages",
    "predictions": "answers of a model that was tried out",
    "rejected": "messages that could not be used",
    "label_issues": "messages that may be labelled wrongly",
    "novel_rows": "messages unlike those that the model knew",
    "split": "what each row was for: training or testing",
    "report": "the page on how good a model is",
    "model_card": "the description of a model",
    "metrics": "the scores of a model",
    "monitor": "the page on whether messages have changed",
    "data_files": "the list of the files that were read",
}
_OTHER = "a file that a job wrote"
# Part of an erasure -> what is so once it is done; in their order.
DONE = {
    "suppressed": "their rows are left out of whatever is read from now on",
    "marked": "the models that learned from them are marked",
    "documents": "their cases are out of pages and lists",
    "cache": "the numbers that were made of their messages are removed from the store of such numbers (the cache)",
    "tables": "their rows are out of the files that jobs left in MLflow",
    "splits": "their lines are out of the records of what each row was for",
    "copies": "their rows are out of the files that jobs wrote on this machine",
    "others": "models that learned from them and that nothing has to replace are removed",
    "versions": "models that were replaced are removed",
    "manifests": "their lines are out of the coded lists of whose rows each job read",
}
# The same while it is not done, of what holds rows.
LEFT = {
    "documents": "their cases may stand in pages and lists",
    "tables": "their rows may stand in files that jobs left in MLflow",
    "copies": "their rows may stand in files that jobs wrote on this machine",
}
_SUCCESSOR = "successor "


def job(step: str, run_id: str) -> str:
    """Such as `the training 1a2b3c4d`."""
    return f"the {JOBS.get(step, step)} {run_id[:8]}"


def file_of_run(name: str, step: str, run_id: str) -> str:
    """A file that a run left with MLflow."""
    return f"{held_in_file(name)}, of {job(step, run_id)}"


def held_in_file(name: str) -> str:
    """What a run's file of this name holds, with the name."""
    return f"{_FILES.get(PurePosixPath(name).stem, _OTHER)} ({name})"


def file_here(address: str, kind: str = "") -> str:
    """A file that a run wrote outside of MLflow.

    Args:
        kind: see `tables.kinds_of`; where it is not known, the file's name may tell.
    """
    return f"{_FILES.get(kind) or _FILES.get(PurePosixPath(address).stem, _OTHER)} ({address})"


def done_so_far(parts: Collection[str], removed: Mapping[str, int] | None = None) -> list[str]:
    """What parts of an erasure come to, in words.

    Args:
        removed: part -> how much was; parts of which nothing was are left out.
    """
    done = [part for part in parts if removed is None or removed.get(part, 0)]
    return [DONE.get(part, f"a new {part.removeprefix(_SUCCESSOR)} is in place") for part in done] or ["nothing"]


def moment(text: str) -> str:
    """A time of ISO 8601 in UTC, as a person reads it."""
    try:
        return f"{datetime.fromisoformat(text):%-d %B %Y, %H:%M} UTC"
    except ValueError:  # somebody else wrote it into MLflow
        return text


def by_whom(who: str, login: str) -> str:
    """Who did something.

    Args:
        who: the account of the tracking server, or else the system's user.
        login: `user@machine`; empty where nobody noted it.
    """
    user, _, machine = login.rpartition("@")
    if not machine:
        return f"the login or account {who}"
    at = f"the login {user} on the machine {machine}"
    return at if who == user else f"the account {who} of MLflow's server, from {at}"
