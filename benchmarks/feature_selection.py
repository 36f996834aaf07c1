"""What choosing features costs and is worth: cross-validation on training rows, by method and how many are kept.

    python -m benchmarks.feature_selection [--set banking77 ...] [--rows 2000] [--cache FOLDER]

Features are ranked on each fold's own training rows; the classifier is the default logistic regression. No test row is
read. Seconds are those of one fold's ranking, the median of the folds.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import numpy as np
from sklearn.metrics import f1_score, log_loss
from sklearn.model_selection import StratifiedKFold

from benchmarks.real_data import asked_for, which_sets
from pcc_pipeline.config import Params
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.model.fitting import PreparedRows, Recipe, Rows, fit, prepare
from pcc_pipeline.model.selection import METHODS, kept_features

KEPT = (50, 100, 200, 300)


def main() -> None:
    """Print one table."""
    parser = which_sets(__doc__, 2_000)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    print("| set | method | kept | accuracy | macro F1 | log loss | ranking s | fit s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, read in asked_for(options):
        classes, labels = np.unique(read.labels.astype(str), return_inverse=True)
        _table(name, Rows(read.texts, read.vectors, labels), len(classes), options.folds)


def _table(name: str, rows: Rows, n_classes: int, n_folds: int) -> None:
    recipe = Recipe("LogisticRegression", "none", Params().preprocessing.lexical, 42)
    folds = []
    for train, held in StratifiedKFold(n_folds, shuffle=True, random_state=0).split(rows.vectors, rows.labels):
        prepared, there = prepare(rows.take(train), recipe), rows.take(held)
        whole = full_vectors(there.vectors, prepared.lexical, there.texts)
        folds.append((PreparedRows(None, prepared.vectors, prepared.labels), whole, there.labels))
    for method in ("none", *METHODS):
        ranked, seconds = [], []
        for prepared, whole, labels in folds:
            started = time.perf_counter()
            texts = [""] * len(prepared.labels)
            this = replace(recipe, rankings=() if method == "none" else (method,))
            ranked.append((prepare(Rows(texts, prepared.vectors, prepared.labels), this), whole, labels))
            seconds.append(time.perf_counter() - started)
        for n_features in KEPT if method != "none" else (584,):
            choice = {"feature_selection": method, "n_features": n_features}
            answers, truth, kept, fits = [], [], [], []
            for prepared, whole, labels in ranked:
                started = time.perf_counter()
                classifier = fit(prepared, choice, recipe).classifier
                fits.append(time.perf_counter() - started)
                answers.append(classifier.predict_proba(whole))
                truth.append(labels)
                places = kept_features(classifier)
                kept.append(whole.shape[1] if places is None else len(places))
            shares, true = np.vstack(answers), np.concatenate(truth)
            predicted = shares.argmax(axis=1)
            print(
                f"| {name}, {len(true):,} | {method} | {statistics.median(kept):g} | {(predicted == true).mean():.4f} "
                f"| {f1_score(true, predicted, average='macro'):.4f} "
                f"| {log_loss(true, shares, labels=range(n_classes)):.4f} | {statistics.median(seconds):.2f} "
                f"| {statistics.median(fits):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
