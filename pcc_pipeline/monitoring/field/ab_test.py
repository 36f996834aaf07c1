"""Which of two versions is better by the labels that came back so far: tests that may be looked at every day.

A test of a fixed size that is looked at daily finds a difference in the end where there is none. What stands here
holds at all looks together: with probability `confidence` no look ever says that two equal versions differ.
`python -m benchmarks.sequential_test` measures it, beside the daily test of a fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln

from pcc_pipeline.evaluation.metrics import count_labels

CHALLENGER_BETTER, CHAMPION_BETTER, ALIKE = "challenger better", "champion better", "alike"
UNDECIDED, MISMATCH = "not decided yet", "shares do not match"
VERDICTS = (CHALLENGER_BETTER, CHAMPION_BETTER, ALIKE, UNDECIDED, MISMATCH)

# Of the chance that one of two versions wins a case which only one of them gets right: most within 0.5 +- 0.15.
_PAIR_PRIOR = 5.0
# Of the share of cases that the challenger answers: a tenth more or less of a share of 0.1, and the like.
_SHARE_PRIOR = 1000.0
# Fabijan et al., KDD 2019: a mismatch makes all else worthless, so it is asked about at a small level.
MISMATCH_LEVEL = 0.001

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Challenger minus champion, and what it lies between at all looks together."""

    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True)
class RecallDifference:
    """Of one label: the intervals of all labels hold together."""

    label: str
    rows: int
    difference: Interval


@dataclass(frozen=True)
class Terms:
    """What a comparison goes by.

    Attributes:
        difference: the smallest difference in accuracy that matters, 0..1.
        confidence: of the verdict, at all looks together.
        share: of the cases that the challenger was to answer; None where that is not known.
    """

    difference: float = 0.03
    confidence: float = 0.95
    share: float | None = None


@dataclass(frozen=True)
class FieldComparison:
    """Two versions on cases whose labels came back.

    Attributes:
        paired: both answered each case.
        rows: cases with a label that the challenger and the champion answered.
        accuracy: of the challenger and of the champion.
        information: 1 / variance of the difference in accuracy.
        log_evidence: how much likelier the rows are if the versions differ than if they do not, as a logarithm.
        mismatch: what of the shares does not match; empty where they do, or are not known.
        recalls: of labels with rows on both sides, the widest differences first.
    """

    paired: bool
    rows: tuple[int, int]
    accuracy: tuple[float, float]
    differences: Mapping[str, Interval]
    recalls: tuple[RecallDifference, ...]
    information: float
    log_evidence: float
    verdict: str
    mismatch: str = ""
    terms: Terms = field(default_factory=Terms)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def normal_mixture(value: float, variance: float, scale: float, confidence: float) -> tuple[Interval, float]:
    """The confidence sequence of a difference, and the evidence against 0 as the logarithm of a likelihood ratio.

    With information t = 1 / variance, value * t goes as a Brownian motion of which the true difference is the drift.
    The ratio is that of drifts drawn from a normal distribution of this `scale` to no drift (mixture SPRT: Robbins,
    Annals of Mathematical Statistics 1970; Johari, Koomen, Pekelis and Walsh, Operations Research 2022); the
    interval holds the differences whose ratio stays below 1 / (1 - confidence). For means of independent rows it holds
    in the limit (Waudby-Smith et al., Annals of Statistics 2024).

    Args:
        variance: of `value`, above 0.
        scale: the size of differences that it is best at; any holds.
    """
    information = 1 / variance
    raised = 1 + scale**2 * information
    half = radius(information, scale, confidence)
    evidence = (value * information * scale) ** 2 / (2 * raised) - math.log(raised) / 2
    return Interval(value, max(-1.0, value - half), min(1.0, value + half)), evidence


def radius(information: float, scale: float, confidence: float) -> float:
    """Half the width of that interval."""
    raised = 1 + scale**2 * information
    return math.sqrt(raised / (scale * information) ** 2 * (math.log(raised) - 2 * math.log(1 - confidence)))


def paired_evidence(wins: int, losses: int) -> float:
    """The logarithm of an e-value against the two being equally often right alone, exact at every number of rows.

    Of the cases that just one version gets right, either wins half if they are equally good. The chance of a win is
    drawn from a symmetric beta distribution (Ville 1939; Robbins 1970; as a bet: Waudby-Smith and Ramdas, JRSS B 2024).
    """
    drawn = betaln(_PAIR_PRIOR + wins, _PAIR_PRIOR + losses) - betaln(_PAIR_PRIOR, _PAIR_PRIOR)
    return float(drawn + (wins + losses) * math.log(2))


def mismatch_evidence(challenger: int, champion: int, share: float) -> float:
    """The logarithm of an e-value against the challenger having this share of the rows, exact at every look.

    The share is drawn from a beta distribution around the one that was set (Lindon and Malek, NeurIPS 2022).
    """
    first, second = _SHARE_PRIOR * share, _SHARE_PRIOR * (1 - share)
    drawn = betaln(first + challenger, second + champion) - betaln(first, second)
    return float(drawn - challenger * math.log(share) - champion * math.log1p(-share))


def compare_shares(
    challenger: tuple[ArrayLike, ArrayLike],
    champion: tuple[ArrayLike, ArrayLike],
    terms: Terms,
    answered: tuple[int, int] | None = None,
) -> FieldComparison:
    """Compare two versions that answered different cases, which chance dealt out.

    Args:
        challenger, champion: expected and predicted labels, shape (rows,) each; at least a row on either side.
        answered: how many cases each answered, with and without a label; None where that is not known.
    """
    first, second = _Answers.of(*challenger), _Answers.of(*champion)
    rows = (first.rows, second.rows)
    variance = _variance(first.right, second.right)
    value = float(first.right.mean() - second.right.mean())
    accuracy, evidence = normal_mixture(value, variance, terms.difference, terms.confidence)
    f1_first, f1_second = first.f1_macro(), second.f1_macro()
    of_f1 = f1_first[1].var() / first.rows + f1_second[1].var() / second.rows
    # All right so far is no proof of no spread: F1 spreads no less than accuracy does.
    f1, _ = normal_mixture(f1_first[0] - f1_second[0], max(float(of_f1), variance), terms.difference, terms.confidence)
    both = [label for label in first.labels if label in set(second.labels)]
    recalls = []
    for label in both:
        here = [each.right[each.expected == label] for each in (first, second)]
        spread = _variance(*here)
        interval, _ = normal_mixture(
            float(here[0].mean() - here[1].mean()), spread, terms.difference, _of_many(terms, len(both))
        )
        recalls.append(RecallDifference(label, sum(map(len, here)), interval))
    mismatch = "" if terms.share is None else _mismatch(terms.share, {"answered": answered, "labelled": rows})
    verdict = MISMATCH if mismatch else _verdict(accuracy, evidence, terms)
    return FieldComparison(
        paired=False,
        rows=rows,
        accuracy=(float(first.right.mean()), float(second.right.mean())),
        differences={"accuracy": accuracy, "f1_macro": f1},
        recalls=_widest_first(recalls),
        information=1 / variance,
        log_evidence=evidence,
        verdict=verdict,
        mismatch=mismatch,
        terms=terms,
    )


def compare_pairs(expected: ArrayLike, challenger: ArrayLike, champion: ArrayLike, terms: Terms) -> FieldComparison:
    """Compare two versions that answered the same cases; the verdict is that of `paired_evidence`.

    Args:
        expected, challenger, champion: labels, shape (rows,), at least a row.
    """
    first, second = _Answers.of(expected, challenger), _Answers.of(expected, champion)
    gained = first.right.astype(float) - second.right
    accuracy, _ = normal_mixture(float(gained.mean()), _paired_variance(gained), terms.difference, terms.confidence)
    f1_first, f1_second = first.f1_macro(), second.f1_macro()
    of_f1 = float((f1_first[1] - f1_second[1]).var()) / first.rows
    f1, _ = normal_mixture(
        f1_first[0] - f1_second[0], max(of_f1, _paired_variance(gained)), terms.difference, terms.confidence
    )
    recalls = []
    for label in first.labels:
        here = gained[first.expected == label]
        interval, _ = normal_mixture(
            float(here.mean()), _paired_variance(here), terms.difference, _of_many(terms, len(first.labels))
        )
        recalls.append(RecallDifference(label, len(here), interval))
    evidence = paired_evidence(int((gained > 0).sum()), int((gained < 0).sum()))
    return FieldComparison(
        paired=True,
        rows=(first.rows, first.rows),
        accuracy=(float(first.right.mean()), float(second.right.mean())),
        differences={"accuracy": accuracy, "f1_macro": f1},
        recalls=_widest_first(recalls),
        information=1 / _paired_variance(gained),
        log_evidence=evidence,
        verdict=_verdict(accuracy, evidence, terms),
        terms=terms,
    )


@dataclass(frozen=True)
class _Answers:
    """One version's answers to cases whose labels are known."""

    expected: NDArray[np.str_]
    predicted: NDArray[np.str_]

    @classmethod
    def of(cls, expected: ArrayLike, predicted: ArrayLike) -> _Answers:
        """Raises ValueError unless both have the same rows, and some."""
        columns = np.asarray(expected).astype(str), np.asarray(predicted).astype(str)
        if columns[0].shape != columns[1].shape or columns[0].ndim != 1 or not columns[0].size:
            raise ValueError(f"expected labels of the same rows, got shapes {[column.shape for column in columns]}")
        return cls(*columns)

    @property
    def rows(self) -> int:
        return int(self.expected.size)

    @property
    def right(self) -> NDArray[np.bool_]:
        same: NDArray[np.bool_] = self.expected == self.predicted
        return same

    @property
    def labels(self) -> list[str]:
        return [str(label) for label in np.unique(self.expected)]

    def f1_macro(self) -> tuple[float, Floats]:
        """The mean F1 over the labels that rows have, and what each row does to it, shape (rows,).

        F1 is 2 hits / (rows of the label + answers of the label), a ratio of two means; a row's influence on a ratio
        a / b is (its a - ratio * its b) / b (the delta method).
        """
        names, codes = np.unique(np.concatenate([self.expected, self.predicted]), return_inverse=True)
        truth, answer = codes[: self.rows], codes[self.rows :]
        counts = count_labels(truth, answer, len(names))
        f1, counted, both = counts.f1, counts.support > 0, (counts.support + counts.predicted) / self.rows
        weight = counted / both / counted.sum()
        influence = 2 * self.right * weight[truth] - (f1 * weight)[truth] - (f1 * weight)[answer]
        return float(f1[counted].mean()), influence


def proportions_variance(first: int, rows: int, second: int, others: int) -> float:
    """Of the difference of two shares, hits out of rows each: the larger of two estimates.

    The shares' own variances are too small where a small side happens to be right throughout, the one of a common share
    (as in the score test) where the shares do differ. Each is made as if one row more were right and one more wrong.
    """

    def shrunk(hits: int, total: int) -> float:
        share = (hits + 1) / (total + 2)
        return share * (1 - share)

    own = shrunk(first, rows) / rows + shrunk(second, others) / others
    return max(own, shrunk(first + second, rows + others) * (1 / rows + 1 / others))


def _paired_variance(gained: Floats) -> float:
    """Of the mean of -1, 0 and 1, as if one more row differed."""
    rows = len(gained)
    return float((np.abs(gained).sum() + 1) / rows - gained.mean() ** 2) / rows


def _variance(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return proportions_variance(int(first.sum()), len(first), int(second.sum()), len(second))


def _of_many(terms: Terms, number: int) -> float:
    return 1 - (1 - terms.confidence) / number


def _verdict(accuracy: Interval, log_evidence: float, terms: Terms) -> str:
    if log_evidence >= -math.log(1 - terms.confidence):
        return CHALLENGER_BETTER if accuracy.value > 0 else CHAMPION_BETTER
    if -terms.difference < accuracy.low and accuracy.high < terms.difference:
        return ALIKE
    return UNDECIDED


def _mismatch(share: float, counts: Mapping[str, tuple[int, int] | None]) -> str:
    """In words, which rows are not dealt out as they were to be."""
    for what, rows in counts.items():
        if rows is not None and any(rows) and mismatch_evidence(*rows, share) >= -math.log(MISMATCH_LEVEL):
            total = rows[0] + rows[1]
            return (
                f"the challenger has {rows[0]:,} of {total:,} {what} cases ({rows[0] / total:.1%}), "
                f"where {share:.1%} were to be its"
            )
    return ""


def _widest_first(recalls: Sequence[RecallDifference]) -> tuple[RecallDifference, ...]:
    return tuple(sorted(recalls, key=lambda each: (-abs(each.difference.value), each.label)))
