"""The sample keeps the contract, is the same on every run, and is neither trivial nor noise."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import load
from pcc_pipeline.data.quality.counts import duplicates
from pcc_pipeline.data.sample.messages import SHARES, sample
from pcc_pipeline.data.sample.slots import SLOTS
from pcc_pipeline.data.splits import RowKeys, group_ids, split
from pcc_pipeline.errors import DataError


def test_the_sample_keeps_the_contract_with_every_column_but_embeddings() -> None:
    optional = ("confidence", "timestamp", "text_length", "word_count", "has_personal_info", "formality_score")
    data = load([sample()], Contract("intent", required=(*optional, "urgency_score")), "sample", 0.0)
    assert data.total_rows == 900
    assert data.vectors is None


def test_intents_are_imbalanced_as_promised_and_texts_differ() -> None:
    frame = sample()
    shares = frame["intent"].value_counts(normalize=True)
    for intent, share in SHARES.items():
        assert shares[intent] == pytest.approx(share, abs=0.02)
    assert duplicates(RowKeys.of(frame["text"].tolist()).texts, frame["intent"].tolist()).unique_texts > 800
    assert not frame["text"].str.contains(r"[{}]|  |^\s", regex=True).any()


def test_personal_details_are_invented() -> None:
    """RFC 2606 keeps example.com free of people; a typo may swap its letters, so the bank itself is looked at."""
    assert all(filler.endswith("@example.com") for filler in SLOTS["email"])
    assert sample()["text"].str.contains("@example.com", regex=False).sum() > 20


def test_the_same_seed_gives_the_same_frame_in_every_process() -> None:
    code = "from pcc_pipeline.data.sample.messages import sample; print(sample(200, 3).to_csv())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {(sample(200, 3).to_csv() + "\n").encode()}
    assert not sample(200, 3).equals(sample(200, 4))


def test_a_plain_classifier_learns_much_of_it_and_not_all() -> None:
    """Word counts alone stay under the 0.89 to 0.95 macro F1 that 384 + 200 features were measured at."""
    frame: pd.DataFrame = sample()
    labels = frame["intent"].to_numpy(dtype=object)
    sides = split(labels, group_ids(frame["text"].tolist()), 0.25, 0.0, True, seed=0)
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=10, max_iter=2000))
    model.fit(frame["text"].iloc[sides.train], labels[sides.train])
    score = f1_score(labels[sides.test], model.predict(frame["text"].iloc[sides.test]), average="macro")
    assert 0.75 < score < 0.98


def test_a_tiny_sample_is_refused() -> None:
    with pytest.raises(DataError, match="39 rows is too small"):
        sample(39)
