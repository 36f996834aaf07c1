"""No text stands on two sides, sides have the sizes and classes asked for, and content and seed alone decide."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcc_pipeline.data.splits import (
    FEWEST_WINDOW_ROWS,
    RowKeys,
    cross_validation_folds,
    fold_text,
    group_ids,
    split,
    split_by_time,
    split_stable,
    windows_by_time,
)
from pcc_pipeline.errors import DataError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Delete my account!", "delete  my\naccount"),
        ("STRASSE", "straße"),
        ("don't", "don\u2019t"),
        ("don't", "dont"),
        ("ﬁle", "file"),
        ("de\u200blete", "delete"),
        ("e-mail, please…", "E mail please"),
        ("thanks 👍", "Thanks"),
    ],
)
def test_texts_that_differ_in_case_punctuation_or_spaces_fold_alike(one: str, other: str) -> None:
    assert fold_text(one) == fold_text(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("delete", "deleted"), ("कि", "की"), ("?!", "!!"), ("👍", "👎"), ("order 1", "order 2"), ("a b", "ab")],
)
def test_texts_that_differ_in_words_do_not_fold_alike(one: str, other: str) -> None:
    assert fold_text(one) != fold_text(other)


def test_a_text_of_punctuation_alone_stays_as_it_is() -> None:
    assert fold_text(" ?! ") == "?!"


def test_rows_are_tied_by_text_or_group_also_by_way_of_others() -> None:
    texts = ["A", "a!", "b", "B.", "c", "d"]
    assert pd.factorize(group_ids(texts))[0].tolist() == [0, 0, 1, 1, 2, 3]
    customers = np.array(["1", "2", "2", "3", "3", None], dtype=object)
    assert pd.factorize(group_ids(texts, customers))[0].tolist() == [0, 0, 0, 0, 0, 1]
    assert group_ids([]).tolist() == []
    assert group_ids([], []).tolist() == []


def test_rows_that_stand_in_another_file_are_known_by_text_or_group_or_by_way_of_others() -> None:
    known = RowKeys.of(["hello", "x"], ["1", None])
    assert RowKeys.of(["Hello!", "bye"]).known_to(known).tolist() == [True, False]
    rows = RowKeys.of(["bye", "hello", "later", "no"], ["1", "2", "2", None])
    assert rows.known_to(known).tolist() == [True, True, True, False]
    assert rows.take(np.array([2, 3])).known_to(known).tolist() == [False, False]


def test_group_numbers_hang_on_the_content_alone() -> None:
    texts, customers = [f"text {i % 40}" for i in range(90)], [f"c{i % 25}" if i % 4 else None for i in range(90)]
    order = np.random.default_rng(0).permutation(90)
    shuffled = group_ids([texts[i] for i in order], [customers[i] for i in order])
    assert shuffled.tolist() == group_ids(texts, customers)[order].tolist()


@pytest.mark.parametrize("stratify", [True, False])
def test_the_order_of_the_rows_decides_no_side_and_no_fold(stratify: bool) -> None:
    rng = np.random.default_rng(5)
    labels = rng.choice(["a", "b", "c"], size=500, p=[0.6, 0.3, 0.1])
    texts = [f"text {i}" for i in rng.integers(0, 350, 500)]
    customers = [f"c{i}" for i in rng.integers(0, 400, 500)]
    groups, order = group_ids(texts, customers), rng.permutation(500)
    for seed in range(5):
        here, there = (split(labels[o], groups[o], 0.2, 0.1, stratify, seed) for o in (np.arange(500), order))
        for name in ("train", "validation", "test"):
            assert set(getattr(here, name)) == set(order[getattr(there, name)])
        folds, others = (
            cross_validation_folds(labels[o], groups[o], 5, stratify, seed) for o in (np.arange(500), order)
        )
        for (_, held), (_, other) in zip(folds, others, strict=True):
            assert set(held) == set(order[other])


def test_a_side_is_no_matter_of_how_large_a_group_is() -> None:
    """The number of a group is its smallest hash; an order by that number would put the largest groups first."""
    groups = group_ids(
        [f"text {i}" for i in range(2000)], [f"c{i}" if i < 1000 else f"big {i // 10}" for i in range(2000)]
    )
    labels = np.where(np.arange(2000) % 2 == 0, "a", "b")
    shares = []
    for seed in range(30):
        test = split(labels, groups, 0.2, 0.0, False, seed).test
        shares.append((test >= 1000).mean())
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("name", "column"), [("banking77", "intent"), ("pcc_bitext", "pcc_intent")])
@pytest.mark.parametrize("stratify", [True, False])
def test_on_real_data_no_text_stands_on_two_sides(
    real_data: Callable[[str], pd.DataFrame], name: str, column: str, stratify: bool
) -> None:
    frame = real_data(name)
    labels, folded = frame[column].to_numpy(dtype=object), np.array([fold_text(text) for text in frame["text"]])
    groups = group_ids(frame["text"].tolist())
    sides = split(labels, groups, 0.2, 0.1, stratify, seed=3)
    parts = [sides.train, sides.validation, sides.test]
    assert sorted(np.concatenate(parts)) == list(range(len(frame)))
    for one, other in combinations(parts, 2):
        assert not set(folded[one]) & set(folded[other])
    assert len(sides.test) / len(frame) == pytest.approx(0.2, abs=0.01)
    assert len(sides.validation) / len(frame) == pytest.approx(0.1, abs=0.01)
    if stratify:
        assert all(set(labels[part]) == set(labels) for part in parts)
    folds = cross_validation_folds(labels, groups, 5, stratify, seed=3)
    assert sorted(np.concatenate([validation for _, validation in folds])) == list(range(len(frame)))
    for training, validation in folds:
        assert not set(folded[training]) & set(folded[validation])
        assert len(validation) / len(frame) == pytest.approx(0.2, abs=0.01)
        if stratify:
            assert set(labels[training]) == set(labels[validation]) == set(labels)


def test_stratified_sides_keep_the_classes_shares() -> None:
    labels = np.array(["a"] * 700 + ["b"] * 200 + ["c"] * 100, dtype=object)
    sides = split(labels, np.arange(1000), 0.2, 0.1, True, seed=0)
    assert Counter(labels[sides.test]) == {"a": 140, "b": 40, "c": 20}
    assert Counter(labels[sides.validation]) == {"a": 70, "b": 20, "c": 10}


def test_rare_classes_are_no_error_and_stay_where_they_can_be_learnt() -> None:
    labels = np.array(["big"] * 60 + ["one"] + ["two"] * 2 + ["three"] * 3, dtype=object)
    for seed in range(20):
        sides = split(labels, np.arange(len(labels)), 0.2, 0.2, True, seed)
        assert set(labels[sides.train]) == {"big", "one", "two", "three"}
        assert "three" in labels[sides.test]
        assert "three" in labels[sides.validation]
        for training, validation in cross_validation_folds(labels, np.arange(len(labels)), 5, True, seed):
            assert set(labels[training]) == {"big", "one", "two", "three"}
            assert "one" not in labels[validation]


def test_150_classes_of_five_rows_stand_on_every_side() -> None:
    labels = np.repeat([f"c{i}" for i in range(150)], 5)
    sides = split(labels, np.arange(750), 0.2, 0.2, True, seed=1)
    assert [len(sides.train), len(sides.validation), len(sides.test)] == [450, 150, 150]
    for part in (sides.train, sides.validation, sides.test):
        assert len(set(labels[part])) == 150


def test_classes_of_three_rows_stand_on_every_side_even_of_small_shares() -> None:
    labels = np.array(["big"] * 300 + [f"c{i}" for i in range(30)] * 3)
    sides = split(labels, np.arange(len(labels)), 0.1, 0.1, True, seed=1)
    for part in (sides.train, sides.validation, sides.test):
        assert len(set(labels[part])) == 31


def test_a_group_counts_for_its_most_common_label() -> None:
    labels = np.array(["a", "a", "b"] + ["b", "a"] * 30)
    groups = np.array([0, 0, 0, *range(1, 61)])
    sides = split(labels, groups, 0.2, 0.0, True, seed=0)
    assert sides.validation.size == 0
    assert len({row in sides.test for row in (0, 1, 2)}) == 1


def test_large_groups_do_not_swell_a_side() -> None:
    groups = np.repeat(np.arange(30), [200, 100, *[5] * 28])
    labels = np.where(groups % 2 == 0, "a", "b")
    for seed in range(20):
        sides = split(labels, groups, 0.2, 0.1, True, seed)
        assert 0 < len(sides.test) <= 100
        assert 0 < len(sides.validation) <= 100


def test_the_seed_decides_and_the_test_side_does_not_depend_on_validation() -> None:
    labels = np.array(["a", "b"] * 200)
    one, same, other = (split(labels, np.arange(400), 0.2, 0.1, True, seed) for seed in (1, 1, 2))
    assert one.test[:10].tolist() == [1, 5, 6, 10, 21, 24, 28, 29, 38, 41], "of any machine and version"
    assert one.test.tolist() == same.test.tolist() != other.test.tolist()
    assert split(labels, np.arange(400), 0.2, 0.3, True, 1).test.tolist() == one.test.tolist()


def test_hash_randomisation_changes_nothing() -> None:
    code = (
        "from pcc_pipeline.data.splits import *\n"
        "texts = [f'text {i % 50}' for i in range(120)]; labels = ['abc'[i % 50 % 3] for i in range(120)]\n"
        "groups = group_ids(texts, [f'g{i % 40}' if i % 3 else None for i in range(120)])\n"
        "groups = groups if len(set(groups)) > 9 else group_ids(texts)\n"
        "print(split(labels, groups, .2, .1, True, 5), cross_validation_folds(labels, groups, 3, True, 5))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1] != b""


@pytest.mark.parametrize(
    ("labels", "groups", "test_size", "validation_size", "message"),
    [
        (["a"], [0], 0.2, 0.1, "1 rows are too few"),
        (["a"] * 9, range(9), 0.2, 0.1, "all rows have the same label"),
        (["a", "b"] * 9, range(18), 0.6, 0.4, "leave no training rows"),
        (["a", "b"] * 9, range(18), -0.1, 0.4, "shares of at least 0"),
        (["a", "b"] * 9, range(17), 0.2, 0.1, "18 labels and 17 groups"),
        (["a", "b"], range(2), 0.2, 0.0, "test side would be empty: 2 rows form 2 groups"),
        (["a", "b", "c"], range(3), 0.2, 0.0, "each of the 3 rows has a label of its own"),
        (["a", "b"] * 9, [0] * 18, 0.2, 0.0, "test side would be empty: 18 rows form 1 groups, the largest of 18 rows"),
    ],
)
def test_what_cannot_be_split_says_why(
    labels: list[str], groups: list[int], test_size: float, validation_size: float, message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        split(labels, np.array(groups), test_size, validation_size, True, seed=0)


@pytest.mark.parametrize(("n_folds", "stratify"), [(1, True), (0, False), (5, True), (9, False)])
def test_folds_that_cannot_be_filled_say_how_many_can(n_folds: int, stratify: bool) -> None:
    labels = ["a"] * 4 + ["b"] * 3
    with pytest.raises(
        DataError, match=rf"{n_folds} folds cannot be made.*\n.*7 rows, 7 groups\n.*from 2 to [47] folds"
    ):
        cross_validation_folds(labels, np.arange(7), n_folds, stratify, seed=0)


def test_a_fold_that_would_train_on_one_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"training side of fold . of 2 would hold fewer than 2 classes"):
        cross_validation_folds(["a"] * 6 + ["b"], np.arange(7), 2, False, seed=0)


def days(*numbers: int) -> np.ndarray:
    return np.datetime64("2026-01-01", "us") + np.array(numbers) * np.timedelta64(1, "D")


def test_by_time_the_latest_rows_test_and_what_came_first_trains():
    labels, groups = np.array(["a", "b"] * 10), np.arange(20).astype(np.uint64)
    order = np.random.default_rng(0).permutation(20)
    found = split_by_time(labels[order], groups[order], days(*range(20))[order], 0.2, 0.1)
    for positions, expected in ((found.train, range(14)), (found.validation, (14, 15)), (found.test, range(16, 20))):
        assert sorted(order[positions]) == list(expected)


def test_by_time_rows_of_one_moment_stay_together_and_repeats_of_earlier_rows_are_on_no_side():
    labels = np.array(["a", "b", "a", "b", "a", "b", "a", "b", "a", "b"])
    times = days(1, 1, 2, 2, 3, 3, 4, 5, 5, 5)
    groups = np.array([1, 2, 3, 4, 5, 6, 7, 8, 1, 9], dtype=np.uint64)
    found = split_by_time(labels, groups, times, 0.1, 0.1)
    # One row would be a tenth; three have the last day, and one of them repeats the first row of all.
    assert found.test.tolist() == [7, 9]
    assert found.validation.tolist() == [6]
    assert found.train.tolist() == [0, 1, 2, 3, 4, 5]


@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12), st.sampled_from("ab")), min_size=12, max_size=60),
    test_size=st.sampled_from([0.0, 0.1, 0.3]),
    validation_size=st.sampled_from([0.0, 0.2]),
)
@settings(deadline=None)
def test_by_time_no_side_is_before_an_earlier_one_nor_shares_a_group(rows, test_size, validation_size):
    moments, groups, labels = (np.array(column) for column in zip(*rows, strict=True))
    try:
        found = split_by_time(labels, groups.astype(np.uint64), days(*moments), test_size, validation_size)
    except DataError:
        return
    sides = [found.train, found.validation, found.test]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if len(sides[earlier]) and len(sides[later]):
            assert moments[sides[earlier]].max() < moments[sides[later]].min()
            assert not set(groups[sides[earlier]]) & set(groups[sides[later]])
    left = set(range(len(rows))) - set(np.concatenate(sides).tolist())
    for row in left:
        assert groups[row] in groups[moments < moments[row]]


def test_by_time_one_day_cannot_be_split():
    with pytest.raises(DataError, match="1 different times"):
        split_by_time(np.array(["a", "b"] * 5), np.arange(10).astype(np.uint64), days(*[3] * 10), 0.2, 0.1)


@given(
    rows=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60), st.sampled_from("ab")), min_size=60, max_size=120),
    n=st.integers(1, 4),
)
@settings(deadline=None)
def test_each_window_comes_after_its_past_and_shares_no_group_with_it(rows, n):
    moments, groups, labels = (np.array(column) for column in zip(*rows, strict=True))
    times = days(*moments)
    try:
        windows = windows_by_time(labels, groups.astype(np.uint64), times, n)
    except DataError:
        return
    assert len(windows) == n
    for window in windows:
        assert times[window.past].max() < window.starts <= times[window.rows].min()
        assert times[window.rows].max() <= window.ends
        assert not set(groups[window.past]) & set(groups[window.rows])
        assert len(window.rows) >= FEWEST_WINDOW_ROWS
        assert len(set(labels[window.past])) == len(set(labels[window.rows])) == 2
        in_it = int(((times >= window.starts) & (times <= window.ends)).sum())
        assert len(window.rows) + window.repeated == in_it
    for earlier, later in pairwise(windows):
        assert len(earlier.past) + len(earlier.rows) + earlier.repeated == len(later.past)
    assert len(windows[-1].past) + len(windows[-1].rows) + windows[-1].repeated == len(rows)


def test_windows_are_cut_from_the_later_half_whatever_the_rows_order():
    order = np.random.default_rng(0).permutation(80)
    labels, groups = np.array(["a", "b"] * 40), np.arange(80).astype(np.uint64)
    windows = windows_by_time(labels[order], groups[order], days(*range(80))[order], 4)
    assert [sorted(order[window.rows].tolist()) for window in windows] == [
        [*range(start, start + 10)] for start in (40, 50, 60, 70)
    ]
    assert [sorted(order[window.past].tolist()) for window in windows] == [[*range(end)] for end in (40, 50, 60, 70)]


@pytest.mark.parametrize(
    ("labels", "moments", "n", "message"),
    [
        (["a", "b"] * 40, range(80), 5, "window 1 .* has 8 rows .* 10 are the fewest.*\n.*backtest: 5\n.*at most 4"),
        (["a", "b"] * 40, [3] * 80, 1, "80 rows of 1 different times .* fewer than 2 labels.*\n.*\n.*more days"),
        (["a", "b"] * 40, [1] * 30 + [2] * 50, 2, "something in 1 of them only.*\n.*\n.*ask for at most 1"),
        (["a", "b"] * 25 + ["a"] * 30, range(80), 3, "window 2 .* one label only.*\n.*\n.*ask for at most 1"),
        (["a"] * 60 + ["b", "a"] * 10, range(80), 1, "before window 1 .* fewer than 2 labels"),
    ],
)
def test_windows_that_cannot_be_made_say_why_and_how_many_can(labels, moments, n, message):
    with pytest.raises(DataError, match=message):
        windows_by_time(np.array(labels), np.arange(80).astype(np.uint64), days(*moments), n)


def stable_sides(keys: RowKeys, labels: list[str], seed: int = 0) -> list[str]:
    parts = split_stable(labels, keys, 0.2, 0.1, seed)
    sides = ["left out"] * len(labels)
    for name in ("train", "validation", "test"):
        for row in getattr(parts, name):
            sides[row] = name
    return sides


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 5))
def test_rows_that_are_added_move_no_other_row_to_another_stable_side(data, seed):
    """A row of a text that comes to be held out may be left out; none changes sides, and no text stands on two."""
    rows = data.draw(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 150)), min_size=150, max_size=260))
    rows += [(400 + number, 400 + number) for number in range(100)]
    texts, groups, labels = [f"t {t}" for t, _ in rows], [f"g {g}" for _, g in rows], ["a", "b"] * 130
    labels = [labels[number % len(labels)] for number in range(len(rows))]
    whole = stable_sides(RowKeys.of(texts, groups), labels, seed)
    before = stable_sides(RowKeys.of(texts[-150:], groups[-150:]), labels[-150:], seed)
    for then, now in zip(before, whole[-150:], strict=True):
        assert now in (then, "left out")
        assert then != "test" or now == "test"
    for values in (texts, groups):
        for value in set(values):
            assert len({side for side, of in zip(whole, values, strict=True) if of == value} - {"left out"}) <= 1
    plain = stable_sides(RowKeys.of(texts), labels, seed)
    assert "left out" not in plain
    assert stable_sides(RowKeys.of(texts[-150:]), labels[-150:], seed) == plain[-150:]


def test_a_stable_side_is_of_any_machine_and_order_has_its_share_and_hangs_on_the_seed():
    keys, labels = RowKeys.of([f"Text number {i}" for i in range(4000)]), ["a", "b"] * 2000
    parts = split_stable(labels, keys, 0.2, 0.1, 42)
    assert parts.test[:8].tolist() == [3, 7, 18, 19, 33, 40, 42, 48]
    assert len(parts.test) / 4000 == pytest.approx(0.2, abs=0.02)
    assert len(parts.validation) / 4000 == pytest.approx(0.1, abs=0.02)
    wider = split_stable(labels, keys, 0.3, 0.0, 42)
    assert set(parts.test) < set(wider.test)
    assert not set(parts.validation) & set(wider.test)
    assert not len(wider.validation)
    assert set(split_stable(labels, keys, 0.2, 0.1, 43).test) != set(parts.test)
    order = np.random.default_rng(0).permutation(4000)
    again = split_stable(np.array(labels)[order], keys.take(order), 0.2, 0.1, 42)
    assert set(order[again.test]) == set(parts.test)


def test_a_stable_side_that_chance_leaves_empty_says_so():
    with pytest.raises(DataError, match=r"side of a split that stays would be empty: the 4 rows have 1 different"):
        split_stable(["a", "b"] * 2, RowKeys.of(["hello"] * 4), 0.2, 0.1, 0)
