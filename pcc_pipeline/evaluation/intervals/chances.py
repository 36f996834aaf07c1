"""What luck alone would do: exact chances, and which of many hold once it is counted how many were looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from scipy.special import bdtr, gammaln

from pcc_pipeline.evaluation.ranking import FloatArray

LEVEL = 0.05
_Key = TypeVar("_Key")


def fewer_hits_chance(hits: int, rows: int, all_hits: int, all_rows: int) -> float:
    """The chance, 0..1, of `hits` or fewer among `rows` drawn from `all_rows` that hold `all_hits`: hypergeometric."""
    counts: FloatArray = np.arange(max(0, rows - (all_rows - all_hits)), hits + 1, dtype=np.float64)
    logs = _ways(all_hits, counts) + _ways(all_rows - all_hits, rows - counts) - _ways(all_rows, float(rows))
    return min(float(np.exp(logs).sum()), 1.0)


def _ways(of: int, taken: Any) -> Any:
    return gammaln(of + 1) - gammaln(taken + 1) - gammaln(of - taken + 1)


def as_uneven_chance(one: int, other: int) -> float:
    """The chance, 0..1, that so many or more of `one + other` fair throws fall on one side: binomial, two-sided."""
    return min(2 * float(bdtr(min(one, other), one + other, 0.5)), 1.0)


def beyond_chance(chances: Mapping[_Key, float], level: float = LEVEL) -> set[_Key]:
    """The keys whose chances are too small for luck; of many that are all luck, any is named in `level` of cases.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    """
    named: set[_Key] = set()
    for rank, key in enumerate(sorted(chances, key=lambda each: chances[each])):
        if chances[key] * (len(chances) - rank) > level:
            break
        named.add(key)
    return named
