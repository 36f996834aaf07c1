"""The folders that a version was published as: by its record, by what lies at the targets, and by what is served."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pcc_pipeline.config import Params
from pcc_pipeline.config.paths import local_path
from pcc_pipeline.files import scratch_folder
from pcc_pipeline.steps.publish import targets
from pcc_pipeline.storage.objects import open_store

_METADATA = "metadata.json"


def published_as(params: Params, run_id: str, recorded: Sequence[str]) -> tuple[str, ...]:
    """Where what a training made is published, now.

    Args:
        recorded: what the version's record says; of several targets with one content it may name one alone.

    Raises:
        StorageError: a target cannot be read.
    """
    there = [address for address in recorded if _is_there(address)]
    for target in targets(params):
        store = open_store(target)
        with scratch_folder() as folder:
            for name in sorted(store.folders("v")):
                if f"{name}/{_METADATA}" not in store.names(f"{name}/"):
                    continue
                copy = folder / f"{name}.json"
                store.download(f"{name}/{_METADATA}", copy)
                try:
                    its = json.loads(copy.read_text(encoding="utf-8")).get("run_id")
                except (ValueError, AttributeError):  # another program's folder
                    continue
                if its == run_id:
                    there.append(f"{target.rstrip('/')}/{name}")
    there += _served(local_path(params.serving.models_dir), run_id)
    return tuple(dict.fromkeys(there))


def _served(folder: Path, run_id: str) -> list[str]:
    """The copies of a training's model that a server keeps on this machine."""
    copies = []
    for note in sorted(folder.glob("*.json")):
        try:
            standing = json.loads(note.read_text(encoding="utf-8"))
            if standing.get("run_id") == run_id and (copy := folder / str(standing["digest"])).is_dir():
                copies.append(str(copy))
        except (OSError, ValueError, AttributeError, KeyError):  # another program's file
            continue
    return copies


def unpublish(addresses: Sequence[str]) -> list[str]:
    """Remove published folders; which were there.

    Raises:
        StorageError: one cannot be removed.
    """
    removed = []
    for address in filter(_is_there, addresses):
        parent, _, name = address.rstrip("/").rpartition("/")
        open_store(parent).remove_folder(name)
        removed.append(address)
    return removed


def _is_there(address: str) -> bool:
    parent, _, name = address.rstrip("/").rpartition("/")
    return bool(open_store(parent).names(f"{name}/"))
