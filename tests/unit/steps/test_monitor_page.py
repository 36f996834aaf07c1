"""What people read of a look at a version: its page, its note in MLflow and its summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from pcc_pipeline.config import Params
from pcc_pipeline.monitoring.change.drift import Drift
from pcc_pipeline.monitoring.estimates import Estimate
from pcc_pipeline.monitoring.health import FileQuality, Observed, WatchedWindow, standing
from pcc_pipeline.monitoring.operation import LoggedRun, log_of
from pcc_pipeline.monitoring.profile import ReferenceProfile, WindowHealth
from pcc_pipeline.monitoring.usual import Figure
from pcc_pipeline.steps.pages.monitor_figures import accuracy_by_window, drift_by_window
from pcc_pipeline.steps.pages.monitor_page import Look, label_lines, monitor_note, monitor_page
from pcc_pipeline.tracking.payloads import drawn

NOW = datetime(2026, 11, 3, 12, tzinfo=UTC)
P_VALUES = {"novelty": 0.001, "unknown_terms": 0.001, "vectors": 0.002, "labels": 0.4, "length": 0.7}


def window(
    name: str, *, changed: bool = False, labelled: int = 0, right: int = 0, unknown: dict[str, int] | None = None
) -> WatchedWindow:
    """A week of 785 messages; with few rows on its days, which is no alarm."""
    p_values = P_VALUES if changed else dict.fromkeys(P_VALUES, 0.5)
    drift = Drift(785, {}, p_values, 0.001 if changed else 0.4131, changed)
    estimate = Estimate(0.9892, 585, 0.9204, 0.9312, 0.8801, 0.9912, changed)
    return WatchedWindow(
        name,
        785,
        0.01,
        WindowHealth(drift, 0.1234, estimate),
        Observed.of(np.arange(labelled) < right, unknown),
        median_length=70.0,
        quality=(Figure("repeated_rows", 0.01, 0.02, None, False),),
        volume=Figure("window_rows", 785.0, 1500.0, 0.001, True),
    )


def look(watched: Sequence[WatchedWindow], runs: Sequence[LoggedRun] = ()) -> Look:
    profile = SimpleNamespace(
        model_version="v20261101_080000",
        usual=None,
        since=None,
        rows=578,
        source="test",
        estimators=SimpleNamespace(rows=585),
    )
    file = FileQuality(Figure("rejected_share", 0.0, 0.0, None, False), 0.1)
    return Look(
        cast("ReferenceProfile", profile),
        watched,
        file,
        log_of(runs, [], "week") if runs else None,
        standing(watched, file),
        None,
        sum(one.rows for one in watched),
        sum(one.rows for one in watched),
        NOW,
        Params().monitoring,
    )


def page_of(watched: Sequence[WatchedWindow], **more: Any) -> str:
    drawings = {"drift_by_window": drift_by_window(watched, 0.05), "accuracy_by_window": accuracy_by_window(watched)}
    return monitor_page(look(watched, **more), drawn(drawings))


def tiles(page: str) -> dict[str, str]:
    """Title -> value and detail."""
    boxes = re.findall(r'<div class="tile"><span>(.*?)</span><b>(.*?)</b><span>(.*?)</span>', page)
    return {title: f"{value} {detail}".strip() for title, value, detail in boxes}


def test_labels_give_a_tile_a_line_of_the_note_and_one_of_the_summary() -> None:
    watched = [window("week from 2026-09-01", labelled=600, right=500), window("b", labelled=400, right=348)]
    whole = "right, by labels: 0.848 on 1,000 rows (0.824 to 0.870)"
    assert label_lines(watched)[0] == whole
    assert label_lines(watched)[1:] == [
        "week from 2026-09-01: 0.833 on 600 rows (0.801 to 0.862)",
        "b: 0.870 on 400 rows (0.833 to 0.901)",
    ]
    assert tiles(page_of(watched))["right, by labels"] == "0.848 on 1,000 rows, 0.824 to 0.870"
    assert f"- {whole}" in monitor_note(look(watched)).replace("\\", "")
    assert label_lines([window("a", labelled=1, right=1)]) == ["right, by labels: 1.000 on 1 row (0.025 to 1.000)"]
    assert label_lines([window("a")]) == []
    assert "right, by labels" not in page_of([window("a")])


def test_labels_that_the_model_does_not_know_are_named_but_in_alerts() -> None:
    """Texts that a shifted row brought into their column are not."""
    unknown = {"refund_request": 139, "My name is Ann Lee!": 1}
    watched = [window("a", labelled=1000, right=848, unknown=unknown)]
    said = "140 rows have labels that the model does not know: refund_request, 1 more"
    assert label_lines(watched)[-1] == said
    assert f'<p class="tone open">{said}.</p>' in page_of(watched)
    (alarm,) = watched[0].alarms_by_metric["observed/alarm"]
    assert alarm.endswith("; 140 rows have labels that the model does not know")
    one = window("a", labelled=5, right=4, unknown={"refund_request": 1})
    assert label_lines([one])[-1] == "1 row has a label that the model does not know: refund_request"


def test_an_upper_bound_is_one_number_without_an_interval() -> None:
    watched = [window("before"), window("now", changed=True)]
    page = page_of(watched)
    assert tiles(page)["estimated accuracy"] == "at most 0.991 messages are new, or may have changed"
    cells = re.findall(r'<td class="number" data-name="estimated \(95 %\)">(.*?)</td>', page)
    assert cells == ["0.920 (0.880 to 0.991)", "at most 0.991"]
    assert "estimated accuracy of the last window at most 0.991\n" in monitor_note(look(watched))
    bars = accuracy_by_window(watched).axes[0].containers
    assert [len(bar.lines[0].get_xdata()) for bar in bars] == [1]
    assert len(accuracy_by_window(watched[1:]).axes[0].containers) == 0


def test_a_window_that_nobody_can_judge_is_not_as_before() -> None:
    one = window("few")
    nothing = replace(one, name="fewer", health=one.health.without_verdict())
    page = page_of([one, nothing])
    assert re.findall(r'data-name="messages">(.*?)</td>', page) == [
        '<span class="good">as before</span>',
        '<span class="open">not judged</span>',
    ]


def test_the_note_says_which_window_each_step_of_a_chart_is() -> None:
    watched = [window(f"week {place}") for place in range(70)]
    note = monitor_note(look(watched[:2]))
    assert "`observed/window_accuracy`" in note
    assert note.endswith("- step 0: week 0\n- step 1: week 1")
    assert monitor_note(look(watched)).endswith(
        "- step 58: week 58\n- … and 10 steps before the last\n- step 69: week 69"
    )
    assert "step 0" not in monitor_note(look(watched[:1]))


def test_page_and_alarm_have_one_vocabulary_and_a_remark_is_no_alarm() -> None:
    watched = [window("a", changed=True)]
    page = page_of(watched)
    plain = {"novelty": "rows less like what it learned", "unknown_terms": "terms that no training text has"}
    plain["vectors"] = "where the texts lie in the space of vectors"
    assert watched[0].alarms == (f"messages have changed: {', '.join(plain.values())}",)
    assert all(page.count(f"{words} ({name})") == 1 for name, words in plain.items())
    assert "with 578 different texts of 585 test rows" in page
    assert "remark: few rows" in page
    assert "An unusual number of rows is a remark and no alarm" in page


def test_legends_lie_outside_of_what_is_drawn() -> None:
    watched = [window(f"week from 2026-09-{7 * place + 1:02}", labelled=90, right=80) for place in range(4)]
    for figure in (drift_by_window(watched, 0.05), accuracy_by_window(watched)):
        figure.canvas.draw()
        (legend,) = figure.legends
        assert not any(axes.get_legend() for axes in figure.axes)
        assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
