"""The sections about time: whether the model gets worse, how what comes in changes, and what did since the champion."""

from __future__ import annotations

from collections.abc import Sequence

from pcc_pipeline.evaluation.over_time.since_champion import Difference
from pcc_pipeline.evaluation.page.blocks import Block, Cell, Paragraph, Picture, Section, Table, Verdict
from pcc_pipeline.evaluation.page.facts import Document, EvaluatedFacts, TrainedFacts, cut, listed

_LONGEST_LABEL, _MOST_CHANGED = 80, 10
_KINDS = {"weekly": "weekly pattern", "trend": "trend", "break": "break"}


def backtest_section(facts: EvaluatedFacts) -> Section | None:
    """None where no backtest was made."""
    backtest: Document | None = facts.trained.metrics.get("backtest")
    if backtest is None:
        return None
    windows = backtest["windows"]
    rows: list[list[Cell]] = [
        [
            each["starts"][:10],
            each["ends"][:10],
            Verdict("worse", "bad") if each["worse"] else "",
            f"{each['f1_macro']:.3f}",
            "{:.3f} to {:.3f}".format(*each["f1_macro_interval"]),
            f"{each['accuracy']:.3f}",
            f"{each['f1_macro_trained_once']:.3f}",
            f"{each['rows']:,}",
            f"{each['trained_rows']:,}",
        ]
        for each in windows
    ]
    columns = ["from", "to", "", "macro F1", "95 % interval", "accuracy", "trained once", "rows", "trained on"]
    return Section(
        "time",
        "Does it get worse over time?",
        [
            *_verdicts(backtest),
            Paragraph(
                f"{len(windows)} times over, a model with the same hyperparameters was trained on all that came before "
                "a window of time, and measured on the rows in it. These are training and validation rows, no test "
                "rows, and the hyperparameters were chosen with all of them in view; a text that had come before a "
                "window is left out of it. Later models learned from more rows. "
                '"Trained once" is the macro F1 of the model that was trained before the first window and never again.'
            ),
            Table(columns, rows, words=3),
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


def volumes_section(facts: EvaluatedFacts) -> Section | None:
    """None where the data has no times."""
    counted: Document | None = facts.trained.metrics.get("volumes")
    if counted is None:
        return None
    rows: list[list[Cell]] = [
        [
            "messages a day" if each["label"] is None else f"share of {cut(str(each['label']), _LONGEST_LABEL)}",
            _KINDS[each["kind"]],
            each["when"],
            _level(each, "before"),
            _level(each, "after"),
        ]
        for each in counted["findings"]
    ]
    days = len(counted["by_day"])
    said = (
        f"{counted['rows']:,} messages of {cut(facts.trained.learned_from, _LONGEST_LABEL)}, from "
        f"{counted['first_day']} to {counted['last_day']} (UTC): {counted['rows'] / days:.1f} a day in the mean."
    )
    for name, what in (("rows_without_time", "have no time"), ("rows_outside", "lie years apart from the others")):
        if counted[name]:
            said += f" {counted[name]:,} more {what} and are left out."
    table = [Table(["of", "", "when", "from", "to"], rows, words=3)] if rows else []
    picture = Picture(
        "volumes_over_time",
        "Messages by day, shares of up to six labels by week, messages by weekday and hour; dashed lines are breaks.",
    )
    return Section("messages", "The messages over time", [Paragraph(said), _patterns(counted), *table, picture])


def _patterns(counted: Document) -> Paragraph:
    tests, findings = counted["tests"], counted["findings"]
    if not tests:
        return Paragraph("These are too few days to look for a weekly pattern, a trend or breaks; 28 would do.")
    looked = f"{tests} tests of weekly patterns and changes"
    if not findings:
        return Paragraph(f"None of {looked} shows more than chance allows.")
    changed = any(each["kind"] != "weekly" for each in findings)
    advice = " Where a level changes, look at whether the messages before still are what comes in." if changed else ""
    return Paragraph(f"By {looked}, what stands here is more than chance allows.{advice}")


def _level(finding: Document, end: str) -> str:
    return f"{finding[end]:,.1f}" if finding["label"] is None else f"{finding[end]:.1%}"


def since_champion_section(facts: EvaluatedFacts) -> Section | None:
    """None while there is no champion."""
    since = facts.since_champion
    if since is None:
        return None
    name, title = "data", "What changed since the champion learned"
    if since.learned is None:
        text = "What the champion's training left on record is not at hand, so nothing can be compared with it."
        return Section(name, title, [Paragraph(text)])
    blocks: list[Block] = []
    if since.training is None and not (facts.champion is not None and facts.champion.is_this):
        blocks.append(Paragraph("This version learned the very rows that the champion learned."))
    rows: list[list[Cell]] = []
    for part, of in ((since.training, "learned"), (since.test, "test")):
        if part is None:
            continue
        blocks.append(_said_of(part, {"learned": "rows that it learned", "test": "test rows"}[of]))
        rows += [
            [of, f"{each.kind} {cut(each.value, _LONGEST_LABEL)}", f"{each.before:.1%}", f"{each.now:.1%}"]
            for each in part.changed[:_MOST_CHANGED]
        ]
    if rows:
        blocks.append(Table(["rows", "share of", "champion", "here"], rows, words=2))
    blocks.append(
        Paragraph(
            "Compared are counts that trainings leave on record, share by share; whether people say other things in "
            "the same labels and lengths is not."
        )
    )
    compared = [part for part in (since.training, since.test) if part is not None]
    if any(not part.lengths for part in compared):
        blocks.append(Paragraph("The champion's training is of an earlier release, which kept no lengths of texts."))
    if not (facts.champion is not None and facts.champion.is_this):
        blocks.append(_files_table(since.learned, facts.trained))
    return Section(name, title, blocks)


def _said_of(part: Difference, what: str) -> Paragraph:
    differences = [
        f"labels that the champion never learned: {_named(part.new)}" * bool(part.new),
        f"labels without a row: {_named(part.gone)}" * bool(part.gone),
        f"{len(part.changed)} of {part.looked_at} shares (of labels{' and of lengths' * part.lengths}) differ by more "
        "than chance allows" * bool(part.changed),
    ]
    said = "; ".join(filter(None, differences))
    begun = f"{part.rows_now:,} {what}, beside {part.rows_before:,} that the champion learned"
    if not said:
        alike = "labels and lengths are" if part.lengths else "labels are"
        return Paragraph(f"{begun}: {alike} shared out alike, as far as chance lets one tell.")
    return Paragraph(f"{begun}: {said}.", "open")


def _named(labels: Sequence[str]) -> str:
    return listed([cut(label, _LONGEST_LABEL) for label in labels])


def _files_table(theirs: TrainedFacts, ours: TrainedFacts) -> Table:
    """What both files are like, as their trainings found them."""
    both = (theirs, ours)
    rows: list[list[Cell]] = [
        ["file", *(cut(each.learned_from, _LONGEST_LABEL) for each in both)],
        ["good rows", *(f"{each.metrics['data']['rows']:,}" for each in both)],
        ["messages from", *(_days(each.metrics.get("volumes")) for each in both)],
    ]
    for title, key in (
        ("rejected rows", "rejected_rows"),
        ("rows that repeat a text", "duplicate_rows"),
        ("texts with two labels", "conflicting_texts"),
    ):
        counts = [each.metrics["data"].get(key) for each in both]
        rows.append([title, *("not on record" if count is None else f"{count:,}" for count in counts)])
    return Table(["", "champion's training", "this training"], rows, words=1)


def _days(volumes: Document | None) -> str:
    return "no times" if volumes is None else f"{volumes['first_day']} to {volumes['last_day']}"
