"""The record of a split gives its positions back, knows what was learned, and no altered one is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.data.split_record import LEFT_OUT, TEST, TRAIN, VALIDATION, SplitRecord
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.errors import DataError

TEXTS = ["Delete it", "Stop the mails", "Where is my parcel", "Who has my data", "Thanks", "Call me"]
LABELS = np.array(["delete", "", "other", "access", "other", "other"], dtype=object)
PARTS = {TRAIN: np.array([4, 0]), VALIDATION: np.array([1]), TEST: np.array([2, 5])}


def record(refit: bool = True, groups: list[str] | None = None, of_validation: str = "delete") -> SplitRecord:
    labels = LABELS.copy()
    labels[1] = of_validation
    return SplitRecord.of(RowKeys.of(TEXTS, groups), PARTS, labels, refit=refit)


@pytest.mark.parametrize("groups", [None, ["1", "1", "2", "3", "4", "5"]])
def test_what_is_written_is_what_is_read(tmp_path: Path, groups: list[str] | None) -> None:
    written = record(groups=groups)
    written.frame().to_parquet(tmp_path / "split.parquet", index=False)
    back = SplitRecord.read(tmp_path / "split.parquet", written.digest, "here")
    for name, positions in ((TRAIN, [0, 4]), (VALIDATION, [1]), (TEST, [2, 5]), (LEFT_OUT, [3])):
        assert back.positions(name).tolist() == positions
    assert back.learned.tolist() == [True, True, False, False, True, False]
    assert back.keys.texts.tolist() == written.keys.texts.tolist()
    assert (back.keys.groups is None) == (groups is None)


def test_texts_are_new_that_stand_there_not_at_all_or_with_another_label(tmp_path: Path) -> None:
    texts = RowKeys.of(["DELETE IT!", "Where is my parcel", "where is my parcel", "A new one"]).texts
    labels = np.array(["delete", "delete", "other", "other"], dtype=object)
    record().frame().to_parquet(tmp_path / "split.parquet", index=False)
    assert SplitRecord.read(tmp_path / "split.parquet", record().digest, "here").unknown_texts(texts, labels) == 2
    # As a release wrote it that kept no labels.
    earlier = replace(record(), labels=None)
    earlier.frame().to_parquet(tmp_path / "earlier.parquet", index=False)
    assert SplitRecord.read(tmp_path / "earlier.parquet", earlier.digest, "here").unknown_texts(texts, labels) == 1


def test_a_model_learned_its_validation_rows_only_if_it_was_fitted_again() -> None:
    given = RowKeys.of(["DELETE IT!", "stop the mails", "where is my parcel"])
    assert given.known_to(record().learned_keys).tolist() == [True, True, False]
    assert given.known_to(record(refit=False).learned_keys).tolist() == [True, False, False]


def test_a_validation_row_of_a_label_that_no_training_row_has_was_not_learned() -> None:
    """Refitted or not: the model has no such class, so a later test may count the row as the error that it is."""
    late = record(of_validation="stop")
    assert late.positions(VALIDATION).tolist() == [1]
    assert late.learned.tolist() == [True, False, False, False, True, False]


@pytest.mark.timeout(20)
def test_the_record_of_many_rows_takes_a_moment() -> None:
    """Each label compared with each other one takes more than a minute here."""
    rows = np.arange(100_000)
    keys = RowKeys(rows.astype(np.uint64), None)
    made = SplitRecord.of(keys, {TRAIN: rows[:70_000], TEST: rows[70_000:]}, LABELS[rows % 6], refit=False)
    assert made.learned.sum() == 70_000


def test_the_file_holds_hashes_and_no_text(tmp_path: Path) -> None:
    path = tmp_path / "split.parquet"
    record(groups=["ann@example.com"] * 6).frame().to_parquet(path, index=False)
    assert pq.read_schema(path).names == ["position", "split", "learned", "text_hash", "group_hash", "label_hash"]
    content = path.read_bytes()
    for word in (b"Delete", b"delete", b"parcel", b"example"):
        assert word not in content


def test_an_altered_record_is_refused(tmp_path: Path) -> None:
    path, written = tmp_path / "split.parquet", record()
    moved = written.frame().assign(split=pd.Categorical(["test"] * 6, categories=[TRAIN, VALIDATION, TEST, LEFT_OUT]))
    relabelled = written.frame().assign(label_hash=np.uint64(1))
    for altered in (moved, relabelled, written.frame().iloc[::-1], written.frame().assign(learned=False)):
        altered.to_parquet(path, index=False)
        with pytest.raises(DataError, match="damaged or was altered") as caught:
            SplitRecord.read(path, written.digest, "split.parquet of run 1")
        assert "split.parquet of run 1" in str(caught.value)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match="damaged or was altered"):
        SplitRecord.read(path, written.digest, "here")
