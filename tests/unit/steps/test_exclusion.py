"""The list of rows to leave out: which lists are refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from pcc_pipeline.config import Params
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.errors import DataError
from pcc_pipeline.steps.inputs.exclusion import read_exclusion
from pcc_pipeline.steps.inputs.split import assign


def test_a_list_without_case_ids_is_refused_and_ids_are_read_as_those_of_the_data(tmp_path: Path) -> None:
    pd.DataFrame({"case": ["a"], "label": ["b"]}).to_csv(tmp_path / "list.csv", index=False)
    with pytest.raises(DataError, match="has no column case_id; it has case, label"):
        read_exclusion(str(tmp_path / "list.csv"))
    pd.DataFrame({"case_id": [1.0, 2.0, None]}).to_parquet(tmp_path / "list.parquet")
    assert read_exclusion(str(tmp_path / "list.parquet")).ids == {"1", "2"}
    pd.DataFrame({"case_id": ["a"]})[:0].to_parquet(tmp_path / "none.parquet")
    assert read_exclusion(str(tmp_path / "none.parquet")).ids == set()  # a training that found no wrong label


def test_the_other_rows_stay_where_they_are_and_a_list_of_all_is_refused() -> None:
    dataset = load([sample(120)], Contract("intent"), "sample", 0)
    whole = assign(dataset, Params(), None)
    listed = frozenset(dataset.case_ids[[*whole.train[:5], whole.validation[0], whole.test[0]]])
    part = assign(dataset, Params(), None, listed)
    assert (part.excluded, part.overlapping) == (6, 0)
    assert list(part.train) == list(whole.train[5:])
    assert list(part.validation) == list(whole.validation[1:])
    assert list(part.test) == list(whole.test)
    with pytest.raises(DataError, match="0 training rows of 0 classes"):
        assign(dataset, Params(), None, frozenset(dataset.case_ids))
