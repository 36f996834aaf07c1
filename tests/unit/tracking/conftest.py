"""Small real models and an MLflow of each test's own."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest

from pcc_pipeline.encoder.sentence_encoder import SentenceEncoder
from pcc_pipeline.features.full_vectors import full_vectors
from pcc_pipeline.features.lexical import fit_lexical
from pcc_pipeline.model.builders import Task
from pcc_pipeline.model.families import build_classifier
from pcc_pipeline.model.probabilities import decided
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel

MARK = "Tutanchamun"
SENTENCES = {
    "data_deletion": [
        "Please delete my account",
        "Erase all my data",
        f"Remove what {MARK} ordered",
        "Wipe my records",
    ],
    "opt_out": ["Stop mailing me", "Unsubscribe me now", "No more calls please", "Do not sell my information"],
    "privacy_request": ["What do you know of me?", "Send me a copy of my data", "Who has my data?", "Show my file"],
}
TEXTS = [text for texts in SENTENCES.values() for text in texts]
LABELS = np.array([label for label, texts in SENTENCES.items() for _ in texts], dtype=object)
CLASSES = tuple(SENTENCES)


@pytest.fixture
def mark() -> str:
    """A word of the training texts that must turn up nowhere."""
    return MARK


@pytest.fixture
def texts() -> list[str]:
    """The training texts of `trained`."""
    return list(TEXTS)


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    return SentenceEncoder()


@pytest.fixture(scope="session")
def trained(encoder: SentenceEncoder) -> TrainedModel:
    """A model for texts; its vectors are made with the real encoder."""
    lexical = fit_lexical(TEXTS)
    classifier = build_classifier("LogisticRegression", {}, Task(3, 0))
    classifier.fit(full_vectors(encoder.encode(TEXTS), lexical, TEXTS), LABELS)
    return TrainedModel(
        decided(classifier), lexical, CLASSES, "v20260101_000000", encoder.name, encoder.digest, 384, None
    )


@pytest.fixture(scope="session")
def whole(trained: TrainedModel) -> TrainedModel:
    """A model for whole vectors."""
    return TrainedModel(trained.classifier, None, CLASSES, "v20260101_000001", "elsewhere", "", 584, "opt_out")


@pytest.fixture
def store(mlflow_store: Path) -> Path:
    """An MLflow of this test's own, with an open experiment; returns the folder of its artifacts."""
    artifacts = mlflow_store / "artifacts"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("test", artifact_location=str(artifacts)))
    return artifacts
