"""The sections about time: whether the model gets worse, and how what comes in changes."""

from __future__ import annotations

from pcc_pipeline.evaluation.page.blocks import Cell, Paragraph, Picture, Range, Section, Table, Verdict
from pcc_pipeline.evaluation.page.facts import Document, EvaluatedFacts


def backtest_section(facts: EvaluatedFacts) -> Section | None:
    """None where no backtest was made."""
    backtest: Document | None = facts.trained.metrics.get("backtest")
    if backtest is None:
        return None
    windows = backtest["windows"]
    rows: list[list[Cell]] = [
        [
            f"{each['starts'][:10]} to {each['ends'][:10]}",
            Verdict("worse", "bad") if each["worse"] else "",
            f"{each['f1_macro']:.3f}",
            Range(each["f1_macro"], *each["f1_macro_interval"]),
            f"{each['accuracy']:.3f}",
            f"{each['f1_macro_trained_once']:.3f}",
            f"{each['rows']:,}",
            f"{each['trained_rows']:,}",
        ]
        for each in windows
    ]
    columns = ["window", "", "macro F1", "95 % interval", "accuracy", "macro F1, trained once", "rows", "trained on"]
    return Section(
        "time",
        "Does it get worse over time?",
        [
            *_verdicts(backtest),
            Paragraph(
                f"{len(windows)} times over, a model with the same hyperparameters was trained on all that came before "
                "a window of time, and measured on the rows in it. These are training and validation rows, no test "
                "rows; a text that had come before a window is left out of it. Later models learned from more rows. "
                '"Trained once" is the model that was trained before the first window and never again.'
            ),
            Table(columns, rows, words=2),
            Picture("score_against_time", "Scores (up) of each window of the backtest, by the time of its messages."),
        ],
    )


def _verdicts(backtest: Document) -> list[Paragraph]:
    windows, retraining = backtest["windows"], backtest["retraining"]
    if len(windows) == 1:
        return []
    worse = [each for each in windows if each["worse"]]
    if windows[-1]["worse"]:
        said = Paragraph(
            "Yes: in the latest window it is right less often than before, by more than chance allows.", "bad"
        )
    elif worse:
        when = ", ".join(f"{each['starts'][:10]} to {each['ends'][:10]}" for each in worse)
        said = Paragraph(
            f"Not lately; but in {when} it was right less often than in the other windows, by more than chance allows.",
            "open",
        )
    else:
        said = Paragraph(f"Nothing shows it: none of {len(windows)} windows is worse than chance allows.", "good")
    gained, lost = retraining["gained"], retraining["lost"]
    counted = f"training again before each window set {gained:,} rows right and {lost:,} wrong"
    if not retraining["differs"]:
        verdict = f"Whether training again pays is not shown: {counted}, no more uneven than chance allows."
    elif gained > lost:
        verdict = f"Training again pays: {counted}."
    else:
        verdict = f"Training again made it worse: {counted}. Look at the newer labels."
    return [said, Paragraph(verdict)]
