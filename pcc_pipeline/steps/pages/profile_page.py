"""A file's profile as a person reads it: what to look at first, in the terminal and as a page by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pcc_pipeline.config.paths import in_brief
from pcc_pipeline.data.labels import near_equal_line
from pcc_pipeline.data.quality.profile import RARE, ColumnFill, Profile, Spread
from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.blocks import (
    Amount,
    Block,
    Bullets,
    Cell,
    Paragraph,
    Section,
    Table,
    Tile,
    Tiles,
)
from pcc_pipeline.evaluation.page.facts import LONGEST_FILE, cut, file_name, listed
from pcc_pipeline.gates.judge import DataAgeLimit
from pcc_pipeline.steps.records.summary import rows_by_class

_INDENT = " " * 11
_MOST_REASONS_SAID, _MOST_REASONS, _MOST_COLUMNS, _MOST_LABELS, _MOST_PERIODS = 3, 30, 60, 200, 40
_LONGEST_LABEL = 80
_NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Demands:
    """What the configuration asks of a file.

    Attributes:
        max_rejected: share of rows, 0..1, beyond which a run stops.
        oldest: how old the newest row of a champion's data may be; None where no gate asks.
    """

    max_rejected: float
    oldest: DataAgeLimit | None


@dataclass(frozen=True)
class Finding:
    """Something to look at: what, and what to do; `stops` where a run would not get past it."""

    text: str
    stops: bool = False


def findings_of(profile: Profile, demands: Demands) -> list[Finding]:
    """What stops a run first, then by what it is about: rows, texts, labels, times, the model."""
    findings = [
        *_about_rows(profile, demands),
        *_about_texts(profile),
        *_about_labels(profile),
        *_about_times(profile, demands),
        *_about_the_model(profile),
        *(Finding(note) for note in profile.notes),
    ]
    return sorted(findings, key=lambda finding: not finding.stops)


def _about_rows(profile: Profile, demands: Demands) -> list[Finding]:
    if not profile.rejected:
        return []
    reasons = ", ".join(one.line for one in profile.rejections[:_MOST_REASONS_SAID])
    if (more := len(profile.rejections) - _MOST_REASONS_SAID) > 0:
        reasons += f" and {_number(more, 'more reason')}"
    stops = profile.rejected > demands.max_rejected * profile.rows or not profile.good
    if stops:
        limit = f"more than data.max_rejected_fraction ({demands.max_rejected:.1%}) allows" if profile.good else "all"
        then = f"That is {limit}, so a run stops: mend them"
    else:
        then = "A run leaves them out"
    return [
        Finding(f"Rows that break a rule: {_part(profile.rejected, profile.rows)}. {then}. Reasons: {reasons}.", stops)
    ]


def _about_texts(profile: Profile) -> list[Finding]:
    texts, signs = profile.texts, profile.signs
    return [
        Finding(f"{what}: {_part(rows, profile.good)}. {advice}")
        for what, rows, advice in (
            (
                "Rows that repeat the text of another",
                texts.duplicate_rows,
                f"The commonest text has {texts.most_copies:,} rows. Look at whether the file was joined or exported "
                "twice.",
            ),
            (
                "Signs of a wrong encoding (such as Ã©, lost letters, control characters)",
                signs.broken,
                "Export the file again as UTF-8 from where it comes from.",
            ),
            ("Tags or entities of HTML", signs.markup, "Take the messages without their markup."),
            (
                "Mostly letters other than Latin",
                signs.other_script,
                "The default encoder is of English texts and hardly tells such texts apart.",
            ),
            ("Texts of one word", signs.one_word, "That may be too little to tell what was meant."),
            (
                "A text_length or word_count that is not that of the text",
                signs.miscounted,
                "Look at whether texts were changed after they were counted.",
            ),
        )
        if rows
    ]


def _about_labels(profile: Profile) -> list[Finding]:
    labels, texts, good = profile.labels, profile.texts, profile.good
    if labels is None:
        return []
    if labels.are_texts:
        return [
            Finding(
                f"The labels read like texts: {labels.kinds:,} different ones in {_number(good, 'row')}, so none is "
                "shown. Name the column of the labels with --label."
            )
        ]
    findings = []
    if labels.kinds == 1:
        findings.append(
            Finding("All rows have one label: there is nothing to learn, and a training stops.", stops=True)
        )
    if texts.conflicting_texts:
        findings.append(
            Finding(
                f"Texts with more than one label: {texts.conflicting_texts:,}, in "
                f"{_part(texts.rows_in_conflict, good)}. No model can get them all right: look at how they were "
                "labelled."
            )
        )
    if labels.rare:
        findings.append(
            Finding(
                f"Labels with fewer than {RARE} rows: {labels.rare:,} of {labels.kinds:,}"
                f"{_named([label for label, rows in labels.rows.items() if rows < RARE][::-1])}. Too few to learn and "
                "to measure: label more of these messages, or join the label with another."
            )
        )
    if labels.near_equal:
        line = near_equal_line(labels.near_equal, merged=False)
        findings.append(Finding(f"{line[0].upper()}{line[1:]}."))
    if labels.not_shown:
        findings.append(
            Finding(
                f"Labels that may be texts, and are not shown: {labels.not_shown:,}, in "
                f"{_part(labels.rows_not_shown, good)}. Look at whether fields were shifted in these rows."
            )
        )
    return findings


def _about_times(profile: Profile, demands: Demands) -> list[Finding]:
    times, findings = profile.times, []
    if times is None:
        return []
    if times.ahead:
        findings.append(Finding(f"Times in the future, which are wrong: {_part(times.ahead, times.rows)}."))
    oldest = demands.oldest
    if times.age_days is not None and oldest is not None and times.age_days > oldest.days:
        findings.append(
            Finding(
                f"The newest row is {times.age_days:,.0f} days old, and the gate {oldest.gate} lets {oldest.days} "
                "days pass: a model of this file would not become the champion by itself. Add newer messages."
            )
        )
    if missing := profile.good - times.rows:
        findings.append(
            Finding(f"Rows without a time: {_part(missing, profile.good)}. Nothing tells how old they are.")
        )
    return findings


def _about_the_model(profile: Profile) -> list[Finding]:
    against, findings = profile.against, []
    if against is None:
        return []
    if against.unknown_rows:
        findings.append(
            Finding(
                f"Labels that {against.name} does not know: {against.unknown_kinds:,}, in "
                f"{_part(against.unknown_rows, profile.good)}{_named(against.unknown)}. It gets all of them wrong: "
                "look for misspelt labels, or train on this file."
            )
        )
    if against.absent:
        findings.append(
            Finding(
                f"Labels of {against.name} without a row: {len(against.absent):,}{_named(against.absent)}. On this "
                "file nothing can be measured of them."
            )
        )
    if against.learned_rows:
        findings.append(
            Finding(
                f"Texts that {against.name} learned: {_part(against.learned_rows, profile.good)}. An evaluation on "
                "this file leaves them out."
            )
        )
    return findings


def _named(labels: Sequence[str]) -> str:
    """Labels in brackets; nothing where none is shown."""
    return f" ({listed([_label(label) for label in labels])})" if labels else ""


def profile_lines(source: str, profile: Profile, findings: Sequence[Finding]) -> list[str]:
    """For the terminal."""
    counts = [_number(profile.rows, "row"), f"{profile.good:,} good", f"{profile.rejected:,} rejected"]
    if profile.good:
        counts.append(f"{_number(profile.texts.unique_texts, 'different text')} but for case, marks and blanks")
    labels = profile.labels
    if labels is not None:
        counts.append(_number(labels.kinds, "label"))
    lines = [f"profiled   {source}", f"{_INDENT}{', '.join(counts)}"]
    lines.append(_INDENT + ", ".join(f"{title} {value}" for title, value, _ in _dimensions(profile)))
    if profile.characters is not None and profile.words is not None:
        lines.append(f"{_INDENT}characters: {_spread(profile.characters)}; words: {_spread(profile.words)}")
    if profile.label_column is None:
        lines.append(f"{_INDENT}{_WITHOUT_LABELS}")
    if labels is not None and labels.rows:
        others = {"(labels that are not shown)": labels.rows_not_shown} if labels.not_shown else {}
        lines += rows_by_class({"rows": {**labels.rows, **others}})
    return [*lines, *(f"{'stops' if one.stops else 'look at':<11}{one.text}" for one in findings)]


_WITHOUT_LABELS = "without labels, as a file to score; --label names the column of the labels"


def profile_document(source: str, profile: Profile, findings: Sequence[Finding]) -> dict[str, Any]:
    """For machines."""
    labels, times = profile.labels, profile.times
    return {
        "source": source,
        "digest": profile.digest,
        "metrics": profile.metrics,
        "columns": [
            {"name": column.name, "filled_rows": column.filled, "in_contract": column.contract_name is not None}
            for column in profile.columns
        ],
        "rejections": [vars(one) for one in profile.rejections],
        "labels": None if labels is None else dict(labels.rows),
        "rows_by_day": None if times is None else {day.isoformat(): rows for day, rows in times.by_day.items()},
        "findings": [{"text": one.text, "stops": one.stops} for one in findings],
    }


def profile_page(source: str, made_at: str, profile: Profile, findings: Sequence[Finding]) -> str:
    """The page; `made_at` is when the file was read."""
    name = cut(file_name(source), LONGEST_FILE)
    subtitle = f"{cut(in_brief(source), LONGEST_FILE)}, {_number(profile.rows, 'row')}, read {made_at}"
    made = [
        _in_short(profile, findings),
        _columns(profile),
        _rejected(profile),
        _texts(profile),
        _labels(profile),
        _times(profile),
        _words(),
    ]
    return to_html(f"Profile of {name}", subtitle, [section for section in made if section is not None], {})


def _in_short(profile: Profile, findings: Sequence[Finding]) -> Section:
    stops = sum(one.stops for one in findings)
    if stops:
        answer = Paragraph("Not as it is: a run would stop at what stands first in the list below.", "bad")
    elif findings:
        verb = "was" if len(findings) == 1 else "were"
        answer = Paragraph(f"It can be used; {_number(len(findings), 'thing')} to look at {verb} found.", "open")
    else:
        answer = Paragraph("It can be used, and nothing was found to mend.", "good")
    labels, notes = profile.labels, list[Block]()
    if profile.label_column is None:
        notes.append(Paragraph(f"It was read {_WITHOUT_LABELS}."))
    tiles = [Tile("rows", f"{profile.rows:,}", f"{profile.good:,} of them keep the data contract")]
    if labels is not None:
        tiles.append(
            Tile(
                "labels", f"{labels.kinds:,}", f"the largest has {labels.imbalance:,.1f} times the rows of the smallest"
            )
        )
    tiles += [Tile(title, value, detail) for title, value, detail in _dimensions(profile)]
    bullets = [Bullets([one.text for one in findings])] if findings else []
    return Section("answer", "Can it be used?", [answer, *notes, Tiles(tiles), *bullets])


def _dimensions(profile: Profile) -> list[tuple[str, str, str]]:
    """Title, number and what it is of."""
    shares, times = profile.metrics, profile.times
    rows = [
        ("complete", profile.completeness, "of the cells in known columns have a value"),
        ("valid", shares["quality/validity"], "of the rows keep the data contract"),
        (
            "unique",
            shares.get("quality/uniqueness"),
            "different texts, but for case, marks and blanks, for each good row",
        ),
        ("consistent", shares.get("quality/consistency"), "of the good rows have a text with one label throughout"),
    ]
    made = [(title, _NOT_KNOWN if value is None else _percent(value), detail) for title, value, detail in rows]
    if times is None or times.age_days is None:
        return [*made, ("newest row", _NOT_KNOWN, "no row has a time that may be right")]
    return [*made, ("newest row", f"{_number(round(times.age_days), 'day')} old", f"{times.newest:%Y-%m-%d}")]


def _columns(profile: Profile) -> Section:
    rows: list[list[Cell]] = [
        [column.name, "checked" if column.contract_name else "left alone", *_filled(column, profile.rows)]
        for column in profile.columns[:_MOST_COLUMNS]
    ]
    blocks: list[Block] = [Table(["column", "use", "missing", "filled"], rows, words=2)]
    if (more := len(profile.columns) - len(rows)) > 0:
        blocks.append(Paragraph(f"… and {_number(more, 'column')} more, all left alone."))
    if profile.width is not None:
        blocks.append(Paragraph(f"The file brings vectors of {profile.width} numbers."))
    return Section("columns", "Complete: what the columns hold", blocks)


def _filled(column: ColumnFill, rows: int) -> tuple[Cell, Cell]:
    return f"{rows - column.filled:,}", Amount(_percent(column.filled / rows), column.filled / rows)


def _rejected(profile: Profile) -> Section | None:
    if not profile.rejections:
        return None
    rows = [
        [one.column, one.reason, one.first, f"{one.rows:,}", _percent(one.rows / profile.rows)]
        for one in profile.rejections[:_MOST_REASONS]
    ]
    blocks: list[Block] = [
        Paragraph("A row with several faults stands here by its first. Rows are counted from 0, without the header."),
        Table(["column", "reason", "first in row", "rows", "share"], rows, words=3),
    ]
    if (more := len(profile.rejections) - len(rows)) > 0:
        blocks.append(Paragraph(f"… and {_number(more, 'reason')} more."))
    return Section("rejected", "Valid: rows that break a rule", blocks)


def _texts(profile: Profile) -> Section | None:
    if profile.characters is None or profile.words is None:
        return None
    texts, signs, good = profile.texts, profile.signs, profile.good
    spreads = {"characters": profile.characters, "words": profile.words, **profile.numbers}
    table = Table(
        ["", "least", "5 %", "half", "95 %", "greatest"],
        [_row(name, spread) for name, spread in spreads.items()],
    )
    counts = [
        ("repeat the text of another row, but for case, marks and blanks", texts.duplicate_rows),
        ("the commonest text", texts.most_copies),
        ("of one word", signs.one_word),
        ("signs of a wrong encoding", signs.broken),
        ("tags or entities of HTML", signs.markup),
        ("mostly letters other than Latin", signs.other_script),
        ("stated length or words not those of the text", signs.miscounted),
    ]
    rows: list[list[Cell]] = [[title, f"{count:,}", _percent(count / good)] for title, count in counts]
    if profile.personal is not None:
        rows.append(["said to hold personal information", "", _percent(profile.personal)])
    return Section("texts", "Unique: the texts", [table, Table(["good rows", "rows", "share"], rows)])


def _labels(profile: Profile) -> Section | None:
    labels = profile.labels
    if labels is None or not labels.rows:
        return None
    most = max(labels.rows.values())
    shown = list(labels.rows.items())[:_MOST_LABELS]
    rows: list[list[Cell]] = [
        [_label(label), Amount(f"{count:,}", count / most), _percent(count / profile.good)] for label, count in shown
    ]
    blocks: list[Block] = [Table(["label", "rows", "share"], rows)]
    if (more := labels.kinds - len(rows)) > 0:
        blocks.append(Paragraph(f"… and {_number(more, 'label')} more, of fewer rows or not shown."))
    return Section("labels", "Consistent: the labels", blocks)


def _times(profile: Profile) -> Section | None:
    times = profile.times
    if times is None:
        return None
    if times.oldest is None or times.newest is None:
        return Section("times", "Fresh: when the rows are from", [Paragraph("All times lie in the future.", "bad")])
    unit, periods = _periods(times.by_day)
    most = max(periods.values())
    facts: list[list[Cell]] = [
        ["from", f"{times.oldest:%Y-%m-%d %H:%M} UTC"],
        ["to", f"{times.newest:%Y-%m-%d %H:%M} UTC"],
        ["rows for each day", f"{profile.metrics['quality/rows_per_day']:,.1f} over {_number(times.span, 'day')}"],
        ["days without rows", f"{times.span - len(times.by_day):,}, at most {times.longest_gap:,} in a row"],
    ]
    shown: list[list[Cell]] = [
        [period, Amount(f"{rows:,}", rows / most)] for period, rows in list(periods.items())[-_MOST_PERIODS:]
    ]
    return Section("times", "Fresh: when the rows are from", [Table((), facts, words=2), Table([unit, "rows"], shown)])


def _periods(by_day: Mapping[date, int]) -> tuple[str, dict[str, int]]:
    """Rows by day, week, month or year: the finest that a page has room for; those without rows as well."""
    first, last = min(by_day), max(by_day)
    days = (last - first).days + 1
    unit, _, start, form = next(each for each in _UNITS if days <= _MOST_PERIODS * each[1])
    counted: dict[str, int] = {}
    for number in range(days):
        day = first + timedelta(days=number)
        name = start(day).strftime(form)
        counted[name] = counted.get(name, 0) + by_day.get(day, 0)
    return unit, counted


# Name, days, the first day of the one that a day is in, and how it is written.
_UNITS: tuple[tuple[str, float, Callable[[date], date], str], ...] = (
    ("day", 1, lambda day: day, "%Y-%m-%d"),
    ("week from", 7, lambda day: day - timedelta(days=day.weekday()), "%Y-%m-%d"),
    ("month", 30, lambda day: day.replace(day=1), "%Y-%m"),
    ("year", math.inf, lambda day: day.replace(month=1, day=1), "%Y"),
)


def _words() -> Section:
    return Section(
        "words",
        "How it was counted",
        [
            Bullets(
                [
                    "Rows are good that keep the data contract. Two texts are the same where they differ by case, "
                    "punctuation or spaces alone, as the split takes them.",
                    "A label is shown where it reads like a name, or is short and several rows have it; other labels "
                    "are counted only, since a text may have slipped into the column.",
                    "The page holds counts, names of columns, labels and files, and nothing else that stands in the "
                    "file.",
                ]
            )
        ],
    )


def _part(rows: int, of: int) -> str:
    return f"{_number(rows, 'row')} of {of:,} ({_percent(rows / of)})"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    """Never rounded to all or nothing."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{share:.1%}".replace("%", " %")


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def _row(name: str, spread: Spread) -> list[Cell]:
    return [name, *(_short(value) for value in vars(spread).values())]


def _spread(spread: Spread) -> str:
    return f"half up to {_short(spread.median)}, 95 % up to {_short(spread.high)}, at most {_short(spread.greatest)}"


def _label(label: str) -> str:
    return cut(label, _LONGEST_LABEL)
