"""What a look at a version leaves: metrics by window, a page that needs nothing else, and a note for MLflow.

Labels, names of windows and numbers stand in it; no text, no word and no case id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pcc_pipeline.config.schema import MonitoringParams
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
from pcc_pipeline.monitoring.change.drift import PLAIN
from pcc_pipeline.monitoring.estimates import Estimate
from pcc_pipeline.monitoring.health import CALM, FileQuality, Observed, WatchedWindow, calm
from pcc_pipeline.monitoring.operation import Log, shown_version
from pcc_pipeline.monitoring.profile import NOVEL_SHARE, ReferenceProfile
from pcc_pipeline.monitoring.usual import Figure
from pcc_pipeline.plurals import counted

PAGE = "monitor.html"
_MOST_WINDOWS = 120
_MOST_STEPS = 60


@dataclass(frozen=True)
class Look:
    """One look at a version, as it is told.

    Attributes:
        rows, total: good rows, and all of the file.
    """

    profile: ReferenceProfile
    watched: Sequence[WatchedWindow]
    file: FileQuality
    log: Log | None
    alarms: Sequence[str]
    observed: Report | None
    rows: int
    total: int
    now: datetime
    options: MonitoringParams

    @property
    def last(self) -> WatchedWindow:
        return self.watched[-1]


def window_metrics(one: WatchedWindow) -> dict[str, float]:
    """A window's numbers under their names in MLflow; what it does not give is left out."""
    health, observed = one.health, one.observed
    numbers: dict[str, float | None] = {
        "quality/window_rows": one.rows,
        "quality/repeated_share": one.repeated_share,
        "quality/median_length": one.median_length,
        "drift/p_value": health.drift.p_value,
        "drift/alarm": float(health.drift.alarm) if one.judged else None,
        "drift/novel_share": health.novel_share,
        **{f"drift/{name}": value for name, value in health.drift.statistics.items()},
        **{f"drift/{name}_p_value": value for name, value in health.drift.p_values.items()},
        **{f"estimated/accuracy{end}": getattr(health.estimate, name) for end, name in _ESTIMATED.items()},
        "estimated/upper_bound": float(health.estimate.upper_bound),
    }
    for figure in one.quality:
        numbers |= {f"quality/{figure.name}": figure.value, f"quality/usual/{figure.name}": figure.usual}
    if one.quality:
        numbers["quality/alarm"] = float(any(figure.unusual for figure in one.quality))
    if one.volume is not None:
        numbers |= {
            "quality/whole_days_rows": one.volume.value,
            "quality/usual/whole_days_rows": one.volume.usual,
            "quality/volume_p_value": one.volume.p_value,
            "quality/volume_alarm": float(one.volume.unusual),
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


def label_lines(watched: Sequence[WatchedWindow]) -> list[str]:
    """What labels show, for the summary: all rows, each of several windows, and labels that the model does not know."""
    whole = Observed.together(watched)
    if whole is None:
        return []
    seen = [(one.name, one.observed) for one in watched if one.observed is not None]
    by_window = [f"{name}: {each.words} ({each.low:.3f} to {each.high:.3f})" for name, each in seen]
    return [
        f"right, by labels: {whole.words} ({whole.low:.3f} to {whole.high:.3f})",
        *(by_window if len(seen) > 1 else []),
        *([whole.unknown_words] if whole.unknown else []),
    ]


def file_metrics(file: FileQuality) -> dict[str, float]:
    """The file's numbers under their names in MLflow."""
    numbers = {"quality/absent_columns": float(len(file.absent)), "quality/file_alarm": float(bool(file.alarms))}
    for figure in (file.rejected, file.age):
        if figure is not None:
            numbers[f"quality/{figure.name}"] = figure.value
            if figure.usual is not None:
                numbers[f"quality/usual/{figure.name}"] = figure.usual
    return numbers


_ESTIMATED = {"": "value", "_low": "low", "_high": "high", "_doc": "doc", "_reference": "reference"}


def monitor_page(look: Look, pictures: Mapping[str, bytes]) -> str:
    """The page."""
    observed = look.observed
    sections = [
        Section("state", "Is anything wrong", _state(look)),
        Section("windows", "Window by window", [_table(look.watched), *_pictures()]),
        Section("causes", "What has changed in the last window", [_causes(look.last)]),
        Section("quality", "What the file and the last window are like", _quality(look)),
        *([] if look.log is None else [Section("operation", "How it runs", _operation(look, look.log))]),
        *([] if observed is None else [Section("observed", "What labels show", [_by_label(observed)])]),
        Section("words", "How it is judged", [_words(look)]),
    ]
    title = f"{look.profile.model_version}: {'something is wrong' if look.alarms else calm(look.watched)}"
    return to_html(
        title, f"looked at on {look.now:%Y-%m-%d %H:%M} UTC, {counted(look.rows, 'row')}", sections, pictures
    )


def monitor_note(look: Look) -> str:
    """What a person reads first on the run's page."""
    last = look.last
    said = [f"- **{marked(alarm)}**" for alarm in look.alarms] or [f"- {calm(look.watched)}"]
    windows = counted(len(look.watched), "window")
    return "\n".join(
        [
            f"Watched {look.profile.model_version}: {windows}, the last is {marked(last.name)}.",
            "",
            *said,
            f"- estimated accuracy of the last window {last.health.estimate.words}",
            *(f"- {marked(line)}" for line in label_lines(look.watched)),
            "",
            f"The page is the artifact {PAGE}; the course of `drift/…`, `estimated/…` and, with labels, "
            "`observed/window_accuracy` is under Model metrics.",
            *_steps(look.watched),
        ]
    )


def _steps(watched: Sequence[WatchedWindow]) -> list[str]:
    """Which window each step of MLflow's charts is, where there are several."""
    if len(watched) == 1:
        return []
    named = [f"step {place}: {marked(one.name)}" for place, one in enumerate(watched)]
    if (more := len(named) - _MOST_STEPS) > 0:
        named = [*named[: _MOST_STEPS - 1], f"… and {counted(more, 'step')} before the last", named[-1]]
    return ["", "Its charts count windows:", "", *(f"- {line}" for line in named)]


def _state(look: Look) -> list[Block]:
    last = look.last
    drift, estimate = last.health.drift, last.health.estimate
    said = [Paragraph(alarm, "bad") for alarm in look.alarms] or [_calm(look)]
    novel, labelled = last.health.novel_share, Observed.together(look.watched)
    tiles = [
        Tile("chance of such a change", _p(drift.p_value), last.name),
        Tile("estimated accuracy", estimate.text, _estimate_detail(estimate)),
        *([] if labelled is None else [_labelled(labelled)]),
        Tile("accuracy of the reference", f"{estimate.reference:.3f}", _reference(look.profile)),
        *([] if novel is None else [Tile("novel rows", f"{novel:.1%}", f"{NOVEL_SHARE:.0%} of the reference rows")]),
        Tile("rejected rows", f"{look.total - look.rows:,}", f"of {look.total:,}"),
    ]
    if labelled is not None and labelled.unknown:
        said.append(Paragraph(f"{labelled.unknown_words}.", "open"))
    return [*said, Tiles(tiles)]


def _reference(profile: ReferenceProfile) -> str:
    rows = f"on {counted(profile.rows, 'row')} that it did not learn"
    return rows if profile.since is None else f"{rows}, since {profile.since}: older ones are unlike them"


def _calm(look: Look) -> Paragraph:
    words = calm(look.watched)
    return Paragraph(f"{words[0].upper()}{words[1:]}.", "good" if words == CALM else "open")


def _labelled(seen: Observed) -> Tile:
    rows = counted(seen.rows, "row")
    return Tile("right, by labels", f"{seen.accuracy:.3f}", f"on {rows}, {seen.low:.3f} to {seen.high:.3f}")


def _messages(one: WatchedWindow) -> Verdict:
    if not one.judged:
        return Verdict("not judged", "open")
    return Verdict("changed", "bad") if one.health.drift.alarm else Verdict("as before", "good")


def _estimate_detail(estimate: Estimate) -> str:
    return (
        "messages are new, or may have changed"
        if estimate.upper_bound
        else f"{estimate.low:.3f} to {estimate.high:.3f}"
    )


def _p(value: float) -> str:
    return "too few rows" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _table(watched: Sequence[WatchedWindow]) -> Table:
    columns = [
        "window",
        "messages",
        "quality",
        "rows",
        "by chance",
        "novel rows",
        "estimated (95 %)",
        "observed",
    ]
    lines: list[list[Cell]] = []
    for one in watched[-_MOST_WINDOWS:]:
        estimate, novel = one.health.estimate, one.health.novel_share
        seen = "" if one.observed is None else f"{one.observed.accuracy:.3f} of {one.observed.rows:,}"
        lines.append(
            [
                one.name,
                _messages(one),
                _whole(one),
                f"{one.rows:,}",
                _p(one.health.drift.p_value),
                "" if novel is None else f"{novel:.1%}",
                estimate.words,
                seen,
            ]
        )
    return Table(columns, lines, words=3)


def _whole(one: WatchedWindow) -> Cell:
    unusual = [figure for figure in (*one.quality, one.volume) if figure is not None and figure.unusual]
    return _verdict(unusual[0]) if unusual else Verdict("usual", "good") if one.quality else ""


def _verdict(figure: Figure) -> Verdict:
    """A number of rows is no alarm; see WatchedWindow."""
    if not figure.unusual:
        return Verdict("usual", "good")
    if figure.name == "window_rows":
        return Verdict(f"remark: {'few' if figure.value < (figure.usual or 0) else 'many'} rows", "open")
    return Verdict("unusual", "bad")


def _pictures() -> list[Block]:
    return [
        Picture("drift_by_window", "The chance of such a change by window, and the share of novel rows."),
        Picture("accuracy_by_window", "Accuracy by window: estimated, of the reference, and what labels show."),
    ]


def _causes(last: WatchedWindow) -> Table:
    drift = last.health.drift
    ordered = sorted(drift.p_values, key=lambda name: drift.p_values[name])
    lines: list[list[Cell]] = [
        [f"{PLAIN[name]} ({name})", _p(drift.p_values[name]), Verdict("a cause", "bad") if name in drift.causes else ""]
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


def _quality(look: Look) -> list[Block]:
    usual, file, last = look.profile.usual, look.file, look.last
    figures = [figure for figure in (file.rejected, file.age, *last.quality, last.volume) if figure is not None]
    lines: list[list[Cell]] = [
        [
            _FIGURES.get(figure.name, f"without {figure.name.removeprefix('missing/')}"),
            _amount(figure, figure.value),
            "" if figure.usual is None else _amount(figure, figure.usual),
            "" if figure.usual is None else _verdict(figure),
        ]
        for figure in figures
    ]
    if last.median_length is not None:
        lengths = (
            "" if usual is None else f"{usual.lengths[1]:,.0f} ({usual.lengths[0]:,.0f} to {usual.lengths[2]:,.0f})"
        )
        lines.append(["characters of half the texts, at most", f"{last.median_length:,.0f}", lengths, ""])
    said: list[Block] = [Table(["what", "here", "usual", ""], lines)]
    if last.volume is not None and last.volume.unusual:
        said.append(Paragraph("An unusual number of rows is a remark and no alarm: see how it is judged."))
    if file.absent:
        said.append(Paragraph(f"The file lacks columns that the training file has: {', '.join(file.absent)}."))
    if usual is None:
        said.append(Paragraph("The version's profile is of an earlier release, and says nothing of what is usual."))
    return said


_FIGURES = {
    "rejected_share": "rows of the file that break the data contract",
    "days_old": "days since the newest row, at most",
    "repeated_rows": "rows that repeat one of the hundred around them",
    "window_rows": "rows on whole days",
}


def _amount(figure: Figure, value: float) -> str:
    return (
        f"{value:,.1f}"
        if figure.name == "days_old"
        else f"{value:,.0f}"
        if figure.name == "window_rows"
        else f"{value:.1%}"
    )


def _operation(look: Look, log: Log) -> list[Block]:
    version = look.profile.model_version
    lines: list[list[Cell]] = []
    for one in log.windows[-_MOST_WINDOWS:]:
        numbers = one.metrics(version, look.now)
        speed, half, high = (
            numbers.get(f"operation/{name}") for name in ("rows_per_second", "seconds_median", "seconds_p95")
        )
        lines.append(
            [
                one.name,
                Verdict(f"{one.failed:,} failed", "bad") if one.failed else Verdict("good", "good"),
                ", ".join(shown_version(name) for name in one.versions),
                f"{len(one.runs):,}",
                f"{one.rows:,}",
                "" if speed is None else f"{speed:,.0f}",
                "" if half is None else f"{half:,.1f}",
                "" if high is None else f"{high:,.1f}",
                f"{one.dropped_share:.1%}",
            ]
        )
    columns = ["window", "runs that ended", "versions", "runs", "rows", "rows/s", "seconds, half", "95 %", "dropped"]
    said: list[Block] = [Table(columns, lines, words=3)] if lines else [Paragraph("The logs tell of no run.", "open")]
    if log.windows:
        last = log.windows[-1].last
        other = last.version not in (None, version)
        said.append(
            Paragraph(
                f"The last run began on {last.began:%Y-%m-%d %H:%M} UTC and {'failed' if last.failed else 'ended well'}"
                + (f"; it was of another version, {shown_version(str(last.version))}." if other else "."),
                "bad" if last.failed else "open" if other else None,
            )
        )
    if log.bad:
        said.append(Paragraph(f"{log.bad_words}.", "open"))
    if log.repeated:
        said.append(
            Paragraph(f"{counted(log.repeated, 'line')} told of a run that another one tells of, and count once.")
        )
    return said


def _words(look: Look) -> Bullets:
    profile, rate = look.profile, look.options.false_alarm_rate
    known = counted(profile.estimators.rows, "test row" if profile.source == "test" else "validation row")
    return Bullets(
        [
            f"Each window is compared with {profile.rows:,} different texts of {known} that {profile.model_version} "
            "did not learn. What chance makes of a window of its size is known from drawing rows; "
            f"{rate:.0%} of quiet windows are alarms.",
            "Of rows with the same text, one counts where it is asked whether messages have changed.",
            "Estimated accuracy needs no labels: the share of rows surer than a threshold at which the reference is "
            "right so often (ATC). Its interval holds a second estimate too (DoC). Where messages are new or have "
            "changed it may be too high: at most, and the interval's upper end are all that is said.",
            "Usual is what the training file was like, by blocks of a hundred rows and by weekday. More faults than "
            f"differences between blocks and chance make are unusual, in {rate:.0%} of quiet windows at most. An "
            "unusual number of rows is an alert only by a rule of its own. Lengths are judged with the messages.",
            f"A row is novel that is less like what was learned than {1 - NOVEL_SHARE:.0%} of the reference rows.",
            "The page holds numbers and labels, and nothing that a customer wrote.",
        ]
    )
