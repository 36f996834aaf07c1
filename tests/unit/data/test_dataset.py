"""A file becomes one data set with a digest of what it says, and too many bad rows stop it aloud."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import Fingerprint, check_rejections, join_rejected, load
from pcc_pipeline.data.formats.readers import read_batches
from pcc_pipeline.errors import DataError

TRAINING = Contract(label_column="intent")


def digest(frame: pd.DataFrame, contract: Contract = TRAINING) -> str:
    return load([frame], contract, "here", 0.0).digest


def test_the_digest_is_the_same_for_every_format_and_batch_size(tmp_path: Path, cases: pd.DataFrame) -> None:
    for frame in (cases, cases.drop(columns="case_id"), cases.assign(embeddings=pd.Series([[0.5] * 384] * 4))):
        frame.to_csv(tmp_path / "a.csv", index=False)
        frame.to_csv(tmp_path / "a.csv.gz", index=False)
        frame.to_parquet(tmp_path / "a.parquet")
        frame.to_pickle(tmp_path / "a.pkl")
        digests = {
            load(read_batches(tmp_path / name, rows), TRAINING, name, 0.0).digest
            for name in ("a.csv", "a.csv.gz", "a.parquet", "a.pkl")
            for rows in (1, 3, 100)
        }
        assert len(digests) == 1
    assert digest(cases) == digest(cases.assign(embeddings=pd.Series([[0.5] * 384] * 4)))


def test_the_digest_changes_with_any_letter_label_id_or_order(cases: pd.DataFrame) -> None:
    altered = [cases, cases.iloc[::-1], cases.iloc[:3]]
    for column in ("text", "intent", "case_id"):
        altered.append(cases.assign(**{column: [*cases[column][:3], "z"]}))
    assert len({digest(frame) for frame in altered}) == len(altered)


def test_the_digest_changes_with_the_groups_that_decide_the_split(cases: pd.DataFrame) -> None:
    grouped = Contract("intent", group_column="customer")
    digests = {digest(cases.assign(customer=list(names)), grouped) for names in ("1234", "1122", "1223")}
    assert len({*digests, digest(cases)}) == 4
    one, other = (cases.assign(customer=list(names)) for names in ("1234", "1122"))
    assert digest(one) == digest(other), "a column that decides nothing is none of the fingerprint's"


def test_the_vectors_that_the_data_brings_have_a_digest(cases: pd.DataFrame) -> None:
    def vectors_digest(frame: pd.DataFrame) -> str | None:
        return load([frame], TRAINING, "here", 0.0).vectors_digest

    ones = cases.assign(embeddings=pd.Series([[1.0] * 384] * 4))
    assert vectors_digest(cases) is None
    assert vectors_digest(ones) == vectors_digest(ones.copy())
    assert vectors_digest(ones) != vectors_digest(cases.assign(embeddings=pd.Series([[1.0] * 383 + [2.0]] * 4)))


def test_the_fingerprint_keeps_neighbouring_fields_apart() -> None:
    digests = set()
    for text, label in (("ab", "c"), ("a", "bc"), ("abc", "")):
        fingerprint = Fingerprint("intent")
        fingerprint.update(pd.DataFrame({"case_id": ["1"], "text": [text], "intent": [label]}))
        digests.add(fingerprint.hexdigest())
    assert len(digests) == 3


def test_a_data_set_holds_good_rows_and_counts_all(cases: pd.DataFrame) -> None:
    cases["embeddings"] = pd.Series([np.full(584, i) for i in range(4)])
    cases.loc[1, "intent"] = None
    data = load([cases.iloc[:2], cases.iloc[2:]], Contract("intent", group_column="case_id"), "here", 0.25)
    assert data.total_rows == 4
    assert data.texts == ["Delete my account", "What do you know about me?", "Where is my parcel"]
    assert data.labels.tolist() == ["data_deletion", "privacy_request", "other"]
    assert all(type(label) is str for label in data.labels)
    assert data.case_ids.tolist() == ["a", "c", "d"]
    assert data.groups is not None
    assert data.groups.tolist() == ["a", "c", "d"]
    assert data.vectors is not None
    assert data.vectors.shape == (3, 584)
    assert data.vectors.dtype == np.float32
    assert data.frame.index.tolist() == [0, 1, 2]
    assert data.rejected[["row", "case_id"]].to_numpy().tolist() == [[1, "b"]]


def test_too_many_rejected_rows_stop_with_a_count_of_each_reason(cases: pd.DataFrame) -> None:
    frame = pd.concat([cases] * 5, ignore_index=True).drop(columns="case_id")
    frame.loc[[3, 4, 5], "text"] = " "
    frame.loc[7, "intent"] = None
    with pytest.raises(DataError) as caught:
        load([frame], TRAINING, "cases.csv", 0.1)
    shown = str(caught.value)
    assert "4 of 20 rows break the data contract (20.0%); the limit is 10.0%" in shown
    assert "3 x text: blank (first in row 3)" in shown
    assert "1 x intent: missing (first in row 7)" in shown
    assert "cases.csv" in shown
    assert load([frame], TRAINING, "cases.csv", 0.2).total_rows == 20


def test_no_good_row_stops_whatever_the_limit(cases: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"4 of 4 rows .* no good row stays"):
        load([cases.assign(text="")], TRAINING, "here", 1.0)


def test_a_file_without_rows_stops() -> None:
    with pytest.raises(DataError, match="has no rows"):
        load([], TRAINING, "here", 1.0)


def test_unlabelled_data_has_no_labels_to_give(cases: pd.DataFrame) -> None:
    data = load([cases.drop(columns="intent")], Contract(None), "here", 0.0)
    assert data.groups is None
    with pytest.raises(DataError, match="read without labels"):
        _ = data.labels


def test_nothing_rejected_is_an_empty_frame_of_the_same_types(cases: pd.DataFrame) -> None:
    empty = join_rejected([])
    filled = load([cases, cases], TRAINING, "here", 0.5).rejected
    assert empty.dtypes.to_dict() == filled.dtypes.to_dict()
    check_rejections(empty, 4, "here", 0.0)
