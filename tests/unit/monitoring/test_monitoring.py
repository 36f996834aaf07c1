"""A profile says what chance makes of a window, and what is more than chance."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pcc_pipeline.errors import ModelError
from pcc_pipeline.features.lexical import fit_lexical, unknown_shares
from pcc_pipeline.monitoring.change.drift import FEWEST_ROWS, drift
from pcc_pipeline.monitoring.change.learned_space import FEWEST, LearnedSpace
from pcc_pipeline.monitoring.change.shift_statistics import statistics
from pcc_pipeline.monitoring.change.signals import Signals, entropy
from pcc_pipeline.monitoring.estimates import Estimators, estimate
from pcc_pipeline.monitoring.profile import NOVEL_SHARE, Origin, ReferenceProfile, make_profile
from pcc_pipeline.monitoring.profile_file import from_bytes, to_bytes
from pcc_pipeline.monitoring.windows import windows

CLASSES = ("access", "deletion", "opt_out", "other")
WIDTH = 40
_TURN = np.random.default_rng(9).normal(size=(len(CLASSES), WIDTH))
SHARES = np.array([0.1, 0.2, 0.3, 0.4])


def messages(n: int, seed: int, *, shares: np.ndarray = SHARES, turn: np.ndarray = _TURN) -> tuple[np.ndarray, ...]:
    """Vectors (n, WIDTH) float32 around a center for each label, and the labels' indices."""
    draws = np.random.default_rng(seed)
    labels = draws.choice(len(shares), n, p=shares)
    return (turn[labels] + draws.normal(size=(n, WIDTH)) * 1.6).astype(np.float32), labels


def signals(vectors: np.ndarray, space: LearnedSpace, length: float = 0.0, seed: int = 0) -> Signals:
    """What a model that knows the centers would say."""
    scores = vectors @ _TURN.T - (_TURN**2).sum(axis=1) / 2
    powers = np.exp((scores - scores.max(axis=1, keepdims=True)) / 2)
    draws = np.random.default_rng(seed + len(vectors))
    shown = Signals.of_answers(powers / powers.sum(axis=1, keepdims=True)).with_vectors(vectors, space)
    lengths = np.round(np.exp(4 + length + 0.5 * draws.normal(size=len(vectors))))
    return replace(shown, length=lengths, unknown=draws.beta(1, 12, len(vectors)))


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    space = LearnedSpace.of(messages(2000, 1)[0], seed=0)
    return made(space, 1000)


def origin(space: LearnedSpace, exact: bool = True) -> Origin:
    figures = {"data/rows": 3000.0}
    return Origin(space, CLASSES, "v20260101_000000", "e" * 64, "test", exact=exact, seed=0, figures=figures)


def made(space: LearnedSpace, rows: int, *, exact: bool = True) -> ReferenceProfile:
    vectors, labels = messages(rows, 2)
    profile = make_profile(signals(vectors, space), labels, np.arange(rows), origin(space, exact))
    assert profile is not None
    return profile


def test_quiet_windows_rarely_alarm_and_their_accuracy_is_the_reference_s(profile: ReferenceProfile) -> None:
    alarms, apart, shares, held = 0, [], [], 0
    for seed in range(100):
        vectors, labels = messages(300, 100 + seed)
        shown = signals(vectors, profile.space, seed=seed)
        health = profile.watch(shown, rate=0.05)
        alarms += health.drift.alarm
        true = (shown.predicted == labels).mean()
        apart.append(health.estimate.value - true)
        held += health.estimate.low <= true <= health.estimate.high
        shares.append(health.novel_share)
    assert stats.binomtest(alarms, 100, 0.05, "greater").pvalue > 0.01
    assert abs(np.mean(apart)) < 0.015
    assert held >= 90
    assert np.mean(shares) == pytest.approx(NOVEL_SHARE, abs=0.02)


@pytest.mark.parametrize(("rows", "least", "most"), [(60, 0, 4), (6000, 10, 10)])
def test_what_chance_makes_follows_the_size_of_the_window(
    profile: ReferenceProfile, rows: int, least: int, most: int
) -> None:
    """Labels' shares that differ by .03 are chance in 60 rows, and none in 6,000."""
    shares = np.array([0.13, 0.2, 0.27, 0.4])
    alarms = [
        profile.watch(signals(messages(rows, seed, shares=shares)[0], profile.space, seed=seed), 0.05).drift.alarm
        for seed in range(10)
    ]
    assert least <= sum(alarms) <= most


def test_each_kind_of_change_is_found_by_the_statistic_for_it(profile: ReferenceProfile) -> None:
    space = profile.space
    vectors, _ = messages(500, 50)
    plain = signals(vectors, space)
    changed = {
        "labels": signals(messages(500, 51, shares=np.array([0.4, 0.3, 0.2, 0.1]))[0], space),
        "length": replace(plain, length=np.asarray(plain.length) * 1.5),
        "unknown_terms": replace(plain, unknown=np.asarray(plain.unknown) + 0.05),
        "vectors": signals(vectors + np.float32(0.3), space),
        "novelty": signals(np.vstack([vectors[:400], -3 * vectors[400:]]), space),
    }
    for kind, window in changed.items():
        health = profile.watch(window, 0.05)
        assert health.drift.alarm, kind
        assert kind in health.drift.causes, (kind, health.drift.p_values)
        assert health.estimate.upper_bound, kind
    assert profile.watch(changed["novelty"], 0.05).novel_share == pytest.approx(0.2 + 0.8 * NOVEL_SHARE, abs=0.03)


def test_a_window_is_judged_by_what_it_gives(profile: ReferenceProfile) -> None:
    shown = signals(messages(500, 60)[0], profile.space)
    bare = Signals(shown.predicted, shown.confidence)
    assert set(profile.watch(bare, 0.05).drift.p_values) == {"labels", "confidence"}
    assert profile.watch(bare, 0.05).novel_share is None
    few = profile.watch(shown.take(np.arange(FEWEST_ROWS - 1)), 0.05).drift
    assert not few.alarm
    assert np.isnan(few.p_value)


def test_the_statistics_are_those_of_the_books() -> None:
    draws = np.random.default_rng(0)
    here, there = draws.normal(size=200), draws.normal(0.3, size=80)
    edges = np.sort(np.concatenate([here, there]))
    sketches = [{"length": (part[:, None] > edges).mean(axis=0)} for part in (here, there)]
    gap = statistics(*sketches, 200, 80)["length"] / np.sqrt(200 * 80 / 280)
    assert gap == pytest.approx(stats.ks_2samp(here, there).statistic)
    counts = np.array([[50, 30, 20], [10, 20, 30]])
    shares = [{"labels": row / row.sum()} for row in counts]
    expected = stats.chi2_contingency(counts, correction=False).statistic
    assert statistics(*shares, 100, 60)["labels"] == pytest.approx(expected)
    # Mann and Whitney's count of pairs, as the mean gain over all edges at which a row of the reference stands.
    at_rows = [{"unknown": (part[:, None] > np.sort(here)).mean(axis=0)} for part in (here, there)]
    gained = statistics(*at_rows, 200, 80)["unknown_terms"] / np.sqrt(200 * 80 / 280)
    pairs = stats.mannwhitneyu(there, here).statistic / (200 * 80)
    assert gained == pytest.approx(pairs - (1 - 1 / 200) / 2)


def test_a_p_value_counts_the_draws_that_are_as_large(profile: ReferenceProfile) -> None:
    window = profile.sketcher.sketch(signals(messages(500, 70)[0], profile.space))
    verdict = drift(profile.reference, profile.rows, window, 500, profile.chance, 0.05)
    by_chance = profile.chance.of_size(500)
    for place, name in enumerate(profile.chance.names):
        larger = (by_chance[:, place] >= verdict.statistics[name]).sum()
        assert verdict.p_values[name] == pytest.approx((larger + 1) / (len(by_chance) + 1))


def test_a_profile_is_the_same_after_it_was_written_and_holds_no_object(profile: ReferenceProfile) -> None:
    content = to_bytes(profile)
    again = from_bytes(content, "there")
    assert to_bytes(again) == content
    assert len(content) < 200_000
    window = signals(messages(400, 80, shares=SHARES[::-1])[0], profile.space)
    assert again.watch(window, 0.05) == profile.watch(window, 0.05)
    assert (again.figures, again.classes) == (profile.figures, profile.classes)
    for broken in (b"", b"PK", content[: len(content) // 2], pd.DataFrame({"a": [1]}).to_parquet()):
        with pytest.raises(ModelError, match="no reference profile, or a damaged one"):
            from_bytes(broken, "there")


def test_a_profile_of_the_form_before_is_read_and_knows_nothing_of_what_is_usual(profile: ReferenceProfile) -> None:
    with np.load(io.BytesIO(to_bytes(profile))) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(arrays["facts"].tobytes())
    del facts["usual"]

    def written(form: int) -> bytes:
        arrays["facts"] = np.frombuffer(json.dumps({**facts, "format": form}).encode(), dtype=np.uint8)
        content = io.BytesIO()
        np.savez(content, **arrays)
        return content.getvalue()

    assert from_bytes(written(1), "there").usual is None
    with pytest.raises(ModelError, match="has the form 9, and this pcc_pipeline reads 2 at most"):
        from_bytes(written(9), "there")


def test_no_row_can_be_told_from_a_profile() -> None:
    """A prototype stands for several rows; of fewer rows than make one, there is their mean alone."""
    vectors, _ = messages(400, 3)
    lonely = vectors.copy()
    lonely[0] = 90
    space = LearnedSpace.of(lonely, seed=0)
    far = ((space.prototypes - (lonely[:1] - space.center) @ space.basis) ** 2).sum(axis=1)
    assert far.min() > 1000
    assert len(LearnedSpace.of(vectors[:FEWEST], seed=0).prototypes) == 1


def test_a_model_that_learned_more_since_is_not_judged_by_its_probabilities(profile: ReferenceProfile) -> None:
    other = made(profile.space, 100, exact=False)
    assert "probabilities" not in other.chance.names
    assert "probabilities" in profile.chance.names
    assert other.watch(signals(messages(100, 5)[0], profile.space), 0.05).drift.p_value > 0


def test_too_few_rows_make_no_profile(profile: ReferenceProfile) -> None:
    vectors, labels = messages(19, 6)
    shown = signals(vectors, profile.space)
    assert make_profile(shown, labels, np.arange(19), origin(profile.space)) is None


def test_the_confusion_counts_rows_of_labels_that_were_never_learned(profile: ReferenceProfile) -> None:
    assert profile.confusion.shape == (5, 4)
    assert profile.confusion.sum() == 1000
    assert profile.confusion[4].sum() == 0


def test_atc_says_of_the_reference_itself_what_is_so() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, True, False, False])
    known = Estimators.of(confidence, right)
    assert (known.accuracy, known.threshold) == (0.6, pytest.approx(0.65))
    same = estimate(known, confidence, upper_bound=False)
    assert (same.value, same.doc, same.reference) == (0.6, pytest.approx(0.6), 0.6)
    unsure = estimate(known, confidence - 0.1, upper_bound=True)
    assert (unsure.value, unsure.doc) == (0.4, pytest.approx(0.5))
    assert unsure.low < 0.4 < 0.5 < unsure.high
    assert Estimators.of(confidence, ~right | right).threshold < 0.5  # all are right, whatever the confidence
    assert Estimators.of(confidence, right & ~right).threshold >= 0.9


def test_unknown_terms_are_those_that_no_learned_text_has() -> None:
    lexical = fit_lexical(["delete my account", "stop the newsletter", "what do you know of me"], n_features=2**18)
    shares = unknown_shares(lexical, ["delete my account", "zzzz qqqq xxxx", "", "delete my acccount"])
    assert shares[0] == 0
    assert shares[1] > 0.95
    assert shares[2] == 0
    assert 0 < shares[3] < 0.5


def test_entropy_is_that_of_the_books() -> None:
    table = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    assert entropy(table) == pytest.approx(stats.entropy(table, axis=1))


def test_windows_hold_each_row_once_and_weeks_begin_on_monday() -> None:
    written = ["2026-11-02T00:00:00Z", "2026-11-08T23:59:59Z", None, "2026-11-09", "2026-11-01T23:00:00-05:00"]
    times = pd.to_datetime(pd.Series(written), format="ISO8601", utc=True)
    by_week = windows("week", times, 5)
    assert [window.name for window in by_week] == ["week from 2026-11-02", "week from 2026-11-09", "without a time"]
    assert [list(window.rows) for window in by_week] == [[0, 1, 4], [3], [2]]
    assert [window.name for window in windows("day", times, 5)][:2] == ["2026-11-02", "2026-11-08"]
    assert [list(window.rows) for window in windows(2, None, 5)] == [[0, 1], [2, 3], [4]]
    assert [list(window.rows) for window in windows("all", None, 3)] == [[0, 1, 2]]
