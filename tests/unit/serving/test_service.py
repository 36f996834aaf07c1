"""Which version is given which case, and what is counted of the answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pcc_pipeline.config import load_params
from pcc_pipeline.model.decision import DecisionRule
from pcc_pipeline.serving.access import Access
from pcc_pipeline.serving.follow import Duty
from pcc_pipeline.serving.forms import Answered, Case, RefusedError
from pcc_pipeline.serving.kept import ServedBundle
from pcc_pipeline.serving.metrics import Metrics
from pcc_pipeline.serving.service import Service
from pcc_pipeline.serving.version import ServedVersion, TextVectors
from pcc_pipeline.tracking.logged_models.log_and_load import TrainedModel


class Classifier:
    classes_ = np.array(["a", "b"])

    def predict_proba(self, vectors: np.ndarray) -> np.ndarray:
        return np.tile([0.75, 0.25], (len(vectors), 1))


class Encoder:
    def __init__(self, digest: str) -> None:
        self.digest = digest

    def encode(self, texts: Any) -> np.ndarray:
        return np.zeros((len(texts), 384), dtype=np.float32)


class Lexical:
    steps = (("length", None), ("svd", None))


def version(name: str, *, texts: bool, encoder: str = "e", rule: DecisionRule | None = None) -> ServedVersion:
    lexical: Any = Lexical() if texts else None
    model = TrainedModel(Classifier(), lexical, ("a", "b"), name, "encoder", encoder, 384 if texts else 584, None)
    if rule is not None:
        model = replace(model, decision=rule)
    own: Any = Encoder(encoder) if texts else None
    return ServedVersion(model, ServedBundle("d", "models:/m", "r"), own, TextVectors(0))


class FixedDuty:
    def __init__(self, champion: ServedVersion, challenger: ServedVersion | None) -> None:
        self.duty, self.away = Duty(champion, challenger), None


CASES = [Case(str(number), vector=np.zeros(584)) for number in range(200)]


def who_answers(
    champion: ServedVersion, challenger: ServedVersion, cases: list[Case], digest: str | None = None
) -> set[str]:
    async def ask() -> set[str]:
        params = load_params(None, settings=["ab_test.challenger_share=0.5"])
        followed: Any = FixedDuty(champion, challenger)
        service = Service(params, followed, Metrics(), Access(params))
        deadline = asyncio.get_running_loop().time() + 20
        _, _, answers = await service.answers(cases, digest, deadline)
        await service.batcher.close()
        return {answer.version.name for answer in answers if answer is not None}

    return asyncio.run(ask())


def test_a_whole_vector_goes_to_a_challenger_that_learned_from_such_vectors_of_the_same_encoder() -> None:
    both = who_answers(version("v1", texts=False), version("v2", texts=False), CASES)
    assert both == {"v1", "v2"}
    assert who_answers(version("v1", texts=False), version("v2", texts=False, encoder="f"), CASES) == {"v1"}
    # Another version's lexical half is no number of this one's.
    assert who_answers(version("v1", texts=True), version("v2", texts=True), CASES) == {"v1"}
    assert who_answers(version("v1", texts=True), version("v2", texts=False), CASES) == {"v1"}


def test_a_text_does_not_go_to_a_challenger_that_takes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pcc_pipeline.features.full_vectors.lexical_vectors",
        lambda _, texts, terms: np.zeros((len(texts), 200), dtype=np.float32),
    )
    cases = [Case(str(number), text=f"text {number}") for number in range(60)]
    assert who_answers(version("v1", texts=True), version("v2", texts=False), cases) == {"v1"}
    assert who_answers(version("v1", texts=True), version("v2", texts=True), cases) == {"v1", "v2"}


def test_a_challenger_of_another_encoder_refuses_nobodys_vectors() -> None:
    champion, challenger = version("v1", texts=False, encoder="e"), version("v2", texts=False, encoder="f")
    assert who_answers(champion, challenger, CASES, "e") == {"v1"}
    with pytest.raises(RefusedError) as refused:
        who_answers(champion, challenger, CASES, "f")
    assert refused.value.status == 409


def test_a_decided_row_is_no_abstention_though_rows_left_to_people_have_its_label() -> None:
    rule = DecisionRule(threshold=0.6, label="a")
    served, metrics = version("v1", texts=False, rule=rule), Metrics()
    metrics.answers(served, [Answered.of(served, np.array(row)) for row in ([0.9, 0.1], [0.3, 0.7], [0.45, 0.55])])
    text = metrics.text()[0].decode()
    assert 'pcc_abstentions_total{model_version="v1"} 1.0' in text
    assert 'pcc_predictions_total{label="a",model_version="v1"} 2.0' in text


def test_a_version_that_left_nobody_a_row_tells_zero_and_not_nothing() -> None:
    """A share of what is not there has no value, and a rate misses the first row of a series that begins with it."""
    served, metrics = version("v1", texts=False), Metrics()
    metrics.answers(served, [Answered.of(served, np.array([0.9, 0.1]))])
    assert 'pcc_abstentions_total{model_version="v1"} 0.0' in metrics.text()[0].decode()
