"""The same row has the same answer wherever it is asked for, also where no class claims it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.evaluation.predictions import ScoredBy, prediction_frame
from pcc_pipeline.model.calibration import HeldScores, calibrate, raw_scores
from pcc_pipeline.model.decision import DecisionRule, certainty
from pcc_pipeline.model.fitting import FittedModel, PreparedRows, Recipe, Rows, fit
from pcc_pipeline.model.folds import FoldObjective, prepare_fold
from pcc_pipeline.model.probabilities import class_probabilities
from pcc_pipeline.publishing.joblib_files import write_plain
from pcc_pipeline.tracking.logged_models.bundle import open_bundle, write_bundle
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel, log_trained_model

# No classifier below is given a row of `never_seen`.
CLASSES = ("data_deletion", "never_seen", "opt_out", "privacy_request")
SEEN = (0, 2, 3)
FAMILIES: dict[str, dict[str, Any]] = {
    "LogisticRegression": {"penalty": "l2", "solver": "liblinear"},
    "LinearSVC": {"calibration_folds": 2},
    "SGD": {"alpha": 1e-4},
    "Voting": {"members": ["LinearSVC", "SGD"]},
}
# A ranking whose features tell the classes apart; the others are never kept.
ORDER = np.r_[3, 0:584:2]
# What the downstream system does, on a machine that has no pcc_pipeline.
DOWNSTREAM = """
import json, sys
for hidden in ("pcc_pipeline", "mlflow", "skops"):
    sys.modules[hidden] = None
import joblib, numpy as np
model, rows = joblib.load(sys.argv[1]), np.load(sys.argv[2])
answers = [(model.predict(row[None, :])[0], model.predict_proba(row[None, :])[0].tolist()) for row in rows]
print(json.dumps({"classes": list(model.classes_), "answers": answers}))
"""


def rows_of_three_classes() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    places = np.array(SEEN)[np.arange(90) % 3]
    vectors = random.normal(size=(90, 584)).astype(np.float32)
    vectors[np.arange(90), places] += 4
    return vectors, places


def fitted(family: str, vectors: np.ndarray, labels: np.ndarray, features: int = 0) -> tuple[FittedModel, Recipe]:
    """Of all features, or the first so many of `ORDER`."""
    recipe = Recipe(family, "none", {}, seed=0)
    choice = {"feature_selection": "l1", "n_features": features} if features else {}
    return fit(PreparedRows(None, vectors, labels, {"l1": ORDER}), {**FAMILIES[family], **choice}, recipe), recipe


def unclaimed_row(classifier: Any, vectors: np.ndarray) -> np.ndarray:
    """A row that every class of a linear classifier rejects so surely that its probability is 0."""
    weights = np.vstack([estimator.coef_ for estimator in linear_parts(classifier)]).astype(np.float64)
    return (vectors[:1] - np.linalg.pinv(weights) @ np.full(len(weights), 1e6)).astype(np.float32)


def linear_parts(classifier: Any) -> list[Any]:
    """The fitted estimators inside that have weights."""
    if hasattr(classifier, "coef_"):
        return [classifier]
    inner = getattr(classifier, "estimators_", None) or [part.estimator for part in classifier.calibrated_classifiers_]
    return [found for part in inner for found in linear_parts(part)]


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize("family", FAMILIES)
def test_folds_fit_evaluation_bundle_server_and_published_file_give_one_answer(tmp_path: Path, family: str) -> None:
    vectors, places = rows_of_three_classes()
    labels = np.array(CLASSES, dtype=object)[places]
    model, recipe = fitted(family, vectors, labels)
    asked = np.vstack([vectors[:5], unclaimed_row(model.classifier, vectors)])
    texts = [""] * len(asked)

    of_the_fit = model.probabilities(Rows(texts, asked, np.zeros(len(asked))))
    answers = {"fit": np.insert(of_the_fit, CLASSES.index("never_seen"), 0, axis=1)}

    every = Rows([""] * (len(vectors) + len(asked)), np.vstack([vectors, asked]), np.append(places, np.zeros(6, int)))
    prepare_fold(every, np.arange(90), np.arange(90, 96), recipe, tmp_path / "fold-0")

    def keep(truth: np.ndarray, probabilities: np.ndarray, n_classes: int) -> dict[str, float]:
        answers["folds"] = probabilities
        return {}

    FoldObjective(tmp_path, recipe, len(CLASSES), keep)(FAMILIES[family], 0)

    trained = TrainedModel(model.classifier, None, CLASSES, "v20260101_000000", "elsewhere", "", 584)
    answers["evaluation"] = trained.probabilities(asked, texts)
    (tmp_path / "bundle").mkdir()
    digest = write_bundle(trained, None, tmp_path / "bundle")
    answers["bundle"] = open_bundle(tmp_path / "bundle", digest, "here").probabilities(asked, texts)

    write_plain(trained.classifier, tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", asked)
    command = [sys.executable, "-c", DOWNSTREAM, str(tmp_path / "model.joblib"), str(tmp_path / "rows.npy")]
    published = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    answers["published"] = np.zeros((len(asked), len(CLASSES)))
    known = [CLASSES.index(label) for label in published["classes"]]
    answers["published"][:, known] = [shares for _, shares in published["answers"]]

    for way, table in answers.items():
        np.testing.assert_allclose(table, answers["fit"], atol=1e-9, err_msg=way)
        np.testing.assert_allclose(table.sum(axis=1), 1, atol=1e-9, err_msg=way)
        assert not table[:, CLASSES.index("never_seen")].any(), way
    if family in ("LogisticRegression", "SGD"):  # LinearSVC's own calibration keeps every probability above 0
        np.testing.assert_allclose(answers["fit"][-1], [1 / 3, 0, 1 / 3, 1 / 3])

    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    served = mlflow.pyfunc.load_model(logged.model_uri)
    table = served.predict(pd.DataFrame({"embeddings": [row.astype(float).tolist() for row in asked]}))
    np.testing.assert_allclose(table["confidence"], answers["fit"].max(axis=1), atol=1e-9)
    wanted = [CLASSES[place] for place in answers["fit"].argmax(axis=1)]
    assert table["predicted_label"].tolist() == wanted
    assert [label for label, _ in published["answers"]] == wanted


CALIBRATED = [
    ("LogisticRegression", "temperature", "confidence", None, 0),
    ("LogisticRegression", "sigmoid", "margin", "ask somebody", 290),
    ("SGD", "isotonic", "entropy", None, 290),
    ("LinearSVC", "temperature", "confidence", "ask somebody", 290),
]


@pytest.mark.usefixtures("mlflow_store")
@pytest.mark.parametrize(("family", "method", "score", "label", "features"), CALIBRATED)
def test_a_calibrated_model_answers_and_leaves_rows_to_people_alike_everywhere(
    tmp_path: Path, family: str, method: str, score: str, label: str | None, features: int
) -> None:
    vectors, places = rows_of_three_classes()
    noisy = np.where(np.arange(90) % 7 == 0, np.roll(places, 1), places)
    kept = np.arange(90) % 3 != 0
    parts = []
    for held in (kept, ~kept):
        of_fold, _ = fitted(family, vectors[~held], noisy[~held], features)
        scores = raw_scores(of_fold.classifier, range(len(CLASSES)), vectors[held])
        parts.append((scores, class_probabilities(of_fold.classifier, range(4), vectors[held]), noisy[held]))
    # The class of no row is none of the classifier's: its column goes.
    seen = list(SEEN)
    parts = [(one[:, seen], two[:, seen], np.searchsorted(seen, three)) for one, two, three in parts]
    calibration = calibrate(
        method, HeldScores.joined(parts), lambda labels, predicted: float((labels == predicted).mean())
    )
    model, _ = fitted(family, vectors, np.array(CLASSES, dtype=object)[noisy], features)
    classifier = calibration.applied(model.classifier)
    threshold = float(np.median(certainty(class_probabilities(classifier, classifier.classes_, vectors[:20]), score)))
    rule = DecisionRule(score, threshold, label)
    trained = TrainedModel(classifier, None, CLASSES, "v20260101_000000", "elsewhere", "", 584, decision=rule)
    asked = vectors[:20]
    expected = trained.probabilities(asked, [""] * 20)
    frame = prediction_frame(["x"] * 20, expected, ScoredBy("v", "e", CLASSES, datetime.now(UTC), rule))
    assert 0 < frame["prediction_notes"].notna().sum() < 20
    assert set(
        frame["predicted_label"][frame["prediction_notes"].notna()].map(lambda cell: cell if cell == cell else None)
    ) == {label}

    (tmp_path / "bundle").mkdir()
    digest = write_bundle(trained, None, tmp_path / "bundle")
    again = open_bundle(tmp_path / "bundle", digest, "here")
    np.testing.assert_array_equal(again.probabilities(asked, [""] * 20), expected)
    assert again.decision == rule
    both = again.both_probabilities(asked, [""] * 20)
    plain = class_probabilities(model.classifier, CLASSES, asked)
    np.testing.assert_allclose(both[1], plain, atol=1e-12)

    write_plain(trained.classifier, tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", asked)
    command = [sys.executable, "-c", DOWNSTREAM, str(tmp_path / "model.joblib"), str(tmp_path / "rows.npy")]
    published = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # Scores of float32 rows differ in the seventh digit from one row at a time to many; isotonic steps are steep.
    np.testing.assert_allclose([shares for _, shares in published["answers"]], expected[:, seen], atol=1e-5)

    with mlflow.start_run():
        logged = log_trained_model(trained, None, {})
    served = mlflow.pyfunc.load_model(logged.model_uri)
    table = served.predict(pd.DataFrame({"embeddings": [row.astype(float).tolist() for row in asked]}))
    for column in ("predicted_label", "confidence", "prediction_notes"):
        pd.testing.assert_series_equal(table[column], frame[column], check_dtype=False)
