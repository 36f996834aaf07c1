"""Sides that share no text: rows are tied into groups, and groups, never rows, go to train, validation and test.

Where a group goes hangs on its content, the seed and the shares: by hashes, which neither the order of a file's rows
nor a library's stream of random numbers can change.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pcc_pipeline.errors import DataError

Positions = np.ndarray[Any, np.dtype[np.int64]]
Keys = np.ndarray[Any, np.dtype[np.uint64]]
Times = np.ndarray[Any, np.dtype[np.datetime64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Labels = Sequence[str] | np.ndarray[Any, Any]


# Straight, typographic (left, right), modifier letter, grave and acute.
_APOSTROPHES = "'\u2018\u2019\u02bc`\u00b4"


class _Folding(dict[int, str]):
    """Maps a character to what it folds to, decided by its Unicode category at its first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if character in _APOSTROPHES or kind == "Cf" or character == "\ufe0f":
            # "don't" and "dont" are one text; invisible marks are none.
            folded = ""
        else:
            folded = " " if kind[0] in "PSZC" else character
        self[code] = folded
        return folded


_FOLDING = _Folding()


def fold_text(text: str) -> str:
    """Folds case, punctuation, symbols and runs of whitespace; a text of nothing else stays as it is, stripped."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_FOLDING).split())
    return folded or text.strip()


_NO_GROUP = np.uint64(0)


@dataclass(frozen=True)
class RowKeys:
    """What rows have in common with others, as hashes that tell nothing else of them.

    texts: (n,) 8-byte BLAKE2b of each folded text. groups: the same of each group value, 0 where a row has none; None
    where no group column is named.
    """

    texts: Keys
    groups: Keys | None

    @classmethod
    def of(cls, texts: Sequence[str], groups: Labels | None = None) -> RowKeys:
        """Raises DataError unless there is a group, or None, per text."""
        if groups is not None and len(groups) != len(texts):
            raise DataError(f"there are {len(texts)} texts and {len(groups)} groups", fix="give one group per text")
        text_keys = _hashed((fold_text(text) for text in texts), b"pcc-text")
        if groups is None:
            return cls(text_keys, None)
        missing = np.asarray(pd.isna(np.asarray(groups, dtype=object)), dtype=bool)
        return cls(text_keys, np.where(missing, _NO_GROUP, _hashed(map(str, groups), b"pcc-group")))

    def take(self, rows: Positions | Mask) -> RowKeys:
        return RowKeys(self.texts[rows], None if self.groups is None else self.groups[rows])

    def group_ids(self) -> Keys:
        """(n,) group numbers, equal for rows that share a text or a group, also by way of other rows.

        A number is the smallest hash of the groups in it, or of the texts where none of its rows has a group.
        """
        if self.groups is None:
            return self.texts
        tied = self.groups != _NO_GROUP
        texts, text_of = np.unique(self.texts, return_inverse=True)
        groups, group_of = np.unique(self.groups[tied], return_inverse=True)
        n_nodes = len(texts) + len(groups)
        edges = coo_array((np.ones(tied.sum()), (text_of[tied], group_of + len(texts))), shape=(n_nodes, n_nodes))
        n_parts, part = connected_components(edges.tocsr(), directed=False)
        largest = np.iinfo(np.uint64).max
        of_texts, of_groups = (np.full(n_parts, largest, dtype=np.uint64) for _ in range(2))
        np.minimum.at(of_texts, part[: len(texts)], texts)
        np.minimum.at(of_groups, part[len(texts) :], groups)
        has_group = np.isin(np.arange(n_parts), part[len(texts) :])
        numbers: Keys = np.where(has_group, of_groups, of_texts)[part[text_of]]
        return numbers

    def known_to(self, other: RowKeys) -> Mask:
        """(n,) booleans, whether a row, or one here that it is tied to, shares a text or group with any of `other`."""
        shared = np.isin(self.texts, other.texts)
        if self.groups is not None and other.groups is not None:
            shared |= np.isin(self.groups, other.groups) & (self.groups != _NO_GROUP)
        numbers = self.group_ids()
        tied: Mask = np.isin(numbers, numbers[shared])
        return tied


def exact_keys(texts: Iterable[str]) -> Keys:
    """(n,) 8-byte BLAKE2b of each text as it stands, nothing folded."""
    return _hashed(texts, b"pcc-exact")


def label_keys(labels: Labels) -> Keys:
    """(n,) 8-byte BLAKE2b of each label."""
    place, different = pd.factorize(np.asarray(labels, dtype=object))
    keys: Keys = _hashed(map(str, different), b"pcc-label")[place]
    return keys


def _hashed(values: Iterable[str], person: bytes) -> Keys:
    hashes = [blake2b(value.encode(errors="surrogatepass"), digest_size=8, person=person).digest() for value in values]
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def group_ids(texts: Sequence[str], groups: Labels | None = None) -> Keys:
    """Returns (n,) group numbers that hang on the content alone; a missing group ties nothing."""
    return RowKeys.of(texts, groups).group_ids()


@dataclass(frozen=True)
class SplitPositions:
    """Sorted row positions of the sides; together each row once, but for those that a split leaves out.

    A split by time leaves out later rows of a known text or group; a stable one, rows of a text that is held out.
    """

    train: Positions
    validation: Positions
    test: Positions


def split(
    labels: Labels, groups: Keys, test_size: float, validation_size: float, stratify: bool, seed: int
) -> SplitPositions:
    """Splits rows by group; the test side does not depend on `validation_size`, nor any side on the order of the rows.

    labels: (n,). groups: (n,) numbers, see `group_ids`. Sizes are shares of all rows; 0 leaves a side empty.
    Stratified, a group counts for its most common label: a class with one group stays in train, one with three or more
    stands on every side.
    Raises DataError where a side that was asked for would be empty or training would see fewer than two classes.
    """
    if not (0 <= test_size < 1 and 0 <= validation_size < 1 and test_size + validation_size < 1):
        raise DataError(
            f"sides of test_size={test_size} and validation_size={validation_size} leave no training rows",
            fix="give shares of at least 0 that sum to less than 1",
        )
    units = _Units.of(labels, groups, stratify, seed)
    side = np.zeros(len(units.sizes), dtype=np.int64)
    for number, share in ((2, test_size), (1, validation_size)):
        if share > 0:
            side[_draw(units, side == 0, share)] = number
    parts = [np.flatnonzero(side[units.of_row] == number) for number in (0, 1, 2)]
    for name, share, rows in (("validation", validation_size, parts[1]), ("test", test_size, parts[2])):
        if share > 0 and not len(rows):
            raise _empty_side(f"The {name} side would be empty", units, f"{name}_size={share}")
    if not len(parts[0]):
        raise _empty_side("The training side would be empty", units, f"test_size={test_size}")
    _demand_two_classes(labels, parts[0], "the training side")
    return SplitPositions(*parts)


def cross_validation_folds(
    labels: Labels, groups: Keys, n_folds: int, stratify: bool, seed: int
) -> list[tuple[Positions, Positions]]:
    """Returns (training, validation) row positions per fold; validation sides are disjoint. The rows' order is nothing.

    Stratified, a class with one group is in the training side of every fold and in no validation side; one with fewer
    groups than folds misses some validation sides. Raises DataError where no class has a group for every fold.
    """
    units = _Units.of(labels, groups, stratify, seed)
    most = int(np.bincount(units.strata).max())
    if n_folds < 2 or n_folds > most:
        whose = f"the most common of {units.n_labels} labels has" if stratify else "there are"
        raise DataError(
            f"{n_folds} folds cannot be made: {whose} {most} different texts or groups.",
            where=f"{len(units.of_row)} rows, {len(units.sizes)} groups",
            fix=f"use from 2 to {most} folds" if most > 1 else "give more rows with different texts",
        )
    fold = np.full(len(units.sizes), -1, dtype=np.int64)
    total = np.zeros(n_folds)
    for stratum in range(int(units.strata.max()) + 1):
        members = units.order[units.strata[units.order] == stratum]
        if stratify and len(members) == 1:
            continue
        rows = np.zeros(n_folds)
        # Large groups first: the small ones then level the folds.
        for unit in members[np.argsort(-units.sizes[members], kind="stable")]:
            target = min(range(n_folds), key=lambda number: (rows[number], total[number], number))
            fold[unit] = target
            rows[target] += units.sizes[unit]
            total[target] += units.sizes[unit]
    folds = []
    of_row = fold[units.of_row]
    for number in range(n_folds):
        training, validation = np.flatnonzero(of_row != number), np.flatnonzero(of_row == number)
        _demand_two_classes(labels, training, f"the training side of fold {number + 1} of {n_folds}")
        folds.append((training, validation))
    return folds


# Of a rarer class a sample takes all rows: a share of them would be none.
_FEWEST_SAMPLED = 50


def stratified_sample(labels: Labels, most: int, seed: int) -> Positions:
    """Sorted positions of some `most` rows in which each label has its share, but for rare ones, which have more.

    All rows where there are no more than `most`.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    draws = np.random.default_rng(seed)
    _, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    parts = []
    for label in range(int(codes.max()) + 1):
        members = np.flatnonzero(codes == label)
        count = min(len(members), max(round(most * len(members) / len(codes)), _FEWEST_SAMPLED))
        parts.append(draws.choice(members, count, replace=False))
    return np.sort(np.concatenate(parts)).astype(np.int64)


def split_by_time(
    labels: Labels, groups: Keys, times: Times, test_size: float, validation_size: float
) -> SplitPositions:
    """The latest rows test, those before them validate, and what came first trains.

    Rows of one moment stay on one side, so a side may be larger than its share. A later row of a group that stands on
    an earlier side, such as a text that was sent again, is on no side: it would be known already.

    Args:
        times: (n,), without gaps.

    Raises:
        DataError: a side that was asked for would be empty, or training would see fewer than two classes.
    """
    side = np.zeros(len(times), dtype=np.int64)
    for number, share in ((2, test_size), (1, validation_size)):
        before = np.sort(times[side == 0])
        if share > 0 and len(before):
            side[(side == 0) & (times >= before[-min(max(round(len(times) * share), 1), len(before))])] = number
    known_before = _known_before(groups, side)
    parts = [np.flatnonzero((side == number) & ~known_before) for number in (0, 1, 2)]
    for name, share, rows_of_side in (
        ("training", 1.0, parts[0]),
        ("validation", validation_size, parts[1]),
        ("test", test_size, parts[2]),
    ):
        if share > 0 and not len(rows_of_side):
            raise DataError(
                f"the {name} side of a split by time would be empty: the {len(times):,} rows have "
                f"{len(np.unique(times)):,} different times, and {int(known_before.sum()):,} repeat a text or group "
                "of an earlier side",
                where="data.split: time",
                fix="give rows of more days, choose other shares, or set data.split: random",
            )
    _demand_two_classes(labels, parts[0], "the training side")
    return SplitPositions(*parts)


def split_stable(labels: Labels, keys: RowKeys, test_size: float, validation_size: float, seed: int) -> SplitPositions:
    """Each row's side follows from its group and the seed alone, so rows that are added move no other row.

    A group's keyed hash, as a fraction of its range, is compared with the shares: tests below `test_size`, validates
    from 1 - `validation_size` on. The sides have their shares only on average, and labels play no part. A row goes by
    its own group, or by its text where it has none; a text in several groups stays on the side among theirs that is
    held out most strictly (test, then validation), and its rows elsewhere are on no side. Groups that are tied by such
    a text are not joined to one, as they are in `split`: a row that ties them later would move one of them.

    Raises:
        DataError: a side that was asked for would be empty, or training would see fewer than two classes.
    """
    own = keys.texts if keys.groups is None else np.where(keys.groups == _NO_GROUP, keys.texts, keys.groups)
    # 53 bits are exact as a float, and stay below 1.
    fraction = (_seeded(own, seed) >> np.uint64(11)) / 2.0**53
    # The shares lie at the two ends, so that a change of one moves no row of the other.
    strictness = np.where(fraction < test_size, 2, np.where(fraction >= 1 - validation_size, 1, 0))
    left_out = _known_before(keys.texts, 2 - strictness)
    parts = [np.flatnonzero((strictness == number) & ~left_out) for number in (0, 1, 2)]
    for name, share, rows in (
        ("training", 1.0, parts[0]),
        ("validation", validation_size, parts[1]),
        ("test", test_size, parts[2]),
    ):
        if share > 0 and not len(rows):
            raise DataError(
                f"the {name} side of a split that stays would be empty: the {len(labels):,} rows have "
                f"{len(np.unique(own)):,} different texts or groups, and chance gave it none",
                where="data.split: stable",
                fix="give more rows with different texts, choose other shares, or set data.split: random",
            )
    _demand_two_classes(labels, parts[0], "the training side")
    return SplitPositions(*parts)


def _known_before(groups: Keys, place: Positions) -> Mask:
    """(n,) booleans, whether a row's group stands at an earlier place as well."""
    _, of_row = np.unique(groups, return_inverse=True)
    first = np.full(int(of_row.max(initial=0)) + 1, int(place.max(initial=0)))
    np.minimum.at(first, of_row, place)
    known: Mask = place > first[of_row]
    return known


# Of fewer rows a window's score says nothing.
FEWEST_WINDOW_ROWS = 10


@dataclass(frozen=True)
class TimeWindow:
    """A stretch of time to test on, and all that came before it to train on.

    Attributes:
        past: sorted positions of the rows before the window.
        rows: of those in it whose text or group did not come before it.
        repeated: how many of its rows are left out since they did.
        starts, ends: times of the first and the last row in it.
    """

    past: Positions
    rows: Positions
    repeated: int
    starts: np.datetime64
    ends: np.datetime64


def windows_by_time(labels: Labels, groups: Keys, times: Times, n: int) -> list[TimeWindow]:
    """The later half of the rows in `n` windows of as many rows each, as far as rows of one moment stay together.

    Args:
        times: (n,), without gaps.

    Raises:
        DataError: a window would hold too few rows or one label only, or the rows before it would; the message says
            how many windows can be made.
    """
    made = _time_windows(groups, times, n)
    fault = _window_fault(labels, made, n)
    if fault:
        most = next(
            (m for m in range(n - 1, 0, -1) if not _window_fault(labels, _time_windows(groups, times, m), m)), 0
        )
        raise DataError(
            f"the later half of {len(times):,} rows of {len(np.unique(times)):,} different times makes no {n} windows "
            f"to test on: {fault}",
            where=f"evaluation.backtest: {n}",
            fix=f"ask for at most {most}" if most else "give rows of more days, or set evaluation.backtest: 0",
        )
    return made


def _time_windows(groups: Keys, times: Times, n: int) -> list[TimeWindow]:
    """The windows that have rows."""
    in_order, half = np.sort(times), len(times) // 2
    starts = in_order[[half + number * (len(times) - half) // n for number in range(n)]]
    window = np.searchsorted(starts, times, side="right").astype(np.int64)
    known_before = _known_before(groups, window)
    made = []
    for number in range(1, n + 1):
        here = window == number
        if here.any():
            rows = np.flatnonzero(here & ~known_before)
            past, repeated = np.flatnonzero(window < number), int((here & known_before).sum())
            made.append(TimeWindow(past, rows, repeated, times[here].min(), times[here].max()))
    return made


def _window_fault(labels: Labels, made: Sequence[TimeWindow], n: int) -> str:
    """What makes a window useless; empty where all are good."""
    if len(made) < n:
        return f"there is something in {len(made)} of them only, since rows of one moment stay together"
    names = np.asarray(labels, dtype=str)
    for number, window in enumerate(made, start=1):
        which = f"window {number} (from {np.datetime_as_string(window.starts, 's')} UTC)"
        if len(np.unique(names[window.past])) < 2:
            return f"before {which} there are rows of fewer than 2 labels"
        if len(window.rows) < FEWEST_WINDOW_ROWS:
            return (
                f"{which} has {len(window.rows)} rows that do not repeat a text or group from before it, and "
                f"{FEWEST_WINDOW_ROWS} are the fewest"
            )
        if len(np.unique(names[window.rows])) < 2:
            return f"{which} has rows of one label only"
    return ""


@dataclass(frozen=True)
class _Units:
    """The groups as units: their rows, sizes, strata (all equal where not stratified) and an order by seeded hash."""

    of_row: Positions
    sizes: Positions
    strata: Positions
    order: Positions
    n_labels: int

    @classmethod
    def of(cls, labels: Labels, groups: Keys, stratify: bool, seed: int) -> _Units:
        if len(labels) != len(groups):
            raise DataError(f"there are {len(labels)} labels and {len(groups)} groups", fix="give one group per label")
        if len(labels) < 2:
            raise DataError(f"{len(labels)} rows are too few to split.", fix="give at least 2 rows, better hundreds")
        # np.unique sorts, so nothing depends on the hash seed or the order of appearance.
        classes, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                "all rows have the same label", fix="give rows of at least 2 classes, or name another label column"
            )
        if len(classes) == len(labels) > 2:
            raise DataError(
                f"each of the {len(labels):,} rows has a label of its own, so the labels tell no classes apart",
                fix="name the column that holds the labels with --label …",
            )
        # np.unique sorts here as well: units of equal hashes stand in the order of their numbers.
        numbers, of_row = np.unique(np.asarray(groups).astype(np.uint64), return_inverse=True)
        of_row = of_row.astype(np.int64)
        sizes = np.bincount(of_row).astype(np.int64)
        strata = np.zeros(len(sizes), dtype=np.int64)
        if stratify:
            counts = coo_array((np.ones(len(codes)), (of_row, codes))).tocsr()
            # The first of equal maxima: ties go to the label that sorts first.
            strata = np.asarray(counts.argmax(axis=1)).ravel().astype(np.int64)
            strata = np.unique(strata, return_inverse=True)[1].astype(np.int64)
        order = np.argsort(_seeded(numbers, seed), kind="stable").astype(np.int64)
        return cls(of_row, sizes, strata, order, len(classes))


def _seeded(numbers: Keys, seed: int) -> Keys:
    """A hash of each number that is another with another seed.

    Hashed again, though the numbers are hashes: the smallest of a large group's hashes is a small one, and large groups
    would always come first.
    """
    key, raw = str(seed).encode(), numbers.astype("<u8").tobytes()
    hashes = [blake2b(raw[place : place + 8], digest_size=8, key=key).digest() for place in range(0, len(raw), 8)]
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def _draw(units: _Units, free: Mask, share: float) -> Positions:
    """Chooses the free groups of one side: per stratum its share of rows, the rest by largest remainder."""
    rows = np.bincount(units.strata, weights=units.sizes)
    groups = np.bincount(units.strata)
    quota = rows * share
    target = np.floor(quota)
    target[(groups >= 3) & (target < 1)] = 1
    spare = round(float(rows.sum()) * share) - int(target.sum())
    if spare > 0:
        # A stratum whose last free group must stay to train has nothing to give.
        free_groups = np.bincount(units.strata[free], minlength=len(groups))
        remainder = np.where((free_groups > 1) & (target <= quota), quota - target, -1.0)
        by_remainder = np.argsort(-remainder, kind="stable")[:spare]
        target[by_remainder[remainder[by_remainder] > 0]] += 1
    chosen: list[int] = []
    for stratum in np.flatnonzero(target > 0):
        members = units.order[(units.strata[units.order] == stratum) & free[units.order]]
        taken = 0
        for unit in members:
            # A group that overshoots is left to train; the last group of a stratum always is.
            if len(members) > 1 and taken + units.sizes[unit] <= target[stratum]:
                chosen.append(int(unit))
                taken += int(units.sizes[unit])
            if taken >= target[stratum]:
                break
        if taken == 0 and len(members) > 1:
            smallest = members[np.argmin(units.sizes[members])]
            if units.sizes[smallest] <= units.sizes[members].sum() / 2:
                chosen.append(int(smallest))
    return np.array(chosen, dtype=np.int64)


def _demand_two_classes(labels: Labels, rows: Positions, side: str) -> None:
    present = np.unique(np.asarray(labels, dtype=str)[rows])
    if len(present) < 2:
        raise DataError(
            f"{side[0].upper()}{side[1:]} would hold fewer than 2 classes.", fix="give more rows of the rarer classes"
        )


def _empty_side(what: str, units: _Units, setting: str) -> DataError:
    return DataError(
        f"{what}: {len(units.of_row)} rows form {len(units.sizes)} groups, the largest of {units.sizes.max()} rows.",
        where=setting,
        fix="give more rows with different texts, choose another share, or name a group column with smaller groups",
    )
