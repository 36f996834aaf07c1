"""A row that breaks a rule is set aside with column and reason; the others come out typed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pcc_pipeline.data.contract import Contract, ContractChecker, check
from pcc_pipeline.errors import DataError

TRAINING = Contract(label_column="intent")


def rejected(frame: pd.DataFrame, contract: Contract = TRAINING) -> list[tuple[int, str, str]]:
    found = check(frame, contract).rejected
    assert found.columns.tolist() == ["row", "case_id", "column", "reason"]
    return list(found[["row", "column", "reason"]].itertuples(index=False, name=None))


def test_good_rows_come_out_typed_with_all_their_columns(cases: pd.DataFrame) -> None:
    before = cases.copy()
    checked = check(cases.assign(branch=["n", "s", "e", "w"]), TRAINING)
    assert checked.rejected.empty
    assert checked.vectors is None
    good = checked.good
    assert good["branch"].tolist() == ["n", "s", "e", "w"]
    assert {name: str(kind) for name, kind in good.dtypes.items()} == {
        "case_id": "str",
        "text": "str",
        "intent": "str",
        "confidence": "float64",
        "timestamp": "datetime64[us, UTC]",
        "has_personal_info": "boolean",
        "branch": "str",
        "text_length": "Int64",
        "word_count": "Int64",
    }
    assert good["has_personal_info"].tolist()[:3] == [True, False, True]
    assert good["timestamp"].tolist()[2] == pd.Timestamp("2025-01-06T06:00:00Z")
    assert good["text_length"].tolist() == [17, 15, 26, 18]
    assert good["word_count"].tolist() == [3, 3, 6, 4]
    pd.testing.assert_frame_equal(cases, before)


LONE = "half \ud800 a character"
FAULTS: list[tuple[str, Any, str]] = [
    ("text", None, "missing"),
    ("text", " \n\t ", "blank"),
    ("text", 17, "not a string"),
    ("text", ["a"], "not a string"),
    ("text", LONE, "not valid Unicode (a lone surrogate)"),
    ("text", "a" * 10_001, "longer than 10,000 characters"),
    ("intent", None, "missing"),
    ("intent", "  ", "blank"),
    ("intent", ["a"], "not a string"),
    ("case_id", None, "missing"),
    ("case_id", "", "blank"),
    ("case_id", "a", "repeated"),
    ("confidence", 1.01, "not between 0 and 1"),
    ("confidence", -0.1, "not between 0 and 1"),
    ("confidence", float("inf"), "not between 0 and 1"),
    ("confidence", 10**400, "not between 0 and 1"),
    ("confidence", "high", "not a number"),
    ("confidence", [0.5], "not a number"),
    ("timestamp", "yesterday", "not an ISO 8601 time"),
    ("timestamp", "06/01/2025", "not an ISO 8601 time"),
    ("timestamp", 1736150400, "not an ISO 8601 time"),
    ("timestamp", "2025-02-30", "not an ISO 8601 time"),
    ("text_length", -1, "not a whole number of at least 0"),
    ("text_length", 2.5, "not a whole number of at least 0"),
    ("text_length", "many", "not a number"),
    ("word_count", -3, "not a whole number of at least 0"),
    ("word_count", float("inf"), "not a whole number of at least 0"),
    ("has_personal_info", "maybe", "not a boolean (true/false, yes/no, 1/0)"),
    ("has_personal_info", 2, "not a boolean (true/false, yes/no, 1/0)"),
    ("formality_score", 7, "not between 0 and 1"),
    ("urgency_score", "-1", "not between 0 and 1"),
    ("embeddings", None, "missing"),
    ("embeddings", [0.5], "wrong width: 1 numbers instead of 384"),
]


@pytest.mark.parametrize(("column", "cell", "reason"), FAULTS)
def test_each_rule_rejects_its_row_alone(cases: pd.DataFrame, column: str, cell: Any, reason: str) -> None:
    if column not in cases:
        cases[column] = pd.Series([[0.5] * 384] * 4) if column == "embeddings" else 1
    cases[column] = cases[column].astype(object)
    cases.at[2, column] = cell
    assert rejected(cases) == [(2, column, reason)]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_time_of_no_year_that_there_is_rejects_its_row_alone(cases: pd.DataFrame, zone: str | None) -> None:
    kind = pa.timestamp("s", tz=zone)
    times = pa.array([0, 60, 2**40, None], kind)
    cases["timestamp"] = pd.Series(pd.array(times, dtype=pd.ArrowDtype(kind)))
    assert rejected(cases) == [(2, "timestamp", "not an ISO 8601 time")]


def test_the_first_fault_in_the_contracts_order_is_reported(cases: pd.DataFrame) -> None:
    cases["urgency_score"] = 5
    cases.loc[1, ["intent", "confidence"]] = [None, 3.0]
    cases.loc[2, "text"] = ""
    assert [column for _, column, _ in rejected(cases)] == ["urgency_score", "intent", "text", "urgency_score"]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([0, 1, 1, 0], ["0", "1", "1", "0"]),
        (np.array([0.0, 1.0, 1.0, 0.0]), ["0", "1", "1", "0"]),
        (pd.Categorical(["x", "y", "x", "y"]), ["x", "y", "x", "y"]),
        ([" x ", "y", "X", "é"], [" x ", "y", "X", "é"]),
        ([True, False, True, False], ["1", "0", "1", "0"]),
    ],
)
def test_labels_are_kept_to_the_letter_as_strings(cases: pd.DataFrame, cells: Any, expected: list[str]) -> None:
    good = check(cases.assign(intent=cells), TRAINING).good
    assert good["intent"].tolist() == expected
    assert str(good["intent"].dtype) == "str"


@pytest.mark.parametrize("cell", ["TRUE", "yes", " Yes ", "1", 1, 1.0, True, np.bool_(True)])
def test_booleans_are_read_in_any_form(cases: pd.DataFrame, cell: Any) -> None:
    cases["has_personal_info"] = pd.Series([cell] * 4, dtype=object)
    assert check(cases, TRAINING).good["has_personal_info"].tolist() == [True] * 4


def test_no_rejected_row_quotes_a_text(cases: pd.DataFrame) -> None:
    cases["confidence"] = "Delete my account"
    assert "Delete" not in check(cases, TRAINING).rejected.to_csv()


def test_missing_columns_are_listed_together_with_a_hint(cases: pd.DataFrame) -> None:
    frame = cases.rename(columns={"text": "Texts", "intent": "label"})
    with pytest.raises(DataError) as caught:
        check(frame, Contract("intent", required=("urgency_score",), group_column="customer"))
    shown = str(caught.value)
    assert "lacks required columns: text, intent, urgency_score, customer." in shown
    assert "Columns found: case_id, Texts, label, confidence, timestamp, has_personal_info" in shown
    assert "Texts may be text" in shown
    assert "use --label … if labels stand in another column" in shown


def test_a_file_without_header_is_not_quoted() -> None:
    with pytest.raises(DataError, match="lacks required columns: text") as caught:
        check(pd.DataFrame({"please delete my file": ["x"], "jo@example.com": ["y"]}), TRAINING)
    assert "delete" not in str(caught.value)
    assert "jo@" not in str(caught.value)


def test_scoring_needs_no_labels(cases: pd.DataFrame) -> None:
    assert rejected(cases.drop(columns="intent"), Contract(None)) == []


def test_a_required_column_must_be_filled_in_every_row(cases: pd.DataFrame) -> None:
    cases["text_length"] = [17, None, 25, 18]
    contract = Contract("intent", required=("timestamp", "text_length"))
    assert rejected(cases, contract) == [(1, "text_length", "missing"), (3, "timestamp", "missing")]


def test_a_blank_group_rejects_its_row(cases: pd.DataFrame) -> None:
    assert rejected(cases.assign(customer=pd.Series([1, None, 2, 3])), Contract("intent", group_column="customer")) == [
        (1, "customer", "missing")
    ]


@pytest.mark.parametrize("name", ["text", "case_id", "embeddings", "confidence"])
def test_labels_cannot_stand_in_a_column_that_means_something_else(name: str) -> None:
    with pytest.raises(DataError, match="cannot hold the labels"):
        Contract(label_column=name)


def test_a_repeated_id_is_found_over_batches_and_a_rejected_row_leaves_its_id_free(cases: pd.DataFrame) -> None:
    cases.loc[0, "text"] = ""
    checker = ContractChecker(TRAINING)
    first, second = checker.check(cases), checker.check(cases.assign(text="again"))
    assert first.rejected["reason"].tolist() == ["blank"]
    assert second.good["case_id"].tolist() == ["a"]
    assert second.good.index.tolist() == [4]
    assert second.rejected["reason"].tolist() == ["repeated"] * 3
    assert second.rejected["row"].tolist() == [5, 6, 7]


def test_made_ids_are_unique_and_do_not_depend_on_batches() -> None:
    frame = pd.DataFrame({"text": ["a", "b", "a", "a", "ab"], "intent": ["x", "x", "x", "y", "x"]})
    whole = check(frame, TRAINING).good["case_id"].tolist()
    checker = ContractChecker(TRAINING)
    parts = [case_id for i in range(5) for case_id in checker.check(frame.iloc[[i]]).good["case_id"]]
    assert whole == parts
    assert len(set(whole)) == 5
    assert whole[2] == f"{whole[0]}-1"
    # Written down once: a change here gives every stored case another id.
    assert whole[0] == "case-66bf6a6978c57f983481"


def test_vectors_leave_the_frame_and_stay_with_their_rows(cases: pd.DataFrame) -> None:
    cases["embeddings"] = pd.Series([np.full(384, i, dtype="f4") for i in range(4)])
    cases.loc[1, "text"] = None
    checked = check(cases, TRAINING)
    assert "embeddings" not in checked.good
    assert checked.vectors is not None
    assert checked.vectors[:, 0].tolist() == [0.0, 2.0, 3.0]


def test_the_width_is_settled_over_batches(cases: pd.DataFrame) -> None:
    checker = ContractChecker(TRAINING)
    checker.check(cases.assign(embeddings=pd.Series([[0.5] * 384] * 4)))
    later = cases.assign(case_id=list("efgh"), embeddings=pd.Series([[0.5] * 584] * 4))
    assert set(checker.check(later).rejected["reason"]) == {"wrong width: 584 numbers instead of 384"}
