"""Texts that are the same but for accents, the order of their words, or one word more.

Equal texts are kept on one side of a split; these are not, and a model that remembers them looks better than it is.
They are counted, not moved: which words matter (a "please", a "not") is for a person to judge.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from pcc_pipeline.data.splits import Mask, fold_text

Sums = np.ndarray[Any, np.dtype[np.uint64]]

# Texts of fewer words would match others by chance: "opt out" and "out".
_FEWEST_WORDS = 3
# Of more rows, as many are looked at as stand for all, evenly spread over each side: their cost is bounded.
MOST_HELD_OUT, _MOST_TRAINING = 20_000, 100_000


@dataclass(frozen=True)
class NearDuplicates:
    """Held-out rows that were looked at, and those of them with a near-duplicate among the training rows looked at."""

    looked_at: int
    repeated: int

    @property
    def share(self) -> float:
        return self.repeated / self.looked_at if self.looked_at else 0.0


def near_duplicates(training: Sequence[str], held_out: Sequence[str]) -> NearDuplicates:
    """Count the held-out texts that a training text repeats but for accents, order, or one word more or less.

    A text is the sum of random 64-bit numbers of its words, so that a sum without one word is one subtraction, and two
    texts are compared by looking a number up (the sum of a multiset, as in Clarke et al., "Incremental multiset hash
    functions", ASIACRYPT 2003). Numbers of a fixed seed: the count depends on the texts alone.
    """
    training, held_out = _spread(training, _MOST_TRAINING), _spread(held_out, MOST_HELD_OUT)
    words = [_plain(text).split() for text in chain(training, held_out)]
    lengths = np.array([len(each) for each in words], dtype=np.int64)
    codes, distinct = pd.factorize(np.array(list(chain.from_iterable(words)), dtype=object))
    numbers = np.random.default_rng(0).integers(0, 2**64, size=len(distinct), dtype=np.uint64)[codes]
    row = np.repeat(np.arange(len(words)), lengths)
    sums = np.zeros(len(words), dtype=np.uint64)
    np.add.at(sums, row, numbers)

    long = lengths >= _FEWEST_WORDS
    # One word less than a text, for each of its words, where enough words are left.
    shorter, whose = sums[row] - numbers, row[lengths[row] > _FEWEST_WORDS]
    shorter = shorter[lengths[row] > _FEWEST_WORDS]
    trains = np.arange(len(words)) < len(training)
    known, held = sums[trains & long], np.flatnonzero(~trains & long)
    repeated = np.zeros(len(words), dtype=bool)
    repeated[held] = _among(sums[held], known) | _among(sums[held], shorter[trains[whose]])
    of_held_out = ~trains[whose]
    repeated[whose[of_held_out][_among(shorter[of_held_out], known)]] = True
    return NearDuplicates(len(held_out), int(repeated.sum()))


def _among(sums: Sums, others: Sums) -> Mask:
    # By a hash table: np.isin sorts millions of numbers, in most of the time that all the rest takes.
    return pd.Series(sums).isin(others).to_numpy()


def _spread(texts: Sequence[str], most: int) -> Sequence[str]:
    if len(texts) <= most:
        return texts
    return [texts[place] for place in np.linspace(0, len(texts) - 1, most).astype(np.int64)]


def _plain(text: str) -> str:
    folded = fold_text(text)
    if folded.isascii():
        return folded
    return "".join(sign for sign in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(sign))
