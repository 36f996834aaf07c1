"""What in a result should make its reader doubt it (rule 5 of honest measurement)."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.evaluation.report import Report

TOO_GOOD = 0.995
WIDEST_GAP = 0.1
# A smaller share of near-duplicates moves no score by as much as its own interval.
MOST_REPEATED = 0.01
_MOST_NAMED = 10


def warnings(
    train: Report | None,
    held_out: Report,
    *,
    duplicates: int = 0,
    conflicts: int = 0,
    repeated: int = 0,
    compared: int = 0,
    too_good: float = TOO_GOOD,
    widest_gap: float = WIDEST_GAP,
) -> tuple[str, ...]:
    """One sentence or two for each doubt: what is odd, and what to look at. Empty when there is none.

    Args:
        train: None where the training rows were not scored.
        held_out: validation or test.
        duplicates: rows of the data whose text stands in an earlier row too.
        conflicts: texts that stand in the data with more than one label.
        repeated, compared: held-out rows that a training row repeats but for a detail, and those looked at.
        too_good: a held-out accuracy or F1 above this is doubted.
        widest_gap: a training macro F1 further above the held-out one is doubted.
    """
    where, found = held_out.split, []
    # Beyond two classes `f1` is the macro F1, and would be said twice.
    names = ("accuracy", "f1_macro", "f1_weighted") + (("f1",) if len(held_out.classes) == 2 else ())
    high = [f"{name} {held_out.scores[name]:.4f}" for name in names if held_out.scores[name] > too_good]
    if high:
        found.append(
            f"The {where} score is too good to believe unseen ({', '.join(high)}; over {too_good}). Look for texts "
            "that stand on both sides of the split in other words, and for a column that gives the label away."
        )
    if train is not None and (gap := train.scores["f1_macro"] - held_out.scores["f1_macro"]) > widest_gap:
        found.append(
            f"Macro F1 is {train.scores['f1_macro']:.3f} on {train.split} and {held_out.scores['f1_macro']:.3f} on "
            f"{where}: the model overfits its training rows (gap {gap:.3f}, over {widest_gap}). Look at "
            "stronger regularisation, a simpler classifier or more rows."
        )
    if held_out.unknown_labels:
        rows = sum(held_out.unknown_labels.values())
        found.append(
            f"{rows:,} of {held_out.n_rows:,} {where} rows have a label that the model does not know and count as "
            f"errors: {_named(sorted(held_out.unknown_labels))}. Look for misspelt labels, or train on data that has "
            "them."
        )
    if held_out.never_predicted:
        found.append(
            f"Classes with {where} rows that are never predicted: {len(held_out.never_predicted)} "
            f"({_named(held_out.never_predicted)}). Look at how many training rows they have, and at class weights."
        )
    absent = [score.label for score in held_out.by_class if score.support == 0]
    if absent:
        found.append(
            f"Classes without {where} rows, of which nothing is measured: {len(absent)} "
            f"({_named(absent)}). Look at the split's size, and whether it is stratified."
        )
    if duplicates:
        found.append(
            f"{duplicates:,} rows repeat the text of another row. They stay on one side of the split but weigh more "
            "than once; look at whether the data was joined or exported twice."
        )
    if conflicts:
        found.append(
            f"{conflicts:,} texts stand in the data with more than one label, so no model can get them all right. "
            "Look at how they were labelled."
        )
    if repeated > MOST_REPEATED * compared:
        found.append(
            f"{repeated:,} of {compared:,} held-out rows repeat a training row but for accents, the order of words or "
            "one word more or less, so their scores show what was remembered. Name a data.group_column that keeps "
            "such messages together, or leave the copies out."
        )
    return tuple(found)


def _named(labels: Sequence[str]) -> str:
    """The labels, at most ten of them by name."""
    more = len(labels) - _MOST_NAMED
    return ", ".join(labels[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
