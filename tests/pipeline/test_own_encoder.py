"""A model is measured on vectors of its own encoder or not at all: an error in a step, a failed gate in a judgement."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.steps.inputs import model_vectors

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")
GATES = (
    "--set",
    "'registry.gates=[{kind: minimum, metric: test/f1_macro, threshold: 0.01}, "
    "{kind: no_worse_than_champion, margin: 0.9}]'",
)
FORCE = ("--force", "true", "--reason", "drill")


@pytest.fixture
def own(store) -> Path:
    """A folder with the bundled encoder's files and one more byte: another encoder by its digest."""
    folder = store.folder / "own-encoder"
    shutil.copytree(SentenceEncoder().folder, folder)
    _change(folder)
    return folder


def _change(folder: Path) -> None:
    """Makes it another encoder."""
    (folder / "modules.json").write_text((folder / "modules.json").read_text() + "\n")


def _train(command, path: Path | str, *more: str) -> None:
    done = command("train", "--data", str(path), *FIXED, *more)
    assert done.code == 0, done.err


def _encoder(folder: Path) -> tuple[str, str]:
    return "--set", f"preprocessing.embedding_model={folder}"


def _texts(store) -> Path:
    path = store.folder / "cases.csv"
    sample(120).to_csv(path, index=False)
    return path


def test_another_encoder_behind_the_same_path_is_an_error_and_a_failed_gate(command, store, own) -> None:
    path = _texts(store)
    _train(command, path, *_encoder(own))
    assert command("evaluate").code == 0
    assert command("promote", *GATES).code == 0
    assert store.client.get_model_version_by_alias(NAME, "champion").version == 1
    _train(command, path, *_encoder(own))
    _change(own)

    done = command("evaluate")
    assert done.code == 1
    assert "the encoder own-encoder is not the one that v" in done.err
    assert "test/f1_macro" not in store.step("evaluate").data.metrics
    refused = command("promote", *GATES)
    assert refused.code == 1
    assert "2 of 2 gates failed" in refused.err
    assert "the encoder own-encoder is not the one that v" in refused.err
    assert command("promote", *GATES, *FORCE).code == 0
    assert store.client.get_model_version_by_alias(NAME, "champion").version == 2


@pytest.mark.long
def test_the_champion_is_measured_on_vectors_of_its_own_encoder(command, store, own, monkeypatch) -> None:
    """It carries a copy, for when another encoder, or none, lies where its training found it."""
    path = _texts(store)
    _train(command, path, *_encoder(own))
    assert command("promote", *GATES).code == 0
    _train(command, path)
    used = []
    encoded = model_vectors.encoded

    def noted(dataset, params, encoder, what):
        used.append((what, encoder.digest, len(dataset.frame)))
        return encoded(dataset, params, encoder, what)

    monkeypatch.setattr(model_vectors, "encoded", noted)
    its, bundled = SentenceEncoder(str(own)).digest, SentenceEncoder().digest
    for spoilt in (lambda: None, lambda: _change(own), lambda: shutil.rmtree(own)):
        spoilt()
        used.clear()
        done = command("promote", *GATES, "--model", f"models:/{NAME}/2", "--force", "false")
        assert [digest for _, digest, _ in used] == [bundled, its]
        assert "not computed" not in done.out + done.err
        if done.code == 0:
            assert command("promote", "--rollback", "true").code == 0

    monkeypatch.setattr(model_vectors, "bundled_encoder_files", lambda loaded: _gone())
    refused = command("promote", *GATES, "--model", f"models:/{NAME}/2")
    assert refused.code == 1
    assert "1 of 2 gates failed: no_worse_than_champion" in refused.err
    assert "is not at hand" in refused.err
    assert command("promote", *GATES, "--model", f"models:/{NAME}/2", *FORCE).code == 0


def _gone() -> Path:
    raise model_vectors.FeatureError("the encoder is not at hand", where="its model")


@pytest.mark.parametrize(("champion", "challenger"), [(584, 384), pytest.param(384, 584, marks=pytest.mark.long)])
def test_models_of_other_widths_are_judged_and_nothing_crashes(
    command, store, with_vectors, champion: int, challenger: int
) -> None:
    """A champion of whole vectors cannot be measured on halves; one that completes halves can, by its own encoder."""
    for width in (champion, challenger):
        path = store.folder / f"{width}.parquet"
        with_vectors(sample(240), width=width).to_parquet(path, index=False)
        _train(command, path)
        if width == champion:
            assert command("promote", *GATES).code == 0
    done = command("promote", *GATES)
    assert "Traceback" not in done.err
    assert "minimum test/f1_macro" in done.out + done.err
    if champion == 584:
        assert done.code == 1
        assert "1 of 2 gates failed: no_worse_than_champion" in done.err
        assert "the champion v" in done.err
        assert "trained on whole vectors of 584 numbers" in done.err
        assert command("promote", *GATES, *FORCE).code == 0
    else:
        assert "not computed" not in done.out + done.err


@pytest.mark.long
def test_an_embedded_file_says_whose_vectors_it_holds_and_every_reader_looks(command, store, own) -> None:
    path = _texts(store)
    done = command("embed", "--data", str(path), *_encoder(own))
    assert done.code == 0, done.err
    (embedded,) = (store.folder / "outputs/embedded").glob("cases*.parquet")
    digest = SentenceEncoder(str(own)).digest
    assert pq.read_schema(embedded).metadata[b"pcc.encoder_digest"].decode() == digest

    done = command("train", "--data", str(embedded), *FIXED)
    assert done.code == 1
    assert "the vectors in this file were made by another encoder" in done.err
    _train(command, embedded, *_encoder(own))
    assert command("evaluate").code == 0
    assert store.step("train").data.tags["pcc.encoder_digest"] == digest

    _train(command, path)
    others = store.folder / "others.parquet"
    table = pq.read_table(embedded)
    texts = [f"{text} once more" for text in table["text"].to_pylist()]
    pq.write_table(table.set_column(table.column_names.index("text"), "text", [texts]), others)
    for entry, option in (("evaluate", "--test-data"), ("score", "--data")):
        done = command(entry, option, str(others), "--model", f"models:/{NAME}/2")
        assert done.code == 1, entry
        assert "the encoder that made the vectors in the data is not the one that v" in done.err
        assert command(entry, option, str(others), "--model", f"models:/{NAME}/1").code == 0, entry

    again = store.folder / "again"
    assert command("embed", "--data", str(embedded), "--set", f"output.embedded_dir={again}").code == 0
    (copy,) = again.glob("*.parquet")
    assert pq.read_schema(copy).metadata[b"pcc.encoder_digest"].decode() == digest, "who embeds again changes nothing"
    assert pd.read_parquet(copy)["case_id"].tolist() == pd.read_parquet(embedded)["case_id"].tolist()
