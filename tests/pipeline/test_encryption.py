"""`output.encryption: key`: what holds texts here shows none of them, and with the key all goes on as ever."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.command_line import pcc
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.encoder.caches.entries import text_key
from pcc_pipeline.files import replacing
from pcc_pipeline.sealing import keys
from pcc_pipeline.sealing.keys import SealedError
from pcc_pipeline.sealing.parquet import is_sealed
from pcc_pipeline.steps.embedding.embedded_file import EmbeddedFileWriter
from tests import process_state

pytestmark = pytest.mark.pipeline

MARK = "Tutanchamun"
ROWS = 120
CHALLENGER = ("--model", "models:/pcc-intent-classifier@challenger")


class Sealed(NamedTuple):
    store: Any
    rows: pd.DataFrame
    embedded: Path
    run: Callable[..., int]


@pytest.fixture(scope="module")
def sealed(new_store, in_process) -> Iterator[Sealed]:
    """Messages of a marked person among 120, embedded, trained from the embedded file, evaluated and scored."""
    store = new_store("sealed")
    rows = sample(ROWS).reset_index(drop=True)
    rows["case_id"] = [f"{MARK}-{place}" for place in range(ROWS)]
    rows["text"] += [f" Yours, {MARK} {place}." for place in range(ROWS)]
    rows.loc[3, "text"] = ""
    rows.to_csv(store.folder / "cases.csv", index=False)
    (store.folder / "params.yaml").write_text(
        "lineage: {key_file: lineage.key}\n"
        "output: {encryption: key, encrypt_scores: true}\n"
        "registry: {gates: []}\n"
        "preprocessing: {cache_dir: cache}\n"
        "model: {search_method: none}\n"
    )

    def run(entry: str, *words: str) -> int:
        # The cache that tests share would not be sealed: `--set` names this one.
        own = ["--params-file", str(store.folder / "params.yaml"), "--set", "preprocessing.cache_dir=cache"]
        return int(in_process(store.folder, entry, [*own, *words]))

    before = keys._keys
    try:
        assert run("embed", "--data", "cases.csv") == 1  # there is no key
        assert not (store.folder / "outputs").exists()
        with _at(store):
            assert pcc.main(["lineage", "key"]) == 0
        assert run("embed", "--data", "cases.csv") == 0
        (embedded,) = (store.folder / "outputs/embedded").iterdir()
        assert run("train", "--data", str(embedded.relative_to(store.folder))) == 0
        assert run("evaluate") == 0
        assert run("score", "--data", "cases.csv", *CHALLENGER) == 0
        yield Sealed(store, rows, embedded, run)
    finally:
        keys.use(before)


def _at(store: Any) -> Any:
    """The store's folder and MLflow, for commands that are no entry points."""
    return _Place(store)


class _Place:
    def __init__(self, store: Any) -> None:
        self._store, self._before = store, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self._store.folder)
        self._undone = process_state.entry_point_undone()
        self._mlflow = process_state.mlflow_undone()
        self._undone.__enter__()
        self._mlflow.__enter__()
        mlflow.set_tracking_uri(self._store.uri)

    def __exit__(self, *error: object) -> None:
        self._mlflow.__exit__(None, None, None)
        self._undone.__exit__(None, None, None)
        os.chdir(self._before)


def test_no_byte_of_a_message_or_its_vector_stands_in_what_is_sealed(sealed: Sealed) -> None:
    folder = sealed.store.folder
    names = [sealed.embedded, *(folder / "outputs" / f"{name}.parquet" for name in ("scores", "rejected"))]
    for path in names:
        assert is_sealed(path), path
        assert MARK.encode() not in path.read_bytes(), path
    cached = [path for path in (folder / "cache").iterdir() if path.is_file()]
    assert {path.suffix for path in cached} >= {".sqlite", ".lock"}
    vectors = pd.concat(read_batches(sealed.embedded))
    everything = b"".join(path.read_bytes() for path in [*names, *cached])
    assert len(vectors) == ROWS - 1
    for text, vector in zip(vectors["text"], vectors["embeddings"], strict=True):
        assert text_key(text) not in everything
        assert np.asarray(vector, dtype="<f4").tobytes() not in everything
    # Nor do texts stand anywhere else.
    texts = [path for path in folder.rglob("*") if path.is_file() and path.name != "cases.csv"]
    assert not any(f"Yours, {MARK}".encode() in path.read_bytes() for path in texts)


def test_what_was_sealed_is_read_as_ever(sealed: Sealed) -> None:
    rows = pd.concat(read_batches(sealed.embedded))
    good = sealed.rows.drop(index=3)
    assert rows["text"].tolist() == good["text"].tolist()
    assert rows["case_id"].tolist() == good["case_id"].tolist()
    scores = pd.concat(read_batches(sealed.store.folder / "outputs/scores.parquet"))
    assert scores["case_id"].tolist() == good["case_id"].tolist()
    # The training's record tells the encoder, by the embedded file's own metadata; its vectors came from the cache.
    trained = sealed.store.step("train")
    assert trained.data.tags["pcc.encoder_digest"] == sealed.store.step("embed").data.tags["pcc.encoder_digest"]
    assert trained.data.params["output.encryption"] == "key"
    assert sealed.run("embed", "--data", "cases.csv") == 0
    assert sealed.store.step("embed").data.metrics["embed/data/cache_hits"] == ROWS - 1


def test_a_person_gets_their_rows_out_of_sealed_files(sealed: Sealed) -> None:
    with _at(sealed.store):
        asked = ["--case-id", f"{MARK}-5", "--output", "theirs"]
        assert pcc.main(["subject", "export", *asked]) == 0
        lines = {path.name: path.read_text() for path in Path("theirs/rows").glob("*.jsonl")}
        shutil.rmtree("theirs")
    for part in ("cases-", "scores.parquet"):
        (text,) = [text for name, text in lines.items() if part in name]
        assert text.count("\n") == text.count(f"{MARK}-5") or f"Yours, {MARK} 5." in text


def test_without_the_key_each_reader_names_it_and_a_rotated_one_reads_on(
    sealed: Sealed, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = sealed.store.folder
    key = folder / "lineage.key"
    content = key.read_text()
    ident = keys.all_keys()[0].id
    data = str(sealed.embedded.relative_to(folder))
    try:
        key.unlink()
        keys.use(tuple)
        with pytest.raises(SealedError, match=f"encrypted by the key {ident}, which is not here"):
            next(read_batches(sealed.embedded))
        capfd.readouterr()
        plain = ("--set", "output.encryption=none output.encrypt_scores=false")
        assert sealed.run("score", "--data", data, *CHALLENGER, *plain) == 1
        said = capfd.readouterr().err
        assert f"encrypted by the key {ident}, which is not here" in said
        assert "Traceback" not in said
        assert MARK not in said
    finally:
        key.write_text(content)
        key.chmod(0o600)
    with _at(sealed.store):
        assert pcc.main(["lineage", "key", "--rotate"]) == 0
    assert sealed.run("score", "--data", data, *CHALLENGER) == 0
    assert sealed.run("embed", "--data", "cases.csv") == 0
    assert sealed.store.step("embed").data.metrics["embed/data/cache_hits"] == ROWS - 1
    whole = sealed.embedded.read_bytes()
    try:
        for broken in (whole[:-100], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
            sealed.embedded.write_bytes(broken)
            capfd.readouterr()
            assert sealed.run("score", "--data", data, *CHALLENGER) == 1
            assert "changed or cut off after it was encrypted" in capfd.readouterr().err
    finally:
        sealed.embedded.write_bytes(whole)


def test_scores_that_are_to_be_sealed_are_parquet(sealed: Sealed, capfd: pytest.CaptureFixture[str]) -> None:
    assert sealed.run("score", "--data", "cases.csv", *CHALLENGER, "--output", "scores.csv") == 1
    assert "only Parquet is encrypted" in capfd.readouterr().err


def test_a_plain_copy_is_made_for_what_reads_no_sealed_file(sealed: Sealed, capfd: pytest.CaptureFixture[str]) -> None:
    with _at(sealed.store):
        for name in ("plain.parquet", "plain.csv"):
            capfd.readouterr()
            assert pcc.main(["decrypt", "outputs/scores.parquet", "--output", name]) == 0
            assert f"decrypted  {ROWS - 1} rows to {name}" in capfd.readouterr().out
        plain, text = pd.read_parquet("plain.parquet"), pd.read_csv("plain.csv")
        assert plain["case_id"].tolist() == text["case_id"].tolist() == sealed.rows.drop(index=3)["case_id"].tolist()
        for words, why in (
            (("plain.parquet", "--output", "other.csv"), "it is not encrypted"),
            (("nothing.parquet", "--output", "other.csv"), "it cannot be read"),
            (("outputs/scores.parquet", "--output", "outputs/scores.parquet"), "would replace the file"),
            ((str(sealed.embedded), "--output", "other.csv"), "no column of CSV can hold lists of numbers"),
        ):
            assert pcc.main(["decrypt", *words]) == 1
            assert why in capfd.readouterr().err
        assert not Path("other.csv").exists()
        for name in ("plain.parquet", "plain.csv"):
            Path(name).unlink()
        capfd.readouterr()
        assert pcc.main(["audit", "--what", "decrypt"]) == 0
        assert "outputs/scores.parquet" in capfd.readouterr().out


def test_what_a_killed_process_leaves_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file, also one that is written again because a later batch needs a wider type."""
    monkeypatch.setattr(keys, "_keys", lambda: [keys.SealKey("0e0e0e0e", b"1" * 32)])
    frame = pd.DataFrame({"text": [f"{MARK} {place}" for place in range(5000)], "number": range(5000)})
    vectors = np.zeros((5000, 384), dtype=np.float32)
    child = os.fork()
    if not child:
        with replacing(tmp_path / "a.parquet") as partial, EmbeddedFileWriter(partial, sealed=True) as writer:
            writer.write(frame, vectors)
            monkeypatch.setattr(Path, "unlink", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
            writer.write(frame.assign(number=MARK), vectors)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = [path.read_bytes() for path in tmp_path.iterdir()]
    assert len(left) == 2
    assert min(map(len, left)) > 1_000_000
    assert not any(MARK.encode() in content for content in left)
