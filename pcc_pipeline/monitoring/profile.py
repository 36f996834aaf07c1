"""A version's reference profile: what its messages, its answers and its errors are like while nothing has changed.

It holds numbers only: shares, edges, means of many rows and what chance makes of them; no text, no word and no vector
of a message. It is all that watching a version needs besides the file to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pcc_pipeline.monitoring.change.drift import Chance, Drift, drift
from pcc_pipeline.monitoring.change.learned_space import LearnedSpace
from pcc_pipeline.monitoring.change.signals import Signals
from pcc_pipeline.monitoring.change.sketches import PROBABILITIES, Sketch, Sketcher
from pcc_pipeline.monitoring.estimates import Estimate, Estimators, estimate
from pcc_pipeline.monitoring.usual import Usual

# Of more rows, drawn ones are sketched: what they say is sharp enough, and training should hardly take longer.
_MOST_ROWS = 2000
# The share of reference rows that count as novel.
NOVEL_SHARE = 0.05
# An estimate is called an upper bound once messages have changed, and where novelty is up well before that: new labels
# show in it first, and to be warned without need costs little.
_CHANGED, _DOUBTFUL = 0.05, 0.2
# Fewer say too little of what chance makes.
FEWEST_REFERENCE_ROWS = 20


@dataclass(frozen=True)
class ReferenceProfile:
    """A version's profile.

    Attributes:
        model_version, encoder_digest, classes: the version's.
        source: the rows that it is about: `validation`, or `test` with the model as it answers now.
        rows: how many were sketched; `reference` is their sketch.
        novel_above: novelty of a row that counts as novel; None where rows have no novelty.
        confusion: rows by true and by predicted label, (K + 1, K), the last row for labels never learned.
        figures: counts of the file that the rows stand in: name -> value.
        usual: what is usual of that file besides the messages' meaning; None in profiles of earlier releases.
        since: the day from which on rows were taken, as 2026-11-02, where older ones are unlike the newest; else None.
    """

    model_version: str
    encoder_digest: str
    classes: tuple[str, ...]
    source: str
    space: LearnedSpace
    sketcher: Sketcher
    reference: Sketch
    rows: int
    chance: Chance
    estimators: Estimators
    novel_above: float | None
    confusion: np.ndarray
    figures: Mapping[str, float] = field(default_factory=dict)
    usual: Usual | None = None
    since: str | None = None

    def novel(self, signals: Signals) -> np.ndarray | None:
        """Which rows are unlike what the model learned, (n,) bool; None where the file does not give enough."""
        novelty = self.sketcher.novelty(signals)
        return None if novelty is None or self.novel_above is None else novelty > self.novel_above

    def watch(self, signals: Signals, rate: float) -> WindowHealth:
        """What there is to say of one window of rows without labels; `rate` is of false alarms."""
        verdict = drift(self.reference, self.rows, self.sketcher.sketch(signals), len(signals), self.chance, rate)
        novel = self.novel(signals)
        novelty = verdict.p_values.get("novelty", verdict.p_value)
        up = not (verdict.p_value > _CHANGED and novelty > _DOUBTFUL)  # also where too few rows give neither
        return WindowHealth(
            verdict,
            None if novel is None else float(novel.mean()),
            estimate(self.estimators, signals.confidence, upper_bound=up),
        )


@dataclass(frozen=True)
class WindowHealth:
    """One window: whether messages have changed, the share of novel rows, and the accuracy that is likely."""

    drift: Drift
    novel_share: float | None
    estimate: Estimate

    def without_verdict(self) -> WindowHealth:
        """Of rows that the model learned: of these it is too sure, and the estimate is an upper bound."""
        return WindowHealth(
            Drift(0, {}, {}, float("nan"), False), self.novel_share, replace(self.estimate, upper_bound=True)
        )


@dataclass(frozen=True)
class Origin:
    """What a profile is made of besides rows.

    Attributes:
        space: of the rows that the model learned.
        classes, model_version, encoder_digest, source, figures, usual, since: as in the profile.
        exact: whether the model that answered is the one that will. Else, since a model that learned more rows is
            surer of itself, no test of the probabilities is kept that would take that for a change.
        seed: of what is drawn.
    """

    space: LearnedSpace
    classes: Sequence[str]
    model_version: str
    encoder_digest: str
    source: str
    exact: bool
    seed: int
    figures: Mapping[str, float] = field(default_factory=dict)
    usual: Usual | None = None
    since: str | None = None


def make_profile(
    signals: Signals, labels: np.ndarray, different: np.ndarray, origin: Origin
) -> ReferenceProfile | None:
    """The profile from held-out rows; None where there are too few of them.

    Args:
        signals: of rows (n) that the model did not learn.
        labels: their class indices, (n,); -1 for a label that it never learned.
        different: positions of rows with different texts: a text that stands a hundred times is one piece of evidence.
    """
    classes, seed = origin.classes, origin.seed
    if len(different) < FEWEST_REFERENCE_ROWS:
        return None
    if len(different) > _MOST_ROWS:
        different = np.sort(np.random.default_rng(seed).choice(different, _MOST_ROWS, replace=False))
    shown = signals.take(different)
    sketcher = Sketcher.of(shown, len(classes))
    novelty = sketcher.novelty(shown)
    chance = Chance.drawn(shown, sketcher, seed)
    if not origin.exact:
        chance = chance.without(PROBABILITIES)
    confusion = np.zeros((len(classes) + 1, len(classes)), dtype=np.int64)
    np.add.at(confusion, (labels, signals.predicted), 1)  # -1 is the last row
    return ReferenceProfile(
        model_version=origin.model_version,
        encoder_digest=origin.encoder_digest,
        classes=tuple(classes),
        source=origin.source,
        space=origin.space,
        sketcher=sketcher,
        reference={name: block.astype(np.float32).astype(np.float64) for name, block in sketcher.sketch(shown).items()},
        rows=len(shown),
        chance=chance,
        estimators=Estimators.of(signals.confidence, labels == signals.predicted),
        novel_above=None if novelty is None else float(np.quantile(novelty, 1 - NOVEL_SHARE)),
        confusion=confusion,
        figures=dict(origin.figures),
        usual=origin.usual,
        since=origin.since,
    )
