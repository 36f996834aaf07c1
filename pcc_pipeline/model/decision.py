"""When a model answers and when it leaves a row to a person; and which labels it cannot rule out.

What is learned here is learned from training rows by models that did not see them, and stored with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv

# How sure a learned threshold has to be of its accuracy, one-sided.
_CONFIDENCE = 0.95
# The threshold where none shows its accuracy: above every certainty there is.
NO_THRESHOLD = 1.1
# Percents of the rows, most certain first, from which on thresholds for an accuracy are tested one after another.
_STARTS = (25, 50, 75)


_NOT_DECIDED, _LIKELIEST = "not decided: ", "; most likely "


def likeliest_of(note: object) -> str | None:
    """The label that was the most likely one of a row left to a person, by its note; None of any other note."""
    if not isinstance(note, str) or not note.startswith(_NOT_DECIDED):
        return None
    return note.partition(_LIKELIEST)[2] or None


@dataclass(frozen=True)
class DecisionRule:
    """What a model does with its probabilities.

    Attributes:
        score: what certainty is measured by: `confidence`, `margin` or `entropy`; see `certainty`.
        threshold: a row of less certainty is left to a person; None where every row is decided, `NO_THRESHOLD` where
            none is.
        label: what such a row is called; None leaves it without a label.
        conformal: the share of rows whose set of labels holds the right one; None where there are no sets.
        limits: the probability, by class, from which on a label belongs to the set.
    """

    score: str = "confidence"
    threshold: float | None = None
    label: str | None = None
    conformal: float | None = None
    limits: tuple[float, ...] = ()

    @staticmethod
    def of(document: Mapping[str, Any]) -> DecisionRule:
        """What `document` made."""
        return DecisionRule(**{**document, "limits": tuple(document.get("limits", ()))})

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "limits": list(self.limits)}

    @property
    def abstains(self) -> bool:
        return self.threshold is not None

    def left_to_a_person(self, probabilities: np.ndarray) -> np.ndarray:
        """Which rows of (n, K) the model does not decide, bool (n,)."""
        if self.threshold is None:
            return np.zeros(len(probabilities), dtype=bool)
        undecided: np.ndarray = certainty(probabilities, self.score) < self.threshold
        return undecided

    @property
    def decides_none(self) -> bool:
        """Whether no certainty is enough: no threshold was shown to reach the accuracy that was asked for."""
        return self.threshold is not None and self.threshold > 1

    def reason(self, sure: float) -> str:
        """Why a row of this certainty is left to a person."""
        if self.decides_none:
            return f"no {self.score} was shown to be right often enough (this row's is {sure:.4f})"
        assert self.threshold is not None, "a rule without a threshold leaves no row"
        # As many decimals as tell the two apart.
        places = next((n for n in range(4, 17) if f"{sure:.{n}f}" != f"{self.threshold:.{n}f}"), 17)
        return f"{self.score} {sure:.{places}f} is below {self.threshold:.{places}f}"

    def note(self, sure: float, likeliest: str) -> str:
        """What stands beside a row that is left to a person."""
        return f"{_NOT_DECIDED}{self.reason(sure)}{_LIKELIEST}{likeliest}"

    def label_sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Which labels a row may have, bool (n, K); the most probable one is always among them."""
        held: np.ndarray = probabilities >= np.asarray(self.limits)
        held[np.arange(len(held)), probabilities.argmax(axis=1)] = True
        return held


DECIDES_ALL = DecisionRule()


def certainty(probabilities: np.ndarray, score: str) -> np.ndarray:
    """How sure a model is of each row, 0..1, shape (n,).

    `confidence` is the greatest probability, `margin` its distance from the second, and `entropy` is 1 less the entropy
    as a share of the greatest that K classes can have.
    """
    if score == "confidence":
        sure: np.ndarray = probabilities.max(axis=1)
    elif score == "margin":
        two = np.partition(probabilities, -2, axis=1)[:, -2:]
        sure = two[:, 1] - two[:, 0]
    else:
        logs = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
        sure = np.clip(1 + (probabilities * logs).sum(axis=1) / np.log(probabilities.shape[1]), 0.0, 1.0)
    return sure


def threshold_for_accuracy(probabilities: np.ndarray, labels: np.ndarray, score: str, target: float) -> float | None:
    """The least threshold above which the model is right in `target` or more of the rows, for sure enough.

    What is kept grows by one percent of the rows at a time, for as long as the lower end of the exact interval (Clopper
    and Pearson, 1934) of its accuracy reaches the target. Tested in a fixed order up to the first failure, all of them
    hold together at the level of one (Angelopoulos and others, "Learn then test", 2021, with several starts, which
    share the level): 95 %, one-sided.

    Returns:
        None where no threshold shows it.
    """
    sure = certainty(probabilities, score)
    hits = np.cumsum((probabilities.argmax(axis=1) == labels)[np.argsort(-sure, kind="stable")])
    ordered, best = -np.sort(-sure), 0
    for start in _STARTS:
        for percent in range(start, 101):
            # Rows as certain as the last one go with it.
            last = ordered[max(int(np.ceil(percent / 100 * len(sure))), 1) - 1]
            kept = int(np.searchsorted(-ordered, -last, side="right"))
            right = int(hits[kept - 1])
            if not right or betaincinv(right, kept - right + 1, (1 - _CONFIDENCE) / len(_STARTS)) < target:
                break
            best = max(best, kept)
    if best == len(sure):
        return 0.0
    return float(ordered[best - 1]) if best else None


def threshold_for_share(probabilities: np.ndarray, score: str, share: float) -> float:
    """The greatest threshold that leaves `share` of the rows, or fewer, to a person."""
    sure = np.sort(certainty(probabilities, score))
    return float(sure[int(share * len(sure))])


def conformal_limits(probabilities: np.ndarray, labels: np.ndarray, share: float, by_class: bool) -> tuple[float, ...]:
    """The probabilities, by class, from which on labels belong to a row's set, so that `share` of sets hold the label.

    Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error levels", JASA 2019: the share
    is that of all rows, or, by class, of the rows of each class. A class of too few rows to show it is in every set.
    """
    of_label = probabilities[np.arange(len(labels)), labels]
    if not by_class:
        return tuple(_limit(of_label, share) for _ in range(probabilities.shape[1]))
    return tuple(_limit(of_label[labels == place], share) for place in range(int(probabilities.shape[1])))


def _limit(of_label: np.ndarray, share: float) -> float:
    rank = int(np.ceil((len(of_label) + 1) * share))
    return float(-np.sort(-of_label)[rank - 1]) if rank <= len(of_label) else 0.0
