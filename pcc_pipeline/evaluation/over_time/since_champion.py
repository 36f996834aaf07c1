"""How rows differ from those that the champion learned: in the shares of labels, and in how long their texts are.

From counts alone, as a training leaves them on record: nothing of a single message is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pcc_pipeline.evaluation.intervals.chances import beyond_chance, fewer_hits_chance


@dataclass(frozen=True)
class RowCounts:
    """Rows by label and by range of text length; no lengths where they are not on record."""

    labels: Mapping[str, int]
    lengths: Mapping[str, int]


@dataclass(frozen=True)
class ChangedShare:
    """A label, or a range of characters, whose share of the rows differs by more than chance allows.

    Attributes:
        kind: `label` or `length`.
        before, now: the shares, 0..1.
    """

    kind: str
    value: str
    before: float
    now: float


@dataclass(frozen=True)
class Difference:
    """Rows beside those that the champion learned.

    Attributes:
        rows_before, rows_now: how many each are.
        new, gone: labels that only one of them has.
        changed: the greatest change first.
        looked_at: how many shares were compared; `lengths` says whether those of lengths were among them.
    """

    rows_before: int
    rows_now: int
    new: tuple[str, ...]
    gone: tuple[str, ...]
    changed: tuple[ChangedShare, ...]
    looked_at: int
    lengths: bool

    def to_json(self) -> dict[str, Any]:
        """For metrics.json."""
        return asdict(self)


def difference(before: RowCounts, now: RowCounts) -> Difference | None:
    """Compare rows with those of the champion's training; None where either are none.

    Each share is compared by Fisher's exact test, two-sided as twice the smaller tail, after Holm's correction for all
    that are compared: where both sets of rows are drawn alike, anything is named in 5 % of cases. Rows that stand in
    both make it rarer, and texts that repeat make it more frequent.
    """
    rows_before, rows_now = sum(before.labels.values()), sum(now.labels.values())
    if not rows_before or not rows_now:
        return None
    shares: dict[tuple[str, str], tuple[float, float]] = {}
    chances = {}
    for kind, earlier, later in (("label", before.labels, now.labels), ("length", before.lengths, now.lengths)):
        totals = sum(earlier.values()), sum(later.values())
        if not all(totals):
            continue
        for value in sorted({*earlier, *later}):
            hits = earlier.get(value, 0), later.get(value, 0)
            tails = [fewer_hits_chance(hits[side], totals[side], sum(hits), sum(totals)) for side in (0, 1)]
            chances[kind, value] = min(2 * min(tails), 1.0)
            shares[kind, value] = hits[0] / totals[0], hits[1] / totals[1]
    changed = [ChangedShare(*key, *shares[key]) for key in beyond_chance(chances)]
    labels_before, labels_now = ({label for label, count in each.labels.items() if count} for each in (before, now))
    return Difference(
        rows_before,
        rows_now,
        tuple(sorted(labels_now - labels_before)),
        tuple(sorted(labels_before - labels_now)),
        tuple(sorted(changed, key=lambda each: (-abs(each.now - each.before), each.kind, each.value))),
        len(chances),
        any(kind == "length" for kind, _ in chances),
    )
