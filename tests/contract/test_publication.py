"""Publication by the downstream's contract, over a local folder and a bucket behind the real storage emulator."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from pcc_pipeline.encoder.sentence_encoder import file_sha256
from pcc_pipeline.errors import StorageError, TrackingError
from pcc_pipeline.features.lexical import fit_lexical
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.model.selection import on_features
from pcc_pipeline.publishing.publish import (
    Publication,
    fetch_published,
    greatest_version,
    publish,
    published_versions,
)
from pcc_pipeline.storage.objects import ObjectStore, open_store

VERSION, OLDER = "v20260301_120000", "v20260201_120000"
NAMES = {"model.joblib", "features.joblib", "metadata.json"}


@dataclass(frozen=True)
class Model:
    """What is published in these tests."""

    classifier: Any
    lexical: Any
    vectors: np.ndarray


def metadata(version: str = VERSION, **more: Any) -> dict[str, Any]:
    described = {"embedding_model": "all-MiniLM-L6-v2", "trained_on": "cases.csv", "classifier": "LogisticRegression"}
    return {"model_version": version, **described, "run_id": "4f2a", **more}


def fitted(labels: tuple[str, ...], seed: int = 0, family: str = "LogisticRegression") -> Model:
    rng = np.random.default_rng(seed)
    vectors, given = rng.normal(size=(48, 584)), np.array([labels[i % len(labels)] for i in range(48)])
    small = {"n_estimators": 20} if family == "RandomForest" else {}
    classifier = build_classifier(family, small, Task(len(labels), seed)).fit(vectors, given)
    lexical = fit_lexical([f"please delete record {i} of account {i * seed + i}" for i in range(50)])
    return Model(classifier, lexical, vectors)


@pytest.fixture(scope="module", params=[("opt_out", "other"), ("data_deletion", "opt_out", "größer")], ids=["2", "3"])
def model(request: pytest.FixtureRequest) -> Model:
    """That of three labels goes by the first hundred features alone."""
    whole = fitted(request.param)
    if len(request.param) == 2:
        return whole
    given = whole.classifier.predict(whole.vectors)
    part = build_classifier("LogisticRegression", {}, Task(3, 0)).fit(whole.vectors[:, :100], given)
    return replace(whole, classifier=on_features(part, np.arange(100), 584))


@pytest.fixture(scope="module")
def other_model() -> Model:
    return fitted(("opt_out", "other"), seed=1)


@pytest.fixture(scope="module")
def forest() -> Model:
    """A model whose plain joblib.dump differs from process to process."""
    return fitted(("opt_out", "other"), family="RandomForest")


@pytest.fixture(params=["folder", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "store") if request.param == "folder" else str(request.getfixturevalue("bucket"))


@pytest.fixture
def store(address: str) -> ObjectStore:
    return open_store(address)


def published(store: ObjectStore, model: Model, version: str = VERSION) -> Publication:
    return publish(store, version, model.classifier, model.lexical, metadata(version))


def fetched(store: ObjectStore, version: str) -> tuple[Any, Any | None, dict[str, Any]]:
    """Classifier, lexical half and metadata of a version that this test published."""
    with tempfile.TemporaryDirectory() as folder:
        metadata = fetch_published(store, version, Path(folder))
        parts = [Path(folder) / name for name in ("model.joblib", "features.joblib")]
        classifier, lexical = (joblib.load(path) if path.exists() else None for path in parts)
        return classifier, lexical, metadata


def naive(store: ObjectStore) -> dict[str, set[str]]:
    """What a reader sees that takes every folder whose name starts with `v`, without looking at metadata.json."""
    seen: dict[str, set[str]] = {}
    for name in store.names("v"):
        folder, _, file = name.partition("/")
        seen.setdefault(folder, set()).add(file)
    return seen


def overwrite(store: ObjectStore, name: str, content: bytes, folder: Path) -> None:
    source = folder / f"source-{uuid.uuid4().hex}"
    source.write_bytes(content)
    store.upload(source, name)


def content(store: ObjectStore, name: str, folder: Path) -> bytes:
    target = folder / f"target-{uuid.uuid4().hex}"
    store.download(name, target)
    return target.read_bytes()


def everything(store: ObjectStore, folder: Path) -> dict[str, bytes]:
    return {name: content(store, name, folder) for name in store.names()}


def test_a_version_is_three_files_and_its_metadata_hold_their_digests(
    store: ObjectStore, address: str, model: Model, tmp_path: Path
) -> None:
    found = published(store, model)
    assert (found.version, found.address) == (VERSION, f"{address}/{VERSION}")
    assert (found.already_there, found.completed) == (False, False)
    assert store.names() == sorted(f"{VERSION}/{name}" for name in NAMES)
    written = json.loads(content(store, f"{VERSION}/metadata.json", tmp_path))
    assert written == {**metadata(), "published_as": VERSION, "files": found.files}
    for name, digest in found.files.items():
        store.download(f"{VERSION}/{name}", tmp_path / name)
        assert file_sha256(tmp_path / name) == digest


def test_a_published_model_comes_back(store: ObjectStore, model: Model) -> None:
    found = published(store, model)
    classifier, lexical, written = fetched(store, VERSION)
    expected = model.classifier.predict_proba(model.vectors)
    np.testing.assert_array_equal(classifier.predict_proba(model.vectors), expected)
    np.testing.assert_array_equal(lexical.transform(["delete record 7"]), model.lexical.transform(["delete record 7"]))
    assert written == {**metadata(), "published_as": VERSION, "files": found.files}


def test_a_model_on_whole_vectors_has_no_features_file(store: ObjectStore, model: Model) -> None:
    found = publish(store, VERSION, model.classifier, None, metadata())
    assert set(found.files) == {"model.joblib"}
    assert naive(store) == {VERSION: {"model.joblib", "metadata.json"}}
    assert fetched(store, VERSION)[1] is None


READER = """
import sys, pathlib
sys.modules["pcc_pipeline"] = None
import joblib, numpy as np
folder = pathlib.Path(sys.argv[1])
model, vectors = joblib.load(folder / "model.joblib"), np.load(folder / "vectors.npy")
for row in vectors:
    (label,), probabilities = model.predict(row[None, :].astype(np.float64)), model.predict_proba(row[None, :])
    assert isinstance(label, str)
    assert probabilities.shape == (1, len(model.classes_))
    print(label)
lexical = joblib.load(folder / "features.joblib")
assert lexical.transform(["please delete"]).shape == (1, 200)
assert not [name for name in sys.modules if name.startswith("pcc_pipeline.")]
"""


def test_the_downstream_loads_it_without_this_package(store: ObjectStore, model: Model, tmp_path: Path) -> None:
    published(store, model)
    greatest = max(naive(store))
    for name in NAMES:
        store.download(f"{greatest}/{name}", tmp_path / name)
    np.save(tmp_path / "vectors.npy", model.vectors)
    command = [sys.executable, "-I", "-X", "utf8", "-c", READER, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(label) for label in model.classifier.predict(model.vectors)]


def test_publishing_again_changes_nothing_and_says_so(store: ObjectStore, forest: Model, tmp_path: Path) -> None:
    first = published(store, forest)
    before = everything(store, tmp_path)
    reloaded = pickle.loads(pickle.dumps(forest))
    again = publish(store, VERSION, reloaded.classifier, reloaded.lexical, metadata(published_at="later"))
    assert again.already_there
    assert again.files == first.files
    assert everything(store, tmp_path) == before


def test_another_model_under_a_published_version_is_refused(
    store: ObjectStore, model: Model, other_model: Model, tmp_path: Path
) -> None:
    published(store, model)
    before = everything(store, tmp_path)
    with pytest.raises(StorageError, match=r"(?s)is not what was published.*where: .*v20260301_120000 \(run 4f2a\)"):
        published(store, other_model)
    with pytest.raises(StorageError, match="is not what was published from here"):
        publish(store, VERSION, model.classifier, None, metadata())
    with pytest.raises(
        StorageError, match="another model is published under this version, and a published version is never"
    ):
        publish(store, VERSION, model.classifier, model.lexical, metadata(embedding_model="another"))
    assert everything(store, tmp_path) == before


def test_the_listing_holds_whole_versions_in_order(
    store: ObjectStore, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert published_versions(store) == ()
    assert greatest_version(store) is None
    for version in (VERSION, OLDER):
        published(store, model, version)
    overwrite(store, "v20270101_000000/model.joblib", b"half", tmp_path)
    overwrite(store, "vendor/metadata.json", b"{}", tmp_path)
    with caplog.at_level(logging.WARNING):
        assert published_versions(store) == (OLDER, VERSION)
        assert greatest_version(store) == VERSION
    assert "v20270101_000000 is passed over: it has no metadata.json" in caplog.text
    assert "vendor" not in caplog.text


@pytest.mark.parametrize("name", ["model.joblib", "features.joblib"])
def test_a_tampered_file_is_refused_with_version_and_run(
    store: ObjectStore, model: Model, name: str, tmp_path: Path
) -> None:
    published(store, model, OLDER)
    published(store, model)
    overwrite(store, f"{VERSION}/{name}", b"cos\nsystem\n(S'touch pwned'\ntR.", tmp_path)
    told = rf"(?s)v20260301_120000 was altered.*{name} is not the file.*where: .*\(run 4f2a\).*do not use it"
    with pytest.raises(StorageError, match=told):
        fetch_published(store, VERSION, tmp_path)
    with pytest.raises(StorageError, match=told):  # nor is the evidence overwritten
        published(store, model)
    assert greatest_version(store) == OLDER


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"files": {}}', b'{"files": {"model.joblib": "x", "../a": "y"}}', b"\xff", b"[" * 100_000]
)
def test_bad_metadata_are_refused(store: ObjectStore, model: Model, text: bytes, tmp_path: Path) -> None:
    published(store, model)
    overwrite(store, f"{VERSION}/metadata.json", text, tmp_path)
    gc.disable()  # a finaliser that runs at the depth to which JSON's reader goes would fail there
    try:
        with pytest.raises(
            StorageError, match=r"v20260301_120000 was altered.*metadata\.json (is not JSON|does not list)"
        ):
            fetch_published(store, VERSION, tmp_path)
        assert published_versions(store) == ()
    finally:
        gc.enable()


class Touches:
    """Unpickling it makes a file: what an attacker would put in place of a model."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def forge(store: ObjectStore, version: str, marker: Path, folder: Path) -> None:
    """What whoever may write to a target can do: another model.joblib, and a metadata.json that agrees with it."""
    evil = folder / "evil.joblib"
    joblib.dump(Touches(marker), evil)
    store.upload(evil, f"{version}/model.joblib")
    written = json.loads(content(store, f"{version}/metadata.json", folder))
    written["files"]["model.joblib"] = file_sha256(evil)
    overwrite(store, f"{version}/metadata.json", json.dumps(written).encode(), folder)


class Kept:
    """Records in memory."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    def knows(self, digest: str) -> bool:
        return digest in self.digests

    def add(self, digest: str, address: str) -> None:
        self.digests[digest] = address


@pytest.mark.parametrize("records", [None, Kept()], ids=["without-records", "with-records"])
def test_a_version_that_somebody_else_wrote_is_refused_and_never_loaded(
    store: ObjectStore, model: Model, records: Kept | None, tmp_path: Path
) -> None:
    publish(store, VERSION, model.classifier, model.lexical, metadata(), records)
    forge(store, VERSION, tmp_path / "ran", tmp_path)
    forged = everything(store, tmp_path)
    assert greatest_version(store) == VERSION, "the digests agree with one another"
    told = r"(?s)is not what was published from here.*where: .*v20260301_120000.*do not load them.*publish again"
    with pytest.raises(StorageError, match=told):
        publish(store, VERSION, model.classifier, model.lexical, metadata(), records)
    assert not (tmp_path / "ran").exists()
    assert everything(store, tmp_path) == forged, "the evidence stays"


def test_what_is_on_record_is_known_though_other_packages_would_write_other_bytes(
    store: ObjectStore, model: Model, forest: Model, tmp_path: Path
) -> None:
    records = Kept()
    first = publish(store, VERSION, model.classifier, model.lexical, metadata(), records)
    store.download(f"{VERSION}/metadata.json", tmp_path / "metadata.json")
    assert records.digests == {file_sha256(tmp_path / "metadata.json"): first.address}
    again = publish(store, VERSION, forest.classifier, forest.lexical, metadata(), records)
    assert (again.already_there, again.files) == (True, first.files)


def test_a_publication_is_on_record_before_it_is_there(store: ObjectStore, model: Model) -> None:
    class Away(Kept):
        def add(self, digest: str, address: str) -> None:
            raise TrackingError("MLflow is away")

    with pytest.raises(TrackingError):
        publish(store, VERSION, model.classifier, model.lexical, metadata(), Away())
    assert store.names() == []


def test_a_version_that_was_copied_to_another_name_is_refused(store: ObjectStore, model: Model, tmp_path: Path) -> None:
    published(store, model, OLDER)
    for name in NAMES:
        overwrite(store, f"{VERSION}/{name}", content(store, f"{OLDER}/{name}", tmp_path), tmp_path)
    assert published_versions(store) == (OLDER,)
    with pytest.raises(StorageError, match=r"its metadata\.json belongs to another folder"):
        fetch_published(store, VERSION, tmp_path)


@pytest.mark.parametrize("place", ["link", "pipe"])
def test_a_local_file_that_is_none_is_not_read(place: str, model: Model, tmp_path: Path) -> None:
    """A link would lead elsewhere, and a pipe would never end."""
    store = open_store(str(tmp_path / "store"))
    published(store, model)
    path = tmp_path / "store" / VERSION / "model.joblib"
    if place == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(StorageError, match=r"(?s)cannot read.*where: .*model\.joblib"):
        published(store, model)


def test_a_file_more_in_a_version_is_refused(store: ObjectStore, model: Model, tmp_path: Path) -> None:
    published(store, model)
    overwrite(store, f"{VERSION}/extra.joblib", b"x", tmp_path)
    with pytest.raises(StorageError, match=r"its files are not those of metadata\.json \(extra\.joblib\)"):
        fetch_published(store, VERSION, tmp_path)
    assert greatest_version(store) is None


def test_an_unfinished_version_is_completed_with_one_models_files(
    store: ObjectStore, model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overwrite(store, f"{VERSION}/model.joblib", b"half of another model", tmp_path)
    overwrite(store, f".staging-{VERSION}-dead/model.joblib", b"left", tmp_path)
    with pytest.raises(StorageError, match=r"(?s)v20260301_120000 is not wholly published.*publish it again"):
        fetch_published(store, VERSION, tmp_path)
    with caplog.at_level(logging.WARNING):
        found = published(store, model)
    assert (found.completed, found.already_there) == (True, False)
    assert "was not wholly published; it is being completed" in caplog.text
    assert f".staging-{VERSION}-dead, left by an unfinished publication, is removed" in caplog.text
    assert store.names() == sorted(f"{VERSION}/{name}" for name in NAMES)
    assert fetch_published(store, VERSION, tmp_path)["files"] == found.files


def test_a_stranger_in_an_unfinished_version_is_told(store: ObjectStore, model: Model, tmp_path: Path) -> None:
    overwrite(store, f"{VERSION}/features.joblib", b"of another model", tmp_path)
    with pytest.raises(StorageError, match=r"(?s)do not belong to it: features\.joblib.*remove the folder"):
        publish(store, VERSION, model.classifier, None, metadata())


def test_an_absent_version_is_told(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"(?s)no such published version.*where: .*v20260301_120000"):
        fetch_published(store, VERSION, tmp_path)


# One process that forks: each child publishes and is killed before its k-th change of the target (a file-system call
# or a request that changes the bucket, its body counted by itself), until one comes through.
PUBLISHER = """
import os, pickle, signal, sys, traceback
from pcc_pipeline.storage.objects import open_store
from pcc_pipeline.publishing.publish import publish
mode, target, version, *files = sys.argv[1:]
models = [pickle.load(open(name, "rb")) for name in files]
changes, reading = 0, False

def watch(event, args):
    global changes, reading
    if event == "open":
        counts = str(args[0]).startswith(base) and args[2] & (os.O_WRONLY | os.O_RDWR)
    elif event in ("os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir"):
        counts = base in str(args[0])
    elif event == "http.client.send":
        if args[1][:9].split(b" ")[0] in (b"GET", b"POST", b"PUT", b"DELETE"):
            reading = args[1].startswith(b"GET")
        counts = not reading
    else:
        return
    changes += bool(counts)
    if changes == last:
        os.kill(os.getpid(), signal.SIGKILL)

def child(address, model, hook):
    global base
    pid = os.fork()
    if pid:
        return pid
    try:
        base = address
        if hook:
            sys.addaudithook(watch)
        publish(open_store(address), version, model["classifier"], model["lexical"], model["metadata"])
        os._exit(0)
    except BaseException:  # a forked child must never return into the test
        traceback.print_exc()
        os._exit(3)

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if mode == "at-once":
    print(*[status(pid) for pid in [child(target, model, False) for model in models]])
else:
    for last in range(1, 200):
        if (code := status(child(f"{target}/{last}", models[0], True))) != -signal.SIGKILL:
            print(last, code)
            break
"""


def run_publisher(mode: str, address: str, folder: Path, *models: Model) -> list[int]:
    files = []
    for number, one in enumerate(models):
        files.append(folder / f"model-{number}.pkl")
        given = {"classifier": one.classifier, "lexical": one.lexical, "metadata": metadata()}
        files[-1].write_bytes(pickle.dumps(given))
    command = [sys.executable, "-c", PUBLISHER, mode, address, VERSION, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.parametrize("address", ["folder", pytest.param("bucket", marks=pytest.mark.long)], indirect=True)
def test_killed_at_any_step_it_leaves_nothing_half_and_the_next_completes_it(
    address: str, forest: Model, tmp_path: Path
) -> None:
    came_through, code = run_publisher("kill", address, tmp_path, forest)
    assert code == 0
    assert came_through > 10
    expected = published(open_store(f"{address}/{came_through}"), forest)
    assert expected.already_there
    states = []
    for kill in range(1, came_through):
        store = open_store(f"{address}/{kill}")
        seen, checked = naive(store), published_versions(store)
        if not checked:
            assert greatest_version(store) is None
        if seen and not checked:  # an unchecking reader: never in a folder, and in a bucket never without the model
            assert address.startswith("gs://")
            assert "model.joblib" in seen[VERSION]
            assert "metadata.json" not in seen[VERSION]
            store.download(f"{VERSION}/model.joblib", tmp_path / "seen")
            assert file_sha256(tmp_path / "seen") == expected.files["model.joblib"]
        found = published(store, forest)
        assert found.already_there == bool(checked)
        assert found.completed == (bool(seen) and not checked)
        assert published_versions(store) == (VERSION,)
        assert naive(store) == {VERSION: NAMES}
        assert not store.names(".staging-")
        states.append((bool(checked), found.completed))
    assert (False, False) in states  # killed while staging
    # Killed between two copies, and killed while clearing up: in a folder one renaming is both.
    assert ((False, True) in states) == ((True, False) in states) == address.startswith("gs://")


def test_processes_that_publish_the_same_at_once_leave_one_whole_version(
    address: str, forest: Model, tmp_path: Path
) -> None:
    assert run_publisher("at-once", address, tmp_path, forest, forest, forest, forest) == [0, 0, 0, 0]
    store = open_store(address)
    assert published_versions(store) == (VERSION,)
    assert naive(store) == {VERSION: NAMES}
    assert not store.names(".staging-")
    assert published(store, forest).already_there


def test_processes_that_publish_different_models_at_once_never_mix_them(
    address: str, forest: Model, other_model: Model, tmp_path: Path
) -> None:
    codes = run_publisher("at-once", address, tmp_path, forest, other_model)
    store = open_store(address)
    if not address.startswith("gs://"):
        assert sorted(codes) == [0, 3]
        assert published_versions(store) == (VERSION,)
    # The emulator knows no preconditions: there both may fail, but nothing mixed counts as published.
    for version in published_versions(store):
        classifier = fetched(store, version)[0]
        assert type(classifier) in (type(forest.classifier), type(other_model.classifier))
