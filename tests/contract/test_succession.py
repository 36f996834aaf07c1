"""Whatever is published newest is what the downstream system takes up, over a folder and a bucket."""

from __future__ import annotations

import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from pcc_pipeline.errors import StorageError
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.publishing.publish import Publication, fetch_published, greatest_version, published_versions
from pcc_pipeline.publishing.version_names import check_writable, publish_newest
from pcc_pipeline.storage.objects import ObjectStore, open_store

OLD, NEW = "v20260201_120000", "v20260301_120000"
NOON = datetime(2026, 4, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store") if request.param == "folder" else str(request.getfixturevalue("bucket")))


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """Version -> a fitted classifier; no two are alike."""
    vectors = np.random.default_rng(0).normal(size=(40, 584))
    labels = np.array(["opt_out", "other"] * 20)
    make = lambda c: build_classifier("LogisticRegression", {"C": c, "solver": "lbfgs", "penalty": "l2"}, Task(2, 0))  # noqa: E731 # one line beside its only use
    return {OLD: make(0.1).fit(vectors, labels), NEW: make(10.0).fit(vectors, labels)}


def newest(store: ObjectStore, models: dict[str, Any], version: str, now: datetime = NOON) -> Publication:
    described = {"embedding_model": "e", "trained_on": "t", "classifier": "LogisticRegression"}
    return publish_newest(store, models[version], None, {"model_version": version, **described}, now=now)


def fetched(store: ObjectStore, version: str) -> dict[str, Any]:
    """The metadata of a version, with the model in it under `model`."""
    with tempfile.TemporaryDirectory() as folder:
        metadata = fetch_published(store, version, Path(folder))
        return {**metadata, "model": joblib.load(Path(folder) / "model.joblib")}


def taken_up(store: ObjectStore) -> tuple[str, str]:
    """The folder that the downstream system takes, and the version of the model in it."""
    greatest = greatest_version(store)
    assert greatest is not None
    return greatest, fetched(store, greatest)["model_version"]


def test_a_newer_model_goes_under_its_own_version(store: ObjectStore, models: dict[str, Any]) -> None:
    assert newest(store, models, OLD).version == OLD
    assert newest(store, models, NEW).version == NEW
    assert taken_up(store) == (NEW, NEW)


def test_a_model_that_comes_back_goes_under_a_greater_name_and_keeps_its_version(
    store: ObjectStore, models: dict[str, Any]
) -> None:
    newest(store, models, OLD)
    newest(store, models, NEW)
    back = newest(store, models, OLD)
    assert back.version == "v20260401_120000"
    assert taken_up(store) == (back.version, OLD)
    found = fetched(store, back.version)
    np.testing.assert_array_equal(found["model"].coef_, models[OLD].coef_)
    assert found["published_as"] == back.version
    assert published_versions(store) == (OLD, NEW, back.version), "no version is removed or overwritten"
    forth = newest(store, models, NEW)
    assert taken_up(store) == (forth.version, NEW), "in the same second too"


def test_what_is_the_greatest_already_is_left_as_it_is(store: ObjectStore, models: dict[str, Any]) -> None:
    newest(store, models, NEW)
    back = newest(store, models, OLD)
    before = store.names()
    again = newest(store, models, OLD)
    assert (again.version, again.already_there) == (back.version, True)
    assert store.names() == before


def test_a_clock_that_is_behind_does_not_publish_under_a_smaller_name(
    store: ObjectStore, models: dict[str, Any]
) -> None:
    newest(store, models, NEW)
    back = newest(store, models, OLD, datetime(2020, 1, 1, tzinfo=UTC))
    assert back.version == "v20260301_120001"
    assert taken_up(store) == (back.version, OLD)


def test_an_unfinished_folder_with_a_greater_name_is_passed_and_named(
    store: ObjectStore, models: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest(store, models, OLD)
    (tmp_path / "part").write_bytes(b"half")
    store.upload(tmp_path / "part", f"{NEW}/model.joblib")
    assert newest(store, models, OLD).version == "v20260401_120000"
    assert taken_up(store) == ("v20260401_120000", OLD)
    assert f"{NEW} was never wholly published, but the downstream system takes it up" in caplog.text


def test_two_models_that_come_back_in_one_second_both_get_a_name(store: ObjectStore, models: dict[str, Any]) -> None:
    newest(store, models, OLD)
    newest(store, models, NEW)
    later = {version: datetime(2026, 5, 1, tzinfo=UTC) for version in models}
    found: list[Publication] = []
    threads = [
        threading.Thread(target=lambda version=version: found.append(newest(store, models, version, later[version])))
        for version in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.version for each in found}) == 2
    held = {each.version: fetched(store, each.version)["model_version"] for each in found}
    assert set(held.values()) == set(models)


def test_a_version_without_our_form_is_refused(store: ObjectStore, models: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="no version name"):
        publish_newest(store, models[OLD], None, {"model_version": "latest"}, now=NOON)


@pytest.mark.parametrize("name", ["v20991332_999999", "v99991231_235959", "vendor"])
def test_a_folder_that_no_version_can_follow_is_named_before_anything_is_published(
    name: str, store: ObjectStore, models: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store.upload(tmp_path / "file", f"{name}/file")
    for ask in (lambda: check_writable(store, NEW), lambda: newest(store, models, NEW)):
        with pytest.raises(StorageError, match=f"would take up the folder {name} before any new version"):
            ask()
    assert store.names() == [f"{name}/file"]


def odd_entry(folder: Path, kind: str, name: str) -> str:
    """Put something into a local target that is no published version; returns what it is called."""
    folder.mkdir(exist_ok=True)
    if kind == "link":
        (folder.parent / "elsewhere").mkdir()
        (folder.parent / "elsewhere" / "model.joblib").write_bytes(b"x")
        (folder / name).symlink_to(folder.parent / "elsewhere")
    elif kind == "dangling link":
        (folder / name).symlink_to(folder.parent / "nowhere")
    elif kind == "file":
        (folder / name).write_bytes(b"x")
    else:
        (folder / name).mkdir()
        return "an empty folder"
    return "a link" if "link" in kind else "a file"


ODD = ["link", "dangling link", "file", "empty folder"]


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_entry_with_the_greatest_name_is_named_and_does_not_stay_the_one_that_is_taken_up(
    kind: str, models: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(str(tmp_path / "store"))
    newest(store, models, OLD)
    called = odd_entry(tmp_path / "store", kind, "v20260901_120000")
    check_writable(store, NEW)
    assert f"v20260901_120000 is {called}, which the downstream system takes up" in caplog.text
    found = newest(store, models, NEW)
    assert found.version == "v20260901_120001"
    assert max(path.name for path in (tmp_path / "store").iterdir()) == found.version
    assert taken_up(store) == (found.version, NEW)


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_entry_under_the_models_own_name_does_not_keep_it_from_being_published(
    kind: str, models: dict[str, Any], tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "store"))
    odd_entry(tmp_path / "store", kind, NEW)
    check_writable(store, NEW)
    found = newest(store, models, NEW)
    assert found.version == (NEW if kind == "empty folder" else "v20260401_120000")
    assert max(path.name for path in (tmp_path / "store").iterdir()) == found.version
    assert not (tmp_path / "elsewhere" / "metadata.json").exists()


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_entry_that_no_version_can_follow_is_named_before_anything_is_published(
    kind: str, models: dict[str, Any], tmp_path: Path
) -> None:
    store = open_store(str(tmp_path / "store"))
    odd_entry(tmp_path / "store", kind, "vendor")
    with pytest.raises(StorageError, match="would take up the folder vendor before any new version"):
        check_writable(store, NEW)


def test_looking_whether_a_store_can_be_written_leaves_nothing(store: ObjectStore) -> None:
    check_writable(store, NEW)
    assert store.names() == []


def test_an_altered_version_is_passed_and_told(
    store: ObjectStore, models: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest(store, models, OLD)
    newest(store, models, NEW)
    back = newest(store, models, OLD)
    (tmp_path / "file").write_bytes(b"other bytes")
    store.upload(tmp_path / "file", f"{back.version}/model.joblib")
    again = newest(store, models, OLD)
    assert again.version > back.version
    assert f"{back.version} was altered after it was published" in caplog.text
