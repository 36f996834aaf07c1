"""The table of the gates reads well in a terminal and is safe to show in a browser."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from pcc_pipeline.gates.verdicts import GateVerdict, headline, passed, table, to_html, to_markdown

PASSED = GateVerdict("minimum test/f1_macro", ">= 0.8", "0.9123", True, "")
FAILED = GateVerdict("encoder", "abababababab", "not computed", False, "the digest is not known")
HOSTILE = GateVerdict(
    "minimum test/class/*/f1", ">= 0.8", "0.1 (<b>|\x1b[31m_x_\n</td>)", False, "a | <script>1</script>"
)


class Cells(HTMLParser):
    """The texts of a page's table cells, and every tag that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th") and data.strip():
            self.cells[-1] += data


def test_the_table_is_aligned_and_gives_each_note_below_its_gate():
    assert table([PASSED, FAILED]).splitlines() == [
        "gate                   required      measured      verdict",
        "---------------------  ------------  ------------  -------",
        "minimum test/f1_macro  >= 0.8        0.9123        passed",
        "encoder                abababababab  not computed  FAILED",
        "  note: the digest is not known",
    ]


def test_without_gates_the_table_says_so():
    for shown in (table([]), to_markdown([]), to_html([]), headline([])):
        assert "No gates are set" in shown
    assert passed([])


def test_all_must_pass():
    assert passed([PASSED, PASSED])
    assert not passed([PASSED, FAILED])


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([PASSED], "1 gate passed"),
        ([PASSED, PASSED], "2 gates passed"),
        ([PASSED, FAILED], "1 of 2 gates failed: encoder"),
    ],
)
def test_the_headline_counts_and_names_what_failed(verdicts, expected):
    assert headline(verdicts) == expected


def test_a_label_cannot_break_the_table_or_colour_the_terminal():
    lines = table([HOSTILE]).splitlines()
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


def test_the_page_shows_every_cell_and_runs_nothing():
    page = Cells(to_html([PASSED, HOSTILE], title="Gates of <v1>"))
    assert page.cells[:5] == ["gate", "required", "measured", "verdict", "note"]
    assert page.cells[5:10] == ["minimum test/f1_macro", ">= 0.8", "0.9123", "passed", ""]
    assert page.cells[12] == "0.1 (<b>| [31m_x_ </td>)"
    assert page.cells[14] == "a | <script>1</script>"
    assert not {"script", "b", "v1", "link", "img"} & set(page.tags)


def test_markdown_has_one_row_a_gate_and_as_many_columns_in_each():
    lines = to_markdown([PASSED, HOSTILE]).splitlines()
    assert lines[0] == "| gate | required | measured | verdict | note |"
    assert lines[2] == "| minimum test/f1\\_macro | &gt;= 0.8 | 0.9123 | passed |  |"
    assert [line.replace("\\|", "").count("|") for line in lines] == [6] * 4
    assert "<" not in lines[3]
