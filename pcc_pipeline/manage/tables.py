"""Rows as text: a table for a terminal, CSV for a spreadsheet. Cells are shown without control characters."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pcc_pipeline.data.labels import one_line

_NUMBER = re.compile(r"[-+]?[\d,]+(?:\.\d+)?(?:e[-+]?\d+)?(?: \[.*\])?")
_GAP = "  "


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns under their names, numbers to the right; in a terminal the last column is cut at its edge."""
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(len(name), *(len(row[place]) for row in cells), 0) for place, name in enumerate(head)]
    numeric = [
        any(row[place] for row in cells) and all(_NUMBER.fullmatch(row[place] or "0") for row in cells)
        for place in range(len(head))
    ]
    lines = [list(head), ["-" * width for width in widths], *cells]
    edge = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    text = []
    for line in lines:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        whole = _GAP.join(padded).rstrip()
        text.append(whole if edge is None or len(whole) <= edge else whole[: edge - 1] + "…")
    return "\n".join(text)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV of all columns that any row has, in the order in which they turn up; None becomes an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def shown(cell: object) -> str:
    """A cell as one line; what a server sent must not steer a terminal."""
    text = "" if cell is None else f"{cell:.4f}" if isinstance(cell, float) else str(cell)
    return one_line(text.split("\n", 1)[0])
