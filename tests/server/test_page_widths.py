"""Pages in a real browser: nothing is cut off, on a telephone or a screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pcc_pipeline.evaluation.page.as_html import to_html
from pcc_pipeline.evaluation.page.blocks import Section, Table, Verdict

pytestmark = pytest.mark.server

CUT = "[...document.querySelectorAll('.wide')].map(box => box.scrollWidth - box.clientWidth)"
# As monitor.html has them with windows of a week, labels and logs.
WINDOWS = Table(
    ["window", "messages", "quality", "rows", "by chance", "novel rows", "estimated (95 %)", "observed"],
    [
        [
            "week from 2026-09-28",
            Verdict("as before", "good"),
            Verdict("remark: many rows", "open"),
            *("123,456", "too few rows", "12.3%", "0.920 (0.880 to 0.991)", "0.848 of 123,456"),
        ]
    ],
    words=3,
)
RUNS = Table(
    ["window", "runs that ended", "versions", "runs", "rows", "rows/s", "seconds, half", "95 %", "dropped"],
    [
        [
            "week from 2026-09-28",
            Verdict("12 failed", "bad"),
            "v20261101_080000, v20261102_080000",
            *("1,234", "123,456", "12,345", "1,234.5", "2,345.6", "10.0%"),
        ]
    ],
    words=3,
)
CAUSES = Table(
    ["what is compared", "chance of such a difference, alone", ""],
    [["where the texts lie in the space of vectors", "< 0.001", Verdict("a cause", "bad")]],
)


QUALITY = Table(
    ["what", "here", "usual", ""],
    [
        ["rows on whole days", "123,456", "234,567", Verdict("remark: few rows", "open")],
        ["characters of half the texts, at most", "4,444", "4,949 (2,727 to 7,878)", ""],
    ],
)


@pytest.mark.parametrize("width", [390, 1100, 1600])
def test_no_table_is_cut_off(browser: Any, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    page.write_text(to_html("v1", "", [Section("all", "All", [WINDOWS, RUNS, CAUSES, QUALITY])], {}), encoding="utf-8")
    shown = browser.new_page(viewport={"width": width, "height": 900})
    shown.goto(page.as_uri())
    assert shown.evaluate(CUT) == [0, 0, 0, 0]
    assert shown.evaluate("document.documentElement.scrollWidth") == width
