"""How many labels a comparison of two versions needs, before it starts and while it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import ndtri

from pcc_pipeline.monitoring.field.ab_test import ALIKE, CHALLENGER_BETTER, CHAMPION_BETTER, FieldComparison, radius

_MOST_INFORMATION = 1e15


@dataclass(frozen=True)
class Needed:
    """Labelled cases of both versions together.

    Attributes:
        looked_at_daily: by when a difference of this size is seen with the power that was asked for.
        looked_at_once: how many a test would need that may be looked at once only.
    """

    looked_at_daily: int
    looked_at_once: int


def labels_needed(
    accuracy: float, difference: float, share: float, *, confidence: float = 0.95, power: float = 0.8
) -> Needed:
    """For two versions that answer different cases.

    So many cases that a look at them alone shows the difference with this power; looks before it can only add to that.
    Looked at once it is the usual number for two proportions (Fleiss, Levin and Paik 2003, chapter 4, without the
    correction for continuity and with each version's own variance).

    Args:
        accuracy: of the champion, 0..1; the challenger's is taken as that plus or minus `difference`, where it lies
            within 0..1, whichever needs more.
        difference: the smallest that matters, above 0.
        share: of the cases that the challenger answers, within 0..1.

    Raises:
        ValueError: a number is outside its range.
    """
    if not (0 < accuracy < 1 and 0 < difference < 1 and 0 < share < 1 and 0 < confidence < 1 and 0 < power < 1):
        raise ValueError("expected accuracy, difference, share, confidence and power within 0..1")
    others = [each for each in (accuracy + difference, accuracy - difference) if 0 < each < 1]
    spread = max(each * (1 - each) / share + accuracy * (1 - accuracy) / (1 - share) for each in others or [accuracy])
    return _needed(spread, difference, confidence, power)


def pairs_needed(differing: float, difference: float, *, confidence: float = 0.95, power: float = 0.8) -> Needed:
    """For two versions that answer the same cases.

    Args:
        differing: the share of cases that just one of them gets right, at least `difference`.

    Raises:
        ValueError: a number is outside its range.
    """
    if not (0 < difference < 1 and difference <= differing <= 1 and 0 < confidence < 1 and 0 < power < 1):
        raise ValueError("expected difference, confidence and power within 0..1, and differing from difference to 1")
    return _needed(max(differing - difference**2, difference**2), difference, confidence, power)


def still_needed(comparison: FieldComparison, *, power: float = 0.8) -> int:
    """How many labelled cases more a comparison needs to show the smallest difference that matters; 0 once decided."""
    if comparison.verdict in (CHALLENGER_BETTER, CHAMPION_BETTER, ALIKE):
        return 0
    terms, (first, second) = comparison.terms, comparison.rows
    rows = first if comparison.paired else first + second
    enough = _information_for(terms.difference, terms.confidence, power)
    return max(0, math.ceil(rows * (enough / comparison.information - 1)))


def _needed(spread: float, difference: float, confidence: float, power: float) -> Needed:
    once = (ndtri((1 + confidence) / 2) + ndtri(power)) ** 2 / difference**2
    return Needed(math.ceil(_information_for(difference, confidence, power) * spread), math.ceil(float(once) * spread))


def _information_for(difference: float, confidence: float, power: float) -> float:
    """The information (1 / variance) at which a difference is seen with this power at that look."""

    def missing(log_information: float) -> float:
        information = math.exp(log_information)
        luck = float(ndtri(power)) / math.sqrt(information)
        return radius(information, difference, confidence) + luck - difference

    return math.exp(float(brentq(missing, 0.0, math.log(_MOST_INFORMATION))))
