"""Which calibration holds: log loss and calibration error of held-out training rows, with and without each method.

    python -m benchmarks.calibration --data DIR [--set banking77 ...] [--rows 10000]

`DIR/<set>/train.parquet` has `text` and the label. No test row is read. Each row is scored by a model of the other
folds, and each method's calibrators are fitted on the other folds' rows too.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from benchmarks.real_data import LABELS
from pcc_pipeline.config import Params
from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.evaluation.answers import risk_coverage
from pcc_pipeline.evaluation.metrics import count_labels, expected_calibration_error, label_scores
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.calibration import METHODS, HeldScores, calibrate, raw_scores
from pcc_pipeline.model.fitting import PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.model.probabilities import class_probabilities

MODELS: dict[str, dict[str, Any]] = {
    "l1, liblinear": {"penalty": "l1", "solver": "liblinear"},
    "l2, liblinear": {"penalty": "l2", "solver": "liblinear"},
    "l2, lbfgs": {"penalty": "l2", "solver": "lbfgs"},
}


@dataclass(frozen=True)
class Fold:
    """Which rows a fold learns from and which it holds out, and the whole vectors of both."""

    train: np.ndarray
    held: np.ndarray
    train_vectors: np.ndarray
    held_vectors: np.ndarray


def prepared_folds(rows: Rows, recipe: Recipe) -> list[Fold]:
    """Five folds with their lexical halves, which hang on no label: made once for all models and labels."""
    folds = []
    for train, held in StratifiedKFold(5, shuffle=True, random_state=0).split(rows.vectors, rows.labels):
        prepared, there = prepare(rows.take(train), recipe), rows.take(held)
        whole = full_vectors(there.vectors, prepared.lexical, there.texts)
        folds.append(Fold(train, held, prepared.vectors, whole))
    return folds


def held_scores(
    folds: list[Fold], labels: np.ndarray, recipe: Recipe, hyperparameters: dict[str, Any], n_classes: int
) -> HeldScores:
    """Scores of each row by a model of the other four folds, trained on these labels, and which rows these are."""
    parts = []
    for fold in folds:
        learned = PreparedRows(None, fold.train_vectors, labels[fold.train])
        classifier = fit(learned, hyperparameters, recipe).classifier
        said = class_probabilities(classifier, range(n_classes), fold.held_vectors)
        parts.append((raw_scores(classifier, range(n_classes), fold.held_vectors), said, labels[fold.held]))
    return HeldScores.joined(parts, [fold.held for fold in folds])


def macro_f1(labels: np.ndarray, predicted: np.ndarray) -> float:
    """By which a calibration's labels are judged."""
    return label_scores(count_labels(labels, predicted, int(max(labels.max(), predicted.max())) + 1), None)["f1_macro"]


def main() -> None:
    """Print one table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", action="append", choices=tuple(LABELS), help="default: all; repeatable")
    parser.add_argument("--rows", type=int, default=10_000, help="at most; a random sample of larger sets")
    options = parser.parse_args()
    for name in options.set or LABELS:
        frame = pd.read_parquet(options.data / name / "train.parquet")
        frame = frame[frame["text"].str.strip() != ""]
        frame = frame.sample(min(options.rows, len(frame)), random_state=0)
        classes, labels = np.unique(frame[LABELS[name]].to_numpy(dtype=str), return_inverse=True)
        texts = frame["text"].tolist()
        rows = Rows(texts, SentenceEncoder().encode(texts), labels)
        print(f"\n{name}, {len(rows.texts):,} training rows, {len(classes)} classes")
        print("| model | calibration | log loss | calibration error | accuracy | of the surest 80 % |")
        print("|---|---|---|---|---|---|")
        recipe = Recipe("LogisticRegression", "none", Params().preprocessing.lexical, 42)
        folds = prepared_folds(rows, recipe)
        for model, hyperparameters in MODELS.items():
            held = held_scores(folds, labels, recipe, hyperparameters, len(classes))
            for method in METHODS:
                made = calibrate(method, held, macro_f1)
                error = expected_calibration_error(held.labels, made.held)
                curve = risk_coverage(held.labels, made.held)
                print(
                    f"| {model} | {method} | {made.losses[method]:.4f} | {error:.4f} | {curve.at(1):.4f} "
                    f"| {curve.at(0.8):.4f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
