"""A training whose vectors lie in a file comes to the same model as one that holds them in memory."""

from __future__ import annotations

import pytest

from pcc_pipeline.data import vector_file

pytestmark = pytest.mark.pipeline


@pytest.mark.parametrize(
    "options",
    [
        "model.search_method=none",
        pytest.param("model.search_method=none evaluation.backtest=2", marks=pytest.mark.long),
        pytest.param("model.n_iter=2 model.cv_folds=2", marks=pytest.mark.long),
    ],
)
def test_scores_are_those_of_vectors_in_memory(new_store, in_process, small_file, monkeypatch, options) -> None:
    def scores(name: str) -> dict[str, float]:
        store = new_store(name)
        assert in_process(store.folder, "main", ["--data", str(small_file), "--set", options]) == 0
        return {
            f"{step}/{metric}": value
            for step in ("train", "evaluate")
            for metric, value in store.step(step).data.metrics.items()
            if metric.split("/")[0] in ("train", "val", "test", "cv", "backtest")
        }

    in_memory = scores(f"memory-{len(options)}")
    monkeypatch.setattr(vector_file, "LARGE_BYTES", 1)
    assert scores(f"file-{len(options)}") == pytest.approx(in_memory, rel=1e-3, abs=1e-3, nan_ok=True)
