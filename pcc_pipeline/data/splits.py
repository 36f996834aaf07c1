"""Sides that share no text: rows are tied into groups, and groups, never rows, go to train, validation and test."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pcc_pipeline.errors import DataError

Positions = np.ndarray[Any, np.dtype[np.int64]]
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


def overlapping(train_texts: Sequence[str], test_texts: Sequence[str]) -> Mask:
    """Returns (n_train,) booleans: True where a training row's folded text also stands in the test texts."""
    test = {fold_text(text) for text in test_texts}
    return np.fromiter((fold_text(text) in test for text in train_texts), dtype=bool, count=len(train_texts))


def group_ids(texts: Sequence[str], groups: Labels | None = None) -> Positions:
    """Returns (n,) group numbers from 0 in order of appearance.

    Rows share a number if their folded texts or their groups are equal, also by way of other rows; a missing group ties
    nothing.
    """
    text_ids = pd.factorize(np.array([fold_text(text) for text in texts], dtype=object))[0].astype(np.int64)
    if groups is None or len(text_ids) == 0:
        return text_ids
    own = pd.factorize(np.asarray(groups, dtype=object))[0].astype(np.int64)
    if len(own) != len(text_ids):
        raise DataError(f"There are {len(text_ids)} texts and {len(own)} groups.", fix="give one group per text")
    tied = own >= 0
    n_texts = int(text_ids.max()) + 1
    n_nodes = n_texts + int(own.max(initial=-1)) + 1
    edges = coo_array((np.ones(tied.sum()), (text_ids[tied], own[tied] + n_texts)), shape=(n_nodes, n_nodes))
    components = np.asarray(connected_components(edges.tocsr(), directed=False)[1])
    rows: Positions = pd.factorize(components[text_ids])[0].astype(np.int64)
    return rows


@dataclass(frozen=True)
class Split:
    """Sorted row positions of the three sides; together each row once."""

    train: Positions
    validation: Positions
    test: Positions


def split(
    labels: Labels, groups: Positions, test_size: float, validation_size: float, stratify: bool, seed: int
) -> Split:
    """Splits rows by group; the test side does not depend on `validation_size`.

    labels: (n,). groups: (n,), see `group_ids`. Sizes are shares of all rows; 0 leaves a side empty. Stratified, a
    group counts for its most common label: a class with one group stays in train, one with three or more stands on
    every side.
    Raises DataError where a side that was asked for would be empty or training would see fewer than two classes.
    """
    if not (0 <= test_size < 1 and 0 <= validation_size < 1 and test_size + validation_size < 1):
        raise DataError(
            f"Sides of test_size={test_size} and validation_size={validation_size} leave no training rows.",
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
    return Split(*parts)


def cross_validation_folds(
    labels: Labels, groups: Positions, n_folds: int, stratify: bool, seed: int
) -> list[tuple[Positions, Positions]]:
    """Returns (training, validation) row positions per fold; validation sides are disjoint.

    Stratified, a class with one group is in the training side of every fold and in no validation side; one with fewer
    groups than folds misses some validation sides. Raises DataError where no class has a group for every fold.
    """
    units = _Units.of(labels, groups, stratify, seed)
    most = int(np.bincount(units.strata).max())
    if n_folds < 2 or n_folds > most:
        of_class = " of the most common class" if stratify else ""
        raise DataError(
            f"{n_folds} folds cannot be made: there are {most} different texts or groups{of_class}.",
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


@dataclass(frozen=True)
class _Units:
    """The groups as units: their rows, sizes, strata (all equal where not stratified) and a seeded order."""

    of_row: Positions
    sizes: Positions
    strata: Positions
    order: Positions

    @classmethod
    def of(cls, labels: Labels, groups: Positions, stratify: bool, seed: int) -> _Units:
        if len(labels) != len(groups):
            raise DataError(f"There are {len(labels)} labels and {len(groups)} groups.", fix="give one group per label")
        if len(labels) < 2:
            raise DataError(f"{len(labels)} rows are too few to split.", fix="give at least 2 rows, better hundreds")
        # np.unique sorts, so nothing depends on the hash seed or the order of appearance.
        classes, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                "All rows have the same label.", fix="give rows of at least 2 classes, or name another label column"
            )
        of_row = pd.factorize(np.asarray(groups))[0].astype(np.int64)
        sizes = np.bincount(of_row).astype(np.int64)
        strata = np.zeros(len(sizes), dtype=np.int64)
        if stratify:
            counts = coo_array((np.ones(len(codes)), (of_row, codes))).tocsr()
            # The first of equal maxima: ties go to the label that sorts first.
            strata = np.asarray(counts.argmax(axis=1)).ravel().astype(np.int64)
            strata = np.unique(strata, return_inverse=True)[1].astype(np.int64)
        order = np.random.default_rng(seed).permutation(len(sizes)).astype(np.int64)
        return cls(of_row, sizes, strata, order)


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
