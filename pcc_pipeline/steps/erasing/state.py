"""How far an erasure came, in a file of this machine: what goes on after it was killed, and holds no name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pcc_pipeline.errors import ConfigError, StorageError
from pcc_pipeline.files import write_durably
from pcc_pipeline.persons.keys import Keys
from pcc_pipeline.persons.sought import Sought
from pcc_pipeline.steps.erasing.plan import Plan


@dataclass
class State:
    """An erasure that was confirmed.

    Attributes:
        id: of its plan.
        done: the parts that are; `removed`: part -> how much was.
        successors: model -> the version that stands in place of one that learned.
        judged: model -> how that one was judged, who let it serve, and why; `promoted`: the same `by` whom and for
            which `reason`; `checks`: model -> how many checks it passed, of how many.
        others: erased persons of whom cases are looked for as well; see `kept.Earlier`.
        folders: what was published of the versions that were removed, and is removed too.
        login: of who began it, with the machine: `root@host`.
        kept_in: where MLflow keeps its `record` and its `files`.
    """

    id: str
    plan: Plan
    persons: Sought
    began: str
    who: str
    done: list[str] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)
    successors: dict[str, str] = field(default_factory=dict)
    judged: dict[str, str] = field(default_factory=dict)
    checks: dict[str, tuple[int, int]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    others: Sought = field(default_factory=Sought)
    promoted: dict[str, dict[str, str]] = field(default_factory=dict)
    login: str = ""
    kept_in: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it.

        Raises:
            StorageError: it cannot be written.
        """
        document = {
            "id": self.id,
            "plan": self.plan.document(),
            "hashes": self.persons.document(),
            "began": self.began,
            "who": self.who,
            "done": self.done,
            "removed": self.removed,
            "successors": self.successors,
            "judged": self.judged,
            "checks": self.checks,
            "folders": self.folders,
            "others": self.others.document(),
            "promoted": self.promoted,
            "login": self.login,
            "kept_in": self.kept_in,
        }
        path = file_of(folder, self.id)
        try:
            write_durably(path, json.dumps(document, indent=2))
        except OSError as error:
            raise StorageError(
                f"the state of the erasure cannot be written: {error.strerror}",
                where=str(path),
                fix="make room, or set output.erasures_dir; then confirm the plan again",
            ) from error


def new_state(ident: str, plan: Plan, persons: Sought, others: Sought, who: str, login: str = "") -> State:
    """Of a plan that was just confirmed."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    return State(ident, plan, persons, began, who, others=others, login=login)


def read_state(folder: Path, ident: str, keys: Keys) -> State | None:
    """The state of an erasure that was begun; None where there is none.

    Raises:
        ConfigError: it is damaged, or a key of it is not here.
    """
    path = file_of(folder, ident)
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return State(
            ident,
            Plan.of(document["plan"]),
            Sought.read(document["hashes"], keys, str(path)),
            **{name: document[name] for name in ("began", "who", "done", "removed", "successors")},
            # Erasures that were begun by an earlier version of this program have none.
            judged=document.get("judged", {}),
            checks=document.get("checks", {}),
            folders=document.get("folders", []),
            promoted=document.get("promoted", {}),
            login=document.get("login", ""),
            kept_in=document.get("kept_in", {}),
            others=Sought.read(document["others"], keys, str(path)) if "others" in document else Sought(),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "the state of the erasure cannot be read", where=str(path), fix="move it away, and make a new plan"
        ) from error


def file_of(folder: Path, ident: str) -> Path:
    """Where the state of an erasure lies."""
    return folder / f"{ident}.json"


def unfinished(folder: Path) -> list[str]:
    """The ids of the erasures that were begun and have not ended."""
    return sorted(path.stem for path in folder.glob("*.json") if "." not in path.stem)
