"""A file that cannot be used is told before anything slow begins: the encoder, a model, a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline

# Reached first, it would be the error.
NO_ENCODER = ("--set", "preprocessing.embedding_model=/nowhere/model")
FAULTS = {
    "missing": "the data file does not exist",
    "empty": "the data file is empty",
    "header alone": "columns and no rows",
    "unknown column": "lacks required columns: intent",
    "no text": "lacks required columns: text",
}


def bad(folder: Path, fault: str) -> str:
    path = folder / "bad.csv"
    if fault == "empty":
        path.write_bytes(b"")
    elif fault != "missing":
        frame = sample(60)
        frame = frame.head(0) if fault == "header alone" else frame
        changed = {"unknown column": "intent", "no text": "text"}.get(fault)
        frame.rename(columns={changed: "remark"} if changed else {}).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("option", ["--data", "--test-data"])
@pytest.mark.parametrize("entry", ["main", "train"])
def test_either_file_is_looked_at_before_the_encoder(command, store, entry: str, option: str, fault: str) -> None:
    good = store.folder / "good.csv"
    sample(60).to_csv(good, index=False)
    files = {"--data": str(good), "--test-data": str(good), option: bad(store.folder, fault)}
    done = command(entry, *(word for pair in files.items() for word in pair), *NO_ENCODER)
    assert done.code == 1
    assert FAULTS[fault] in done.err, done.err
    assert str(store.folder / "bad.csv") in done.err
    assert not (store.folder / "outputs").exists() or not list((store.folder / "outputs").rglob("*.parquet"))
    assert FAULTS[fault] in store.step("embed" if entry == "main" else "train").data.tags["pcc.error"]


@pytest.mark.parametrize("fault", ["missing", "empty", "header alone", "no text"])
@pytest.mark.parametrize(("entry", "option"), [("embed", "--data"), ("embed", "--test-data"), ("score", "--data")])
def test_a_file_to_embed_or_score_needs_no_labels(command, store, entry: str, option: str, fault: str) -> None:
    """`score` finds the fault before it asks for a model, of which there is none here."""
    done = command(entry, option, bad(store.folder, fault), *NO_ENCODER)
    assert done.code == 1
    assert FAULTS[fault] in done.err, done.err


@pytest.mark.parametrize("entry", ["evaluate", "promote"])
@pytest.mark.parametrize("option", ["--data", "--test-data"])
def test_a_file_to_measure_on_is_looked_for_before_the_model(command, store, entry: str, option: str) -> None:
    done = command(entry, option, bad(store.folder, "missing"))
    assert done.code == 1
    assert FAULTS["missing"] in done.err, done.err


def test_an_object_that_is_not_there_is_told_first(command, store, bucket: str) -> None:
    done = command("embed", "--data", f"{bucket}/cases.csv", *NO_ENCODER)
    assert done.code == 1
    assert "there is no such object or bucket" in done.err
