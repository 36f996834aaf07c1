"""What a look at a version leaves: metrics by window, a page that needs nothing else, and a note for MLflow.

Labels, names of windows and numbers stand in it; no text, no word and no case id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.as_markdown import marked
from pcc_pipeline.evaluation.page.blocks import (
    Block,
    Bullets,
    Cell,
    Paragraph,
    Picture,
    Range,
    Section,
    Table,
    Tile,
    Tiles,
    Verdict,
)
from pcc_pipeline.evaluation.report import Report
from pcc_pipeline.monitoring.health import WatchedWindow
from pcc_pipeline.monitoring.profile import NOVEL_SHARE, ReferenceProfile
from pcc_pipeline.steps.answering.watched_rows import WatchedRows

PAGE = "monitor.html"
_MOST_WINDOWS = 120


def window_metrics(one: WatchedWindow) -> dict[str, float]:
    """A window's numbers under their names in MLflow; what it does not give is left out."""
    health, observed = one.health, one.observed
    numbers: dict[str, float | None] = {
        "quality/window_rows": one.rows,
        "quality/repeated_share": one.repeated_share,
        "drift/p_value": health.drift.p_value,
        "drift/alarm": float(health.drift.alarm),
        "drift/novel_share": health.novel_share,
        **{f"drift/{name}": value for name, value in health.drift.statistics.items()},
        **{f"drift/{name}_p_value": value for name, value in health.drift.p_values.items()},
        **{f"estimated/accuracy{end}": getattr(health.estimate, name) for end, name in _ESTIMATED.items()},
        "estimated/upper_bound": float(health.estimate.upper_bound),
    }
    if observed is not None:
        numbers |= {
            "observed/window_rows": observed.rows,
            "observed/window_accuracy": observed.accuracy,
            "observed/window_accuracy_low": observed.low,
            "observed/window_accuracy_high": observed.high,
            "observed/alarm": float(one.less_right),
            "estimated/off": health.estimate.value - observed.accuracy,
        }
    return {name: float(value) for name, value in numbers.items() if value is not None and value == value}


_ESTIMATED = {"": "value", "_low": "low", "_high": "high", "_doc": "doc", "_reference": "reference"}


def monitor_page(
    profile: ReferenceProfile,
    watched: Sequence[WatchedWindow],
    alarms: Sequence[str],
    observed: Report | None,
    rows: WatchedRows,
    now: datetime,
    rate: float,
    pictures: Mapping[str, bytes],
) -> str:
    """The page."""
    last = watched[-1]
    sections = [
        Section("state", "Is anything wrong", _state(last, alarms, rows)),
        Section("windows", "Window by window", [_table(watched), *_pictures()]),
        Section("causes", "What has changed in the last window", [_causes(last)]),
        *([] if observed is None else [Section("observed", "What labels show", [_by_label(observed)])]),
        Section("words", "How it is judged", [_words(profile, rate)]),
    ]
    title = f"{profile.model_version}: {'something is wrong' if alarms else 'nothing is wrong'}"
    return to_html(title, f"looked at on {now:%Y-%m-%d %H:%M} UTC, {len(rows):,} rows", sections, pictures)


def monitor_note(profile: ReferenceProfile, watched: Sequence[WatchedWindow], alarms: Sequence[str]) -> str:
    """What a person reads first on the run's page."""
    last = watched[-1]
    said = [f"- **{marked(alarm)}**" for alarm in alarms] or ["- nothing is wrong"]
    return "\n".join(
        [
            f"Watched {profile.model_version}: {len(watched)} windows, the last is {marked(last.name)}.",
            "",
            *said,
            f"- estimated accuracy of the last window {_estimated(last)}",
            "",
            f"The page is the artifact {PAGE}; the course of `drift/…` and `estimated/…` is under Model metrics.",
        ]
    )


def _state(last: WatchedWindow, alarms: Sequence[str], rows: WatchedRows) -> list[Block]:
    drift, estimate = last.health.drift, last.health.estimate
    said = [Paragraph(alarm, "bad") for alarm in alarms] or [Paragraph("Nothing is wrong.", "good")]
    novel = last.health.novel_share
    tiles = [
        Tile("chance of such a change", _p(drift.p_value), last.name),
        Tile("estimated accuracy", _estimated(last), f"{estimate.low:.3f} to {estimate.high:.3f}"),
        Tile("accuracy of the reference", f"{estimate.reference:.3f}", "on rows that it did not learn"),
        *([] if novel is None else [Tile("novel rows", f"{novel:.1%}", f"{NOVEL_SHARE:.0%} of the reference rows")]),
        Tile("rejected rows", f"{rows.rejected:,}", f"of {rows.total:,}"),
    ]
    return [*said, Tiles(tiles)]


def _estimated(one: WatchedWindow) -> str:
    return f"{'at most ' if one.health.estimate.upper_bound else ''}{one.health.estimate.value:.3f}"


def _p(value: float) -> str:
    return "too few rows" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(watched: Sequence[WatchedWindow]) -> Table:
    columns = [
        "window",
        "state",
        "rows",
        "chance of such a change",
        "novel rows",
        "estimated",
        "95 % interval",
        "observed",
    ]
    lines: list[list[Cell]] = []
    for one in watched[-_MOST_WINDOWS:]:
        estimate, novel = one.health.estimate, one.health.novel_share
        seen = "" if one.observed is None else f"{one.observed.accuracy:.3f} of {one.observed.rows:,}"
        lines.append(
            [
                one.name,
                Verdict("changed", "bad") if one.health.drift.alarm else Verdict("as before", "good"),
                f"{one.rows:,}",
                _p(one.health.drift.p_value),
                "" if novel is None else f"{novel:.1%}",
                _estimated(one),
                Range(estimate.value, estimate.low, estimate.high),
                seen,
            ]
        )
    return Table(columns, lines, words=2)


def _pictures() -> list[Block]:
    return [
        Picture("drift_by_window", "The chance of such a change by window, and the share of novel rows."),
        Picture("accuracy_by_window", "Accuracy by window: estimated, of the reference, and what labels show."),
    ]


_MEANINGS = {
    "labels": "shares of the predicted labels",
    "probabilities": "probabilities of the labels",
    "confidence": "the model is less sure",
    "novelty": "rows are less like what it learned",
    "unknown_terms": "more terms that no training text has",
    "length": "lengths of the texts",
    "vectors": "where the texts lie in the space of vectors",
}


def _causes(last: WatchedWindow) -> Table:
    drift = last.health.drift
    ordered = sorted(drift.p_values, key=lambda name: drift.p_values[name])
    lines: list[list[Cell]] = [
        [_MEANINGS[name], _p(drift.p_values[name]), Verdict("a cause", "bad") if name in drift.causes else ""]
        for name in ordered
    ]
    return Table(["what is compared", "chance of such a difference, alone", ""], lines)


def _by_label(observed: Report) -> Table:
    lines: list[list[Cell]] = []
    for score, interval in zip(observed.by_class, observed.class_intervals, strict=True):
        low, high = interval["f1"]
        lines.append([score.label, f"{score.support:,}", f"{score.f1:.3f}", Range(score.f1, low, high)])
    head: list[Cell] = ["all labels, macro", f"{observed.n_rows:,}", f"{observed.scores['f1_macro']:.3f}"]
    return Table(
        ["label", "rows", "F1", "95 % interval"],
        [[*head, Range(observed.scores["f1_macro"], *observed.intervals["f1_macro"])], *lines],
    )


def _words(profile: ReferenceProfile, rate: float) -> Bullets:
    from_rows = "test rows" if profile.source == "test" else "validation rows"
    return Bullets(
        [
            f"Each window is compared with {profile.rows:,} {from_rows} that {profile.model_version} did not learn. "
            "What chance makes of a window of its size is known from drawing rows; "
            f"{rate:.0%} of quiet windows are alarms.",
            "Of rows with the same text, one counts where it is asked whether messages have changed.",
            "Estimated accuracy needs no labels: the share of rows surer than a threshold at which the reference is "
            "right so often (ATC). Its interval holds a second estimate too (DoC). Where messages are new or have "
            "changed it may be too high, and is written as `at most`.",
            f"A row is novel that is less like what was learned than {1 - NOVEL_SHARE:.0%} of the reference rows.",
            "The page holds numbers and labels, and nothing that a customer wrote.",
        ]
    )
