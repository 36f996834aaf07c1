"""What in a result should make its reader doubt it (rule 5 of honest measurement)."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.data.quality.counts import DuplicateReport
from pcc_pipeline.data.quality.near_duplicates import NearDuplicates
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
    quality: DuplicateReport | None = None,
    near: NearDuplicates | None = None,
    only_tested: Sequence[str] = (),
) -> tuple[str, ...]:
    """One sentence or two for each doubt: what is odd, and what to look at. Empty when there is none.

    Args:
        train: None where the training rows were not scored.
        held_out: validation or test.
        quality: rows and labels that stand in the data more than once; None where it was not looked at.
        near: held-out rows that a training row repeats but for a detail; None where they were not compared.
        only_tested: labels that stand among the test rows alone.

    A held-out accuracy or F1 above `TOO_GOOD` is doubted, and a training macro F1 further than `WIDEST_GAP` above the
    held-out one.
    """
    where, doubts = held_out.split, list[str]()
    # Beyond two classes `f1` is the macro F1, and would be said twice.
    names = ("accuracy", "f1_macro", "f1_weighted") + (("f1",) if len(held_out.classes) == 2 else ())
    high = [f"{name} {held_out.scores[name]:.4f}" for name in names if held_out.scores[name] > TOO_GOOD]
    if high:
        doubts.append(
            f"The {where} score is too good to believe unseen ({', '.join(high)}; over {TOO_GOOD}). Look for texts "
            "that stand on both sides of the split in other words, and for a column that gives the label away."
        )
    if train is not None and (gap := train.scores["f1_macro"] - held_out.scores["f1_macro"]) > WIDEST_GAP:
        doubts.append(
            f"Macro F1 is {train.scores['f1_macro']:.3f} on {train.split} and {held_out.scores['f1_macro']:.3f} on "
            f"{where}: the model overfits its training rows (gap {gap:.3f}, over {WIDEST_GAP}). Look at "
            "stronger regularisation, a simpler classifier or more rows."
        )
    if held_out.unknown_labels:
        rows = sum(held_out.unknown_labels.values())
        doubts.append(
            f"{rows:,} of {held_out.n_rows:,} {where} rows have a label that the model does not know and count as "
            f"errors: {_named(sorted(held_out.unknown_labels))}. Look for misspelt labels, or train on data that has "
            "them."
        )
    if held_out.never_predicted:
        doubts.append(
            f"Classes with {where} rows that are never predicted: {len(held_out.never_predicted)} "
            f"({_named(held_out.never_predicted)}). Look at how many training rows they have, and at class weights."
        )
    absent = [score.label for score in held_out.by_class if score.support == 0]
    if absent:
        doubts.append(
            f"Classes without {where} rows, of which nothing is measured: {len(absent)} "
            f"({_named(absent)}). Look at the split's size, and whether it is stratified."
        )
    if only_tested:
        doubts.append(
            f"Classes with test rows alone, which the model cannot learn: {len(only_tested)} ({_named(only_tested)}). "
            "They are too small for this split; give more rows of them, or set data.split: random, which keeps the "
            "smallest classes for training."
        )
    if quality is not None and quality.duplicate_rows:
        doubts.append(
            f"{quality.duplicate_rows:,} rows repeat the text of another row, but for case, marks and blanks. They "
            "stay on one side of the split but weigh more than once; look at whether the data was joined or exported "
            "twice."
        )
    if quality is not None and quality.conflicting_texts:
        doubts.append(
            f"Texts that stand in the data with more than one label: {quality.conflicting_texts:,}. No model can get "
            "all their rows right; look at how they were labelled."
        )
    if near is not None and near.repeated > MOST_REPEATED * near.looked_at:
        doubts.append(
            f"{near.repeated:,} of {near.looked_at:,} held-out rows repeat a training row but for accents, "
            "the order of words or one word more or less, so their scores show what was remembered. Name a "
            "data.group_column that keeps such messages together, or leave the copies out."
        )
    return tuple(doubts)


def _named(labels: Sequence[str]) -> str:
    """The labels, at most ten of them by name."""
    more = len(labels) - _MOST_NAMED
    return ", ".join(labels[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
