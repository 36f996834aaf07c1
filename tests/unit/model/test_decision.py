"""The decision rule: what is shown of a threshold before it is used, and what its sets of labels hold."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pcc_pipeline.model.decision import (
    NO_THRESHOLD,
    DecisionRule,
    certainty,
    conformal_limits,
    threshold_for_accuracy,
    threshold_for_share,
)
from pcc_pipeline.tracking.logged_models import served_model

SCORES = ["confidence", "margin", "entropy"]


def drawn(rows: int, n_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that follow them."""
    random = np.random.default_rng(seed)
    table = random.dirichlet(np.full(n_classes, 0.4), size=rows)
    # The first class whose cumulated probability a uniform draw does not pass.
    labels = (table.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1).clip(max=n_classes - 1)
    return table, labels


@pytest.mark.parametrize("score", SCORES)
def test_certainty_goes_from_equal_shares_to_one_label(score: str) -> None:
    table = np.array([[1 / 3, 1 / 3, 1 / 3], [0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [1.0, 0.0, 0.0]])
    sure = certainty(table, score)
    assert list(sure) == sorted(sure)
    assert sure[-1] == pytest.approx(1)
    assert sure[0] == pytest.approx(1 / 3 if score == "confidence" else 0)
    np.testing.assert_array_equal(served_model.certainty(table, score), sure)


def test_the_note_of_the_served_model_is_the_rules_own() -> None:
    rule, none = DecisionRule("margin", 0.25), DecisionRule("margin", NO_THRESHOLD)
    for each in (rule, none):
        assert served_model.undecided_note(0.1, each.document(), "opt_out") == each.note(0.1, "opt_out")
    assert rule.note(0.1, "opt_out") == "not decided: margin 0.1000 is below 0.2500; most likely opt_out"
    near = DecisionRule("confidence", 0.99999)
    assert near.note(0.99998, "a") == "not decided: confidence 0.99998 is below 0.99999; most likely a"
    assert served_model.undecided_note(0.99998, near.document(), "a") == near.note(0.99998, "a")
    assert none.note(0.1, "opt_out") == (
        "not decided: no margin was shown to be right often enough (this row's is 0.1000); most likely opt_out"
    )


@pytest.mark.parametrize("score", SCORES)
def test_a_threshold_keeps_its_accuracy_in_nearly_all_draws(score: str) -> None:
    table, _ = drawn(200_000, seed=99)
    truth = table.max(axis=1)  # the chance of being right
    sure, broken, shares = certainty(table, score), 0, []
    for seed in range(120):
        held, labels = drawn(400, seed=seed)
        threshold = threshold_for_accuracy(held, labels, score, 0.85)
        kept = sure >= (2 if threshold is None else threshold)
        shares.append(kept.mean())
        broken += bool(kept.any() and truth[kept].mean() < 0.85)
    # 5 % of 120, and what luck adds to them.
    assert broken <= 12
    # It is of use: of the rows that could be kept at 0.85, half are.
    ordered = np.sort(truth)[::-1]
    possible = (np.cumsum(ordered) / np.arange(1, len(ordered) + 1) >= 0.85).mean()
    assert np.median(shares) > 0.5 * possible


def test_what_cannot_be_shown_has_no_threshold_and_what_is_right_already_needs_none() -> None:
    table, labels = drawn(300)
    assert threshold_for_accuracy(table, np.full(300, -1), "confidence", 0.5) is None
    assert threshold_for_accuracy(table, table.argmax(axis=1), "confidence", 0.9) == 0.0
    assert threshold_for_accuracy(table[:3], labels[:3], "confidence", 0.99) is None


@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_no_more_than_the_share_is_left_to_a_person(share: float) -> None:
    table, _ = drawn(501)
    rule = DecisionRule("confidence", threshold_for_share(table, "confidence", share))
    left = rule.left_to_a_person(table).mean()
    assert share - 1 / 501 <= left <= share
    alike = np.full((50, 2), 0.5)
    rule = DecisionRule("confidence", threshold_for_share(alike, "confidence", share))
    assert not rule.left_to_a_person(alike).any()


def test_sets_hold_the_label_as_often_as_asked_in_all_and_by_class() -> None:
    held, labels = drawn(3000, seed=1)
    table, truth = drawn(20_000, seed=2)
    rows = np.arange(len(truth))
    overall = DecisionRule(conformal=0.9, limits=conformal_limits(held, labels, 0.9, by_class=False))
    covered = overall.label_sets(table)[rows, truth]
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    by_class = DecisionRule(conformal=0.9, limits=conformal_limits(held, labels, 0.9, by_class=True))
    covered = by_class.label_sets(table)[rows, truth]
    assert min(covered[truth == place].mean() for place in range(3)) > 0.87
    assert by_class.label_sets(table).any(axis=1).all()


def test_a_class_of_too_few_rows_is_in_every_set() -> None:
    held, labels = drawn(200)
    labels[labels == 2] = 1
    labels[:5] = 2
    limits = conformal_limits(held, labels, 0.9, by_class=True)
    assert limits[2] == 0.0
    assert DecisionRule(conformal=0.9, limits=limits).label_sets(held)[:, 2].all()


def test_a_rule_comes_back_from_its_document() -> None:
    rule = DecisionRule("entropy", 0.4, "ask", 0.9, (0.1, 0.2))
    assert DecisionRule.of(json.loads(json.dumps(rule.document()))) == rule
    # Of a model from before there were rules.
    assert DecisionRule.of({}) == DecisionRule()
    assert not DecisionRule().left_to_a_person(np.full((3, 2), 0.5)).any()
