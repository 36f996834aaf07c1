"""Labels of chance: what the run says where a score is high for another reason than what the model learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.pipeline

FIXED = "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs"
GRID = "'model.search_space={C: [0.01, 0.1, 1, 10, 100], penalty: [l2], solver: [lbfgs]}'"
WORDS = ("café", "order", "letter", "account", "number", "street", "invoice", "parcel", "refund", "thursday", "blue")


def _messages(count: int) -> tuple[list[str], list[str], np.ndarray]:
    """Texts of words in a random order, labels by chance, and vectors (count, 384) that say nothing of the labels."""
    random = np.random.default_rng(5)
    texts = [f"{' '.join(random.choice(WORDS, 5))} case{number}" for number in range(count)]
    return texts, list(random.choice(["data_deletion", "opt_out"], count)), random.normal(size=(count, 384))


def _written(path: Path, texts: list[str], labels: list[str], vectors: np.ndarray) -> str:
    frame = pd.DataFrame({"text": texts, "intent": labels, "embeddings": list(vectors.astype(np.float32))})
    frame.to_parquet(path, index=False)
    return str(path)


def test_near_duplicates_of_random_labels_score_high_and_the_run_says_what_that_is_worth(
    command, store, tmp_path: Path
) -> None:
    texts, labels, vectors = _messages(80)
    # As an encoder would have it: a text with an accent less, or an added "please", has nearly the same vector.
    variants = [text.replace("café", "cafe") for text in texts], [f"please {text}" for text in texts]
    noise = np.random.default_rng(6).normal(scale=0.05, size=(3, *vectors.shape))
    path = _written(
        tmp_path / "copies.parquet",
        [*texts, *variants[0], *variants[1]],
        labels * 3,
        np.vstack([vectors + each for each in noise]),
    )
    done = command("train", "--data", path, "--search-method", "none", "--set", FIXED)
    assert done.code == 0, done.err
    metrics = store.step("train").data.metrics
    assert metrics["val/accuracy"] > 0.85, "the labels are of chance: this was remembered"
    assert metrics["data/near_duplicate_rows"] > 50
    assert (
        "held-out rows repeat a training row but for accents, the order of words or one word more or less" in done.out
    )


def test_a_search_on_random_labels_shows_the_corrected_score_beside_the_winners(command, store, tmp_path: Path) -> None:
    path = _written(tmp_path / "chance.parquet", *_messages(160))
    done = command("train", "--data", path, "--search-method", "grid", "--set", f"model.cv_folds=2 {GRID}")
    assert done.code == 0, done.err
    metrics = store.step("train").data.metrics
    winner, corrected = metrics["cv/f1_macro_mean"], metrics["cv/f1_macro_corrected"]
    assert corrected <= winner
    assert (
        f"cross-validation f1_macro {corrected:.4f} once corrected for choosing the best of 5 candidates, which scored "
        f"{winner:.4f}" in done.out
    )
    assert "held-out rows repeat a training row" not in done.out
    assert store.client.get_model_version("pcc-intent-classifier", "1").tags["metric.cv/f1_macro_corrected"] == (
        f"{corrected:.6f}"
    )
