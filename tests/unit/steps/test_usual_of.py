"""What is usual is taken from the whole training file, or from all files of a data set."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.evaluation.over_time.volumes import volumes
from pcc_pipeline.steps.inputs.datasets import load_dataset
from pcc_pipeline.steps.records.reference_profile import usual_of


@pytest.fixture
def frame() -> pd.DataFrame:
    """600 rows over 30 days, of which a hundred in a row have no urgency and every 25th repeats the one before."""
    texts = np.array([f"message number {place}" for place in range(600)], dtype=object)
    texts[24::25] = texts[23::25]
    urgency = np.full(600, 0.5)
    urgency[300:400] = np.nan
    times = pd.date_range("2026-09-07", periods=600, freq="72min", tz="UTC")
    return pd.DataFrame({"text": texts, "intent": "other", "urgency_score": urgency, "timestamp": times})


def test_shares_lengths_days_and_the_lag_are_those_of_the_file(frame: pd.DataFrame, tmp_path: Path) -> None:
    """In the order of the times, however the rows stand in it; rejected rows by their places in two files."""
    frame.loc[:199, "text"] = np.where(np.arange(200) % 10 == 5, " ", frame.loc[:199, "text"])
    frame[:200].to_parquet(tmp_path / "a.parquet", index=False)
    frame[200:].sample(frac=1, random_state=0).to_parquet(tmp_path / "b.parquet", index=False)
    address = json.dumps([str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")])
    dataset = load_dataset(address, load_params(None, {"data.path": address, "data.max_rejected_fraction": 0.5}))
    now = datetime(2026, 10, 8, 12, tzinfo=UTC)
    usual = usual_of(dataset, volumes(dataset.frame["timestamp"], dataset.labels), now)
    assert set(usual.shares) == {"rejected_rows", "repeated_rows", "missing/timestamp", "missing/urgency_score"}
    rejected = usual.shares["rejected_rows"]
    assert rejected.share == pytest.approx(20 / 600)
    by_block = np.arcsin(np.sqrt([0.1, 0.1, 0, 0, 0, 0]))
    assert (rejected.blocks, rejected.spread) == (6, pytest.approx(by_block.std(ddof=1)))
    assert usual.shares["missing/urgency_score"].share == pytest.approx(100 / 580)
    assert usual.shares["missing/timestamp"].share == 0
    assert usual.shares["repeated_rows"].share == pytest.approx(24 / 580, abs=0.015)
    assert usual.days is not None
    assert (usual.days.days, usual.days.longest_gap) == (28, 1)
    assert np.mean(usual.days.rows) == pytest.approx(20, abs=1)
    newest = dataset.frame["timestamp"].max()
    assert usual.lag_days == pytest.approx((now - newest).total_seconds() / 86400)
    assert usual.lengths[0] <= usual.lengths[1] == len("message number 300") <= usual.lengths[2]


def test_a_file_without_times_says_nothing_of_days(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    frame.drop(columns=["timestamp", "urgency_score"]).to_parquet(path, index=False)
    dataset = load_dataset(str(path), load_params(None, {"data.path": str(path)}))
    usual = usual_of(dataset, None, datetime.now(UTC))
    assert (usual.days, usual.lag_days, set(usual.shares)) == (None, None, {"rejected_rows", "repeated_rows"})
    assert usual.shares["repeated_rows"].share == pytest.approx(24 / 600)
