"""Within `main` a file is read, checked and encoded once; each step alone reads it, and comes to the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.steps.inputs import datasets
from pcc_pipeline.storage.objects import BucketStore, open_store

pytestmark = pytest.mark.pipeline

NAME = "pcc-intent-classifier"
OPTIONS = (
    "--search-method",
    "none",
    "--set",
    "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs preprocessing.cache_dir=null "
    "data.normalise_labels=true",
)


@pytest.fixture
def counts() -> Iterator[Counter[str]]:
    """What the real reader, bucket and encoder were called for, by the file's name; and how many texts were encoded."""
    called: Counter[str] = Counter()
    read, download, encode = datasets.read_batches, BucketStore.download, SentenceEncoder.encode

    def counted_read(path: Any, **named: Any) -> Any:
        called[f"read {path.name}"] += 1
        return read(path, **named)

    def counted_download(store: BucketStore, name: str, target: Any) -> None:
        called[f"download {name}"] += 1
        download(store, name, target)

    def counted_encode(encoder: SentenceEncoder, texts: Any) -> Any:
        called["encoded"] += len(texts)
        return encode(encoder, texts)

    with (
        patch.object(datasets, "read_batches", counted_read),
        patch.object(BucketStore, "download", counted_download),
        patch.object(SentenceEncoder, "encode", counted_encode),
    ):
        yield called


def test_main_downloads_reads_and_encodes_each_file_once_and_comes_to_what_the_steps_alone_come_to(
    command, store, bucket: str, counts: Counter[str]
) -> None:
    """The steps alone read them once each; labels, rejected rows and blank lines are the same for both."""
    training, test = sample(90), sample(40, seed=98)
    training.loc[5, "intent"] = f" {training.loc[5, 'intent'].upper()}"
    test.loc[[0, 1], "intent"] = test.loc[[0, 1], "intent"].str.upper()
    training.loc[3, "text"] = ""
    files = {"cases.csv": training.to_csv(index=False) + "\n", "held.csv": test.to_csv(index=False)}
    for name, content in files.items():
        (store.folder / name).write_text(content)
        open_store(bucket).upload(store.folder / name, name)
    addresses = ("--data", f"{bucket}/cases.csv", "--test-data", f"{bucket}/held.csv")

    done = command("main", *addresses, *OPTIONS)
    assert done.code == 0, done.err
    different = training["text"].drop(3).nunique() + test["text"].nunique()
    assert counts == {
        **{f"{what} {name}": 1 for what in ("download", "read") for name in files},
        "encoded": different,
    }
    together = {name: store.step(name) for name in ("embed", "train", "evaluate")}
    assert together["train"].data.metrics["data/rejected_rows"] == 1
    assert together["train"].data.metrics["data/blank_lines"] == 1

    for entry in ("train", "evaluate"):
        counts.clear()
        assert command(entry, *addresses, *OPTIONS).code == 0
        assert counts["read held.csv"] == 1
        alone = store.step(entry)
        assert alone.data.metrics == together[entry].data.metrics
        for tag in (
            "pcc.data_digest",
            "pcc.test_digest",
            "pcc.split_digest",
            "pcc.encoder_backend",
            "pcc.encoder_digest",
        ):
            assert alone.data.tags.get(tag) == together[entry].data.tags.get(tag), tag


@pytest.mark.long
def test_vectors_that_the_data_brings_are_handed_on_as_the_datas_own(
    command, store, small_frame, counts: Counter[str]
) -> None:
    small_frame.to_parquet(store.folder / "cases.parquet", index=False)
    assert command("main", "--data", "cases.parquet", *OPTIONS).code == 0
    assert counts == {"read cases.parquet": 1}
    together = store.step("train")
    assert command("train", "--data", "cases.parquet", *OPTIONS).code == 0
    alone = store.step("train")
    assert "pcc.encoder_backend" not in together.data.tags
    assert together.data.tags["pcc.vectors_digest"] == alone.data.tags["pcc.vectors_digest"]
    assert together.data.metrics == alone.data.metrics


@pytest.mark.long
def test_main_on_several_files_has_each_on_record_and_evaluates_on_the_same_rows_later(command, store) -> None:
    frame = sample(150, seed=5)[["text", "intent"]]
    frame[:100].to_csv(store.folder / "cases_1.csv", index=False)
    frame[100:].assign(confidence=0.5).to_parquet(store.folder / "cases_2.parquet", index=False)
    done = command("main", "--data", "cases_*", *OPTIONS)
    assert done.code == 0, done.err
    trained, evaluated = store.step("train"), store.step("evaluate")
    parts = json.loads(store.file(trained, "data_files.json").read_text())
    assert [(Path(part["file"]).name, part["rows"]) for part in parts] == [
        ("cases_1.csv", 100),
        ("cases_2.parquet", 50),
    ]
    assert len({part["digest"] for part in parts}) == 2
    assert _inputs(store, "pipeline") == _inputs(store, "train")  # MLflow lists a data set once a run
    assert _inputs(store, "train") == {(Path(part["file"]).name, part["digest"][:12], "training") for part in parts}
    assert _inputs(store, "evaluate") == {(name, digest, "testing") for name, digest, _ in _inputs(store, "train")}
    assert command("evaluate").code == 0
    assert store.step("evaluate").data.metrics == evaluated.data.metrics
    assert (
        command("score", "--data", "[cases_1.csv, cases_2.parquet]", "--model", f"models:/{NAME}/1", *OPTIONS).code == 0
    )
    assert store.step("score").data.metrics["score/rows"] == 150
    assert {(name, use) for name, _, use in _inputs(store, "score")} == {
        ("cases_1.csv", "scoring"),
        ("cases_2.parquet", "scoring"),
    }
    assert command("promote", "--force", "true", "--reason", "a drill").code == 0
    assert _inputs(store, "promote") == _inputs(store, "evaluate")


def _inputs(store: Any, step: str) -> set[tuple[str, str, str]]:
    """The name, digest and use of the data sets on this run's page."""
    used = store.step(step).inputs.dataset_inputs
    return {(each.dataset.name, each.dataset.digest, each.tags[0].value) for each in used}
