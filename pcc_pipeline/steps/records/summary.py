"""Parts of what a step prints at its end: tables whose columns line up, with as many lines as a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pcc_pipeline.data.labels import one_line
from pcc_pipeline.evaluation.report import worst_first

_INDENT = " " * 11
_MOST_LINES = 10
_LONGEST_LABEL = 40


def rows_by_class(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Rows of each class, the largest first, by part of the split; part -> label -> rows."""
    totals: dict[str, int] = {}
    for part in counts.values():
        for label, count in part.items():
            totals[label] = totals.get(label, 0) + count
    ranked = sorted(totals, key=lambda label: (-totals[label], label))
    shown = ranked if len(ranked) <= _MOST_LINES + 2 else [*ranked[: _MOST_LINES - 1], ranked[-1]]
    lines = [[label, *(f"{part.get(label, 0):,}" for part in counts.values())] for label in shown]
    everything = ["all classes", *(f"{sum(part.values()):,}" for part in counts.values())]
    left_out = len(ranked) - len(shown)
    table = _aligned([["class, most rows first", *counts], *lines, everything])
    if left_out:
        table.insert(-2, f"{_INDENT}… {left_out} classes between these")
    return table


def scores_by_class(by_class: Sequence[Mapping[str, Any]]) -> list[str]:
    """F1 with its interval, precision, recall and rows of each class of `Report.to_json`, the worst first."""
    ranked = worst_first(by_class)
    shown = ranked if len(ranked) <= _MOST_LINES + 2 else ranked[:_MOST_LINES]
    lines = [["class, worst first", "F1", "95% interval", "precision", "recall", "rows"]]
    for each in shown:
        low, high = each["intervals"].get("f1", (None, None))
        f1, precision, recall = (_number(each[name]) for name in ("f1", "precision", "recall"))
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        lines.append([str(each["label"]), f1, interval, precision, recall, f"{each['support']:,}"])
    more = len(ranked) - len(shown)
    return [*_aligned(lines), *([f"{_INDENT}… and {more} classes with a higher F1"] if more else [])]


def duration(seconds: float) -> str:
    """Such as `48 s`, `5 min 12 s` or `2 h 03 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others, which are numbers, to the right."""
    cells = [[_shown(line[0]), *line[1:]] for line in lines]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    return [
        _INDENT
        + "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    ]


def _shown(label: str) -> str:
    flat = one_line(label)
    return flat if len(flat) <= _LONGEST_LABEL else f"{flat[: _LONGEST_LABEL - 1]}…"
