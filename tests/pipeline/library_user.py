"""A user's program around the package: test_library.py runs it, and mypy reads it as it would a user's.

Usage: library_user.py ROWS.parquet, which has the columns text, intent and embeddings.
"""

from __future__ import annotations

import json
import sys
from typing import assert_type

import numpy as np
import pandas as pd

import pcc_pipeline as pcc


def main(path: str) -> dict[str, object]:
    params = pcc.load_params(data=path, search_method="none", output__scores="scores.parquet", logging__level="ERROR")
    assert_type(params, pcc.Params)
    trained = pcc.train(params)
    scored = pcc.score(params, model=trained.model_uri)

    model = pcc.load_model(trained.model_uri)
    rows = pd.read_parquet(path).head(5)
    vectors = np.array(rows["embeddings"].tolist(), dtype=np.float32)
    labels = model.predict(rows["text"].tolist(), vectors)
    shares = model.probabilities(rows["text"].tolist(), vectors)
    assert_type(labels, pd.DataFrame)
    try:
        model.predict(["fine", " "])
        refused = ""
    except pcc.PccError as error:
        refused = str(error)
    return {
        "registered": trained.registered_version,
        "version": [trained.pcc_version, model.version],
        "summaries": [len(trained.summary), len(scored.summary)],
        "scored": [scored.rows, len(pd.read_parquet(scored.output))],
        "classes": list(model.classes),
        "predicted": labels["predicted_label"].tolist(),
        "confidence": labels["confidence"].tolist(),
        "probabilities": shares.to_dict(orient="list"),
        "scores": pd.read_parquet(scored.output)["predicted_label"].head(5).tolist(),
        "none": len(model.predict([])),
        "refused": refused,
    }


def whole_way(params: pcc.Params) -> str:
    """Not run here: what the other names return is held by mypy."""
    outcome = pcc.run_pipeline(params, promotion=True)
    assert_type(outcome.trained.pcc_version, str)
    assert_type(pcc.embed(params).digest, str)
    assert_type(pcc.evaluate(params, outcome.trained.model_uri).test.scores["f1_macro"], float)
    watched = pcc.monitor(params, labels="labels.csv")
    assert_type(watched.alarms, tuple[str, ...])
    assert_type(watched.watched[-1].health.estimate.value, float)
    return pcc.promote(params, reason="better on opt-outs").run_id


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
