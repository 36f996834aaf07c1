"""What publication refuses, and that a model's file depends on the model alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from pcc_pipeline.errors import ModelError, StorageError
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.publishing.joblib_files import write_plain
from pcc_pipeline.publishing.publish import fetch_published, publish, published_versions
from pcc_pipeline.storage.objects import BucketStore, ContentionError, FolderStore

VERSION = "v20260301_120000"
METADATA = {"model_version": VERSION, "embedding_model": "e", "trained_on": "t", "classifier": "LogisticRegression"}


def classifier(width: int = 584, labels: Any = ("a", "b"), family: str = "LogisticRegression") -> Any:
    rng = np.random.default_rng(0)
    given = np.array([labels[i % len(labels)] for i in range(40)])
    return build_classifier(family, {}, Task(len(labels), 0)).fit(rng.normal(size=(40, width)), given)


@pytest.mark.parametrize(
    "version", ["", "20260301_120000", "v2026", "v20260301_1200000", "../v20260301_120000", "v20260301_120000\n"]
)
def test_a_bad_version_name_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"(?s)is no version name.*v20260131_235959"):
        publish(FolderStore(tmp_path), version, classifier(), None, {**METADATA, "model_version": version})
    with pytest.raises(StorageError, match="is no version name"):
        fetch_published(FolderStore(tmp_path), version, tmp_path)
    assert not list(tmp_path.iterdir())


def test_metadata_must_be_complete_and_json(tmp_path: Path) -> None:
    store, model = FolderStore(tmp_path), classifier()
    with pytest.raises(StorageError, match="lack what the downstream system reads: trained_on, classifier"):
        publish(store, VERSION, model, None, {"model_version": VERSION, "embedding_model": "e"})
    for bad in (float("nan"), object()):
        with pytest.raises(StorageError, match="cannot be written as JSON"):
            publish(store, VERSION, model, None, {**METADATA, "more": bad})
    assert not list(tmp_path.iterdir())


class OwnEstimator(BaseEstimator):
    """No machine but this one has it."""

    classes_ = np.array(["a", "b"])

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        return np.full((len(vectors), 2), 0.5)


def test_a_model_the_downstream_cannot_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(ModelError, match="takes 584 numbers, this one takes 384"):
        publish(store, VERSION, classifier(384), None, METADATA)
    with pytest.raises(ModelError, match="labels must be strings, not int64"):
        publish(store, VERSION, classifier(labels=(0, 1)), None, METADATA)
    with pytest.raises(ModelError, match="LogisticRegression is no fitted classifier"):
        publish(store, VERSION, LogisticRegression(), None, METADATA)
    monkeypatch.setattr(OwnEstimator, "__module__", "our_models")
    own = ModuleType("our_models")
    own.OwnEstimator = OwnEstimator
    monkeypatch.setitem(sys.modules, "our_models", own)
    with pytest.raises(ModelError, match=r"our_models.OwnEstimator, which the downstream system does not have"):
        publish(store, VERSION, OwnEstimator(), None, METADATA)
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    with pytest.raises(StorageError, match=r"(?s)cannot write: .*where: .*target"):
        publish(FolderStore(tmp_path / "target"), VERSION, classifier(), None, METADATA)


def test_a_file_in_the_place_of_the_version_is_told(tmp_path: Path) -> None:
    (tmp_path / VERSION).write_text("x")
    with pytest.raises(StorageError, match=r"(?s)cannot write: .*where: .*v20260301_120000"):
        publish(FolderStore(tmp_path), VERSION, classifier(), None, METADATA)
    assert [path.name for path in tmp_path.iterdir()] == [VERSION]


FULL_DISK = """
import resource, sys
from pathlib import Path
from pcc_pipeline.storage import objects
from pcc_pipeline.publishing.publish import publish
import joblib
model, target, where = joblib.load(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def limit(*args):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
if where == "target":
    upload = objects.FolderStore.upload
    objects.FolderStore.upload = lambda *args: (limit(), upload(*args))
else:
    limit()
metadata = {"model_version": "v20260301_120000", "embedding_model": "e", "trained_on": "t", "classifier": "c"}
publish(objects.FolderStore(target), "v20260301_120000", model, None, metadata)
"""


@pytest.mark.parametrize("where", ["target", "temporary"])
def test_a_disk_that_takes_no_more_is_told_and_nothing_stays(where: str, tmp_path: Path) -> None:
    joblib.dump(classifier(family="RandomForest"), tmp_path / "model")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "model"), str(tmp_path / "target"), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "pcc_pipeline.errors.StorageError: cannot write: " in done.stderr
    assert "File too large" in done.stderr
    assert not FolderStore(tmp_path / "target").names()
    assert published_versions(FolderStore(tmp_path / "target")) == ()


DUMP = """
import sys, joblib
from pathlib import Path
if sys.argv[3] == "busy":
    import skops.io, pandas
    from sklearn.linear_model import LogisticRegression
    LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])
from pcc_pipeline.publishing.joblib_files import write_plain
write_plain(joblib.load(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.long
@pytest.mark.parametrize("family", ["LogisticRegression", "RandomForest", "HistGradientBoosting"])
def test_a_models_bytes_do_not_depend_on_the_process(family: str, tmp_path: Path) -> None:
    model = classifier(family=family)
    joblib.dump(model, tmp_path / "model")
    write_plain(model, tmp_path / "here")
    for number, state in enumerate(("busy", "idle")):
        command = [sys.executable, "-c", DUMP, str(tmp_path / "model"), str(tmp_path / state), state]
        subprocess.run(command, check=True, timeout=120, env={**os.environ, "PYTHONHASHSEED": str(number)})
    assert (tmp_path / "busy").read_bytes() == (tmp_path / "idle").read_bytes()
    for name in ("here", "busy"):
        rows = np.random.default_rng(1).normal(size=(5, 584))
        loaded = joblib.load(tmp_path / name)
        np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))


def test_a_whole_folder_is_not_placed_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    for folder in ("one", "two", "target"):
        for name in ("a", "last"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / name).write_text(folder)
    with pytest.raises(ContentionError, match="another process wrote here"):
        store.place_folder("one", "target", ["a", "last"])
    (tmp_path / "target" / "last").unlink()
    store.place_folder("two", "target", ["a", "last"])
    assert {path.read_text() for path in (tmp_path / "target").iterdir()} == {"two"}
    for name in ("two", "absent"):
        store.remove_folder(name)


def test_a_bucket_copies_only_over_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator knows no preconditions, so here the requests are looked at, and its refusal is made up."""
    from google.api_core.exceptions import PreconditionFailed
    from google.cloud import storage

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    store, asked = BucketStore("b", "p"), []
    seen = storage.Blob("p/v1/a", store._bucket)
    seen._properties["generation"] = "77"
    monkeypatch.setattr(storage.Bucket, "list_blobs", lambda self, **options: [seen])

    def copy(self: Any, blob: Any, bucket: Any, name: str, **options: Any) -> None:
        asked.append((name, options["if_generation_match"]))
        if name.endswith("last"):
            raise PreconditionFailed("conditionNotMet")

    monkeypatch.setattr(storage.Bucket, "copy_blob", copy)
    with pytest.raises(ContentionError, match="another process wrote here"):
        store.place_folder("s", "v1", ["a", "b", "last"])
    assert asked == [("p/v1/a", 77), ("p/v1/b", 0), ("p/v1/last", 0)]
