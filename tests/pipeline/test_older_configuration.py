"""A configuration file of the older system, as it stands, takes a file to a registered model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.pipeline

OLDER = """\
data:
  path: {path}
  schema:
    - {{name: text, type: string}}
    - {{name: intent, type: string}}
    - {{name: timestamp, type: timestamp}}
    - {{name: confidence, type: float}}
    - {{name: embeddings, type: list}}
  stratify: true
  test_size: 0.2
preprocessing: {{embedding_model: all-MiniLM-L6-v2, balance: true, balance_method: SMOTE}}
model:
  type: LogisticRegression
  hyperparameters: {{C: 10, penalty: l2, solver: lbfgs, random_state: 42}}
  grid_search: true
  cross_val: true
  cv_folds: 2
  scoring: f1_weighted
output: {{predictions: output/test_predictions.parquet, metrics: output/metrics.json}}
logging: {{level: INFO}}
"""


def test_a_file_of_the_older_system_trains_and_says_what_it_changed(command, store, small_file: Path) -> None:
    older = store.folder / "older.yaml"
    older.write_text(OLDER.format(path=small_file), encoding="utf-8")
    done = command("main", "--params-file", str(older))
    assert done.code == 0, done.err
    for note in (
        "data.schema: read as a list of names: the file must have timestamp, confidence, embeddings; types are checked "
        "as the data contract has them",
        "model.grid_search: true is taken as model.search_method: grid",
        "model.hyperparameters.random_state: 42 is taken as data.random_state, the seed of all",
    ):
        assert done.err.count(note) == 1, done.err
    training = store.step("train")
    assert training.data.params["model.search_method"] == "grid"
    assert training.data.params["data.random_state"] == "42"
    assert len(store.children(training)) == 16
    assert len(pd.read_parquet(store.folder / "output/test_predictions.parquet")) > 0
    assert (store.folder / "output/metrics.json").is_file()
