"""What the gates measured, as a table: for a terminal, for MLflow's artifact viewer, for a description in Markdown."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pcc_pipeline.data.labels import one_line
from pcc_pipeline.evaluation.page.as_markdown import marked

_TITLES = ("gate", "required", "measured", "verdict")
_NO_GATES = "No gates are set: registry.gates is an empty list."
_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:1.5rem;color:#1f2933}table{border-collapse:collapse}"
    "th,td{padding:.35rem .8rem;border-bottom:1px solid #cbd2d9;text-align:left;vertical-align:top}"
    ".passed{color:#00614a}.failed{color:#a33b00;font-weight:600}"
)


@dataclass(frozen=True)
class GateVerdict:
    """One gate's outcome.

    Attributes:
        gate: its kind and metric.
        required, measured: for people to read, with units.
        note: why it could not be computed, or what to know beside the numbers; may be empty.
        beside: version and champion on the very same rows; empty of a gate that compares no two.
    """

    gate: str
    required: str
    measured: str
    passed: bool
    note: str
    beside: str = ""

    @property
    def word(self) -> str:
        return "passed" if self.passed else "FAILED"


def passed(verdicts: Sequence[GateVerdict]) -> bool:
    """Whether nothing stands against promotion; so it is where no gates are set."""
    return all(verdict.passed for verdict in verdicts)


def headline(verdicts: Sequence[GateVerdict]) -> str:
    """One line: how many gates passed, and which did not."""
    if not verdicts:
        return _NO_GATES
    failed = [one_line(verdict.gate) for verdict in verdicts if not verdict.passed]
    count = f"{len(verdicts)} gate{'s' if len(verdicts) != 1 else ''}"
    return f"{len(failed)} of {count} failed: {', '.join(failed)}" if failed else f"{count} passed"


def table(verdicts: Sequence[GateVerdict]) -> str:
    """Aligned columns of plain text, each note on a line below its gate; no trailing newline."""
    if not verdicts:
        return _NO_GATES
    cells = [_TITLES, *(_cells(verdict, one_line) for verdict in verdicts)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    shown = [lines[0], "  ".join("-" * width for width in widths)]
    for line, verdict in zip(lines[1:], verdicts, strict=True):
        shown.append(line)
        if verdict.note:
            shown.append(f"  note: {one_line(verdict.note)}")
    return "\n".join(shown)


def to_markdown(verdicts: Sequence[GateVerdict]) -> str:
    """A Markdown table with the notes as its last column."""
    if not verdicts:
        return f"{_NO_GATES}\n"
    rows = [(*_cells(verdict, marked), marked(verdict.note)) for verdict in verdicts]
    titles = (*_TITLES, "note")
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, ("---",) * len(titles), *rows)) + "\n"


def to_html(verdicts: Sequence[GateVerdict], title: str = "Gates") -> str:
    """A page of its own, without scripts or links, as MLflow's artifact viewer shows it."""
    head = "".join(f"<th>{name}</th>" for name in (*_TITLES, "note"))
    rows = [
        f'<tr class="{verdict.word.lower()}">'
        + "".join(f"<td>{cell}</td>" for cell in (*_cells(verdict, _escaped), _escaped(verdict.note)))
        + "</tr>"
        for verdict in verdicts
    ]
    body = f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table>" if verdicts else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_escaped(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>{_escaped(title)}</h1>\n<p>{_escaped(headline(verdicts))}</p>\n"
        f"{body}\n</body></html>\n"
    )


def _cells(verdict: GateVerdict, written: Callable[[str], str]) -> tuple[str, str, str, str]:
    return written(verdict.gate), written(verdict.required), written(verdict.measured), verdict.word


def _escaped(text: str) -> str:
    return html.escape(one_line(text))
