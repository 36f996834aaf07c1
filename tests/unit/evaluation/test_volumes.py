"""Messages over time: counted whole, patterns that are planted are named with their day and size, noise seldom is."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pandas as pd
import pytest
from matplotlib.dates import date2num

from benchmarks.changes_over_time import Kind, made, planted, rates
from pcc_pipeline.evaluation.over_time.volumes import volumes
from pcc_pipeline.evaluation.plots.over_time import volumes_over_time
from pcc_pipeline.tracking.payloads import drawn


@pytest.mark.parametrize(
    ("kind", "name", "label", "levels"),
    [
        (Kind("", step=1.5), "break", None, (80, 120)),
        (Kind("", risen=2.0), "trend", None, (80, 160)),
        (Kind("", weekend=0.5), "weekly", None, (40, 80)),
        (Kind("", share_step=1.75), "break", "data_deletion", (0.2, 0.35)),
    ],
)
def test_what_is_planted_is_found_with_its_size(kind, name, label, levels) -> None:
    counted = made(kind, 120, np.random.default_rng(1), mean=80)
    shown = [each for each in planted(kind, counted, 120) if each.label == label]
    assert [each.kind for each in shown] == [name]
    assert (shown[0].before, shown[0].after) == pytest.approx(levels, rel=0.15)
    if name == "weekly":
        assert shown[0].when.startswith(("least on Saturday", "least on Sunday"))
    assert counted.metrics == {
        f"data/{metric}": sum(each.kind == which for each in counted.findings)
        for which, metric in (("weekly", "weekly_patterns"), ("trend", "trends"), ("break", "breaks"))
    }


@pytest.mark.parametrize(("kind", "label"), [(Kind("", step=1.5), None), (Kind("", share_step=1.75), "data_deletion")])
def test_a_break_is_drawn_on_its_day_where_it_was_found(kind: Kind, label: str | None) -> None:
    counted = made(kind, 120, np.random.default_rng(1), mean=80)
    breaks = [each for each in counted.findings if each.kind == "break"]
    figure = volumes_over_time(counted.to_json())
    days, weeks = figure.axes[:2]
    drawn_at = [line.get_xdata()[0] for line in (days if label is None else weeks).get_lines() if line.get_ls() == "--"]
    expected = [date2num(np.datetime64(each.when)) for each in breaks if (each.label is None) == (label is None)]
    assert expected
    assert drawn_at == expected


def test_files_without_a_pattern_show_one_in_one_of_twenty() -> None:
    n = 150
    assert rates(Kind("", spread=0.3), 60, n)[0] < 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)


def test_every_row_is_counted_once_by_day_week_and_hour() -> None:
    draws = np.random.default_rng(3)
    times = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(draws.integers(0, 40 * 1440, 500), "min"))
    labels = draws.choice([f"label {place}" for place in range(9)], 500)
    gaps = times.mask(pd.Series(range(500)) < 20)
    far = pd.concat([gaps, pd.Series([pd.Timestamp("1970-01-01", tz="UTC")])], ignore_index=True)
    counted = volumes(far, np.append(labels, "label 0"))
    assert counted is not None
    assert (counted.without_time, counted.outside, counted.first) == (20, 1, date(2026, 1, 1))
    table = counted.table
    known = pd.DataFrame({"time": times[20:], "label": labels[20:]})
    assert table.groupby("by")["rows"].sum().to_dict() == {"day": 480, "week": 480, "hour": 480}
    for by, of_row in (
        ("day", known["time"].dt.strftime("%Y-%m-%d")),
        ("week", (known["time"] - pd.to_timedelta(known["time"].dt.day_of_week, "D")).dt.strftime("%Y-%m-%d")),
        ("hour", known["time"].dt.strftime("%H")),
    ):
        expected = known.groupby([of_row.rename("period"), "label"]).size().to_dict()
        part = table[table["by"] == by]
        assert dict(zip(zip(part["period"], part["label"], strict=True), part["rows"], strict=True)) == expected
    document = counted.to_json()
    json.dumps(document, allow_nan=False)
    assert list(document["by_week_of_label"]) == list(counted.labels[:6])
    assert sum(document["by_week"]) == sum(document["by_weekday"]) == 480
    for label, weekly in document["by_week_of_label"].items():
        assert sum(weekly) == (known["label"] == label).sum()
    assert document["by_hour"] == known["time"].dt.hour.value_counts().reindex(range(24), fill_value=0).tolist()
    assert (
        document["by_weekday"] == known["time"].dt.day_of_week.value_counts().reindex(range(7), fill_value=0).tolist()
    )
    assert set(drawn({"volumes": volumes_over_time(document)})) == {"volumes"}


def test_dates_have_no_hours_and_few_days_no_patterns() -> None:
    days = pd.Series(pd.date_range("2026-03-01", periods=20, tz="UTC").repeat(3))
    counted = volumes(days, np.array(["a", "b", "c"] * 20))
    assert counted is not None
    assert counted.hourly is None
    assert counted.tests == 0
    document = counted.to_json()
    assert document["by_hour"] is None
    assert document["by_day"] == [3] * 20
    assert set(drawn({"volumes": volumes_over_time(document)})) == {"volumes"}


@pytest.mark.parametrize("times", [None, pd.Series([pd.NaT, pd.NaT])])
def test_without_times_there_is_nothing_to_count(times) -> None:
    assert volumes(times, np.array(["a", "b"])) is None


def test_of_two_labels_the_share_of_one_tells_both() -> None:
    draws = np.random.default_rng(4)
    times = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.sort(draws.integers(0, 60, 1200)), "D"))
    labels = np.where(draws.random(1200) < np.where(np.arange(1200) < 600, 0.1, 0.4), "rare", "usual")
    counted = volumes(times, labels)
    assert counted is not None
    assert counted.tests == 4
    assert [each.label for each in counted.findings] == ["rare"]


def test_labels_that_change_are_drawn_however_few_their_rows() -> None:
    draws = np.random.default_rng(6)
    day = np.sort(draws.integers(0, 90, 4000))
    labels = draws.choice([f"label {place}" for place in range(8)], 4000)
    labels[(day >= 60) & (draws.random(4000) < 0.1)] = "new"
    times = pd.Series(pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(day, "D"))
    counted = volumes(times, labels)
    assert counted is not None
    assert counted.labels[-1] == "new"
    assert ("new", "break") in [(each.label, each.kind) for each in counted.findings]
    document = counted.to_json()
    assert len(document["by_week_of_label"]) == 6
    assert "new" in document["by_week_of_label"]
