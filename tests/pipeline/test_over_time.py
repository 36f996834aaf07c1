"""What a run makes of time: a split by it, and a backtest on training rows, in MLflow and on the report's page."""

from __future__ import annotations

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.pipeline

FIXED = "model.search_method=none"


@pytest.fixture(scope="module")
def tested(new_store, in_process, small_frame):
    """A file in no order of time; two of its later messages, one of them the last, repeat the first one."""
    store = new_store("over-time")
    frame = small_frame.sort_values("timestamp", ignore_index=True)
    for place in (150, len(frame) - 1):
        frame.loc[place, ["text", "intent"]] = frame.loc[0, ["text", "intent"]].to_numpy()
    frame.sample(frac=1, random_state=0).to_parquet(store.folder / "cases.parquet", index=False)
    options = ["--data", str(store.folder / "cases.parquet"), "--set", f"{FIXED} evaluation.backtest=3 data.split=time"]
    assert in_process(store.folder, "main", options) == 0
    return store


@pytest.fixture(scope="module")
def rows(tested):
    """The file's rows with their times and their sides."""
    frame = pd.read_parquet(tested.folder / "cases.parquet")
    split = pd.read_parquet(tested.file(tested.step("train"), "split.parquet")).set_index("position")["split"]
    return frame.assign(time=pd.to_datetime(frame["timestamp"], utc=True), side=split.astype(str))


def test_by_time_a_model_is_tested_on_what_came_after_it_learned(tested, rows) -> None:
    of = dict(iter(rows.groupby("side")["time"]))
    assert of["train"].max() < of["validation"].min() <= of["validation"].max() < of["test"].min()
    assert len(of["left_out"]) >= 1
    assert tested.step("train").data.metrics["data/overlap_removed_rows"] == len(of["left_out"])
    predictions = pd.read_parquet(tested.folder / "outputs/predictions.parquet")
    assert len(predictions) == len(of["test"])


def test_a_backtest_goes_by_time_and_reads_no_test_rows(tested, rows) -> None:
    table = pd.read_parquet(tested.file(tested.step("train"), "backtest.parquet"))
    known = rows[rows["side"].isin(["train", "validation"])]
    assert len(table) == 3
    for each in table.itertuples():
        assert each.trained_rows == (known["time"] < each.starts).sum()
        here = known[(known["time"] >= each.starts) & (known["time"] <= each.ends)]
        assert each.rows + each.repeated_rows == len(here)
        assert 0 < each.f1_macro_low <= each.f1_macro <= each.f1_macro_high <= 1
    assert table["repeated_rows"].sum() >= 1
    assert table["trained_rows"].iloc[0] == len(known) // 2
    assert table["trained_rows"].iloc[-1] + table["rows"].iloc[-1] + table["repeated_rows"].iloc[-1] == len(known)


def test_its_scores_are_drawn_by_mlflow_and_on_the_page(tested) -> None:
    run = tested.step("train")
    table = pd.read_parquet(tested.file(run, "backtest.parquet"))
    for name in ("f1_macro", "accuracy", "f1_macro_trained_once", "rows"):
        history = tested.client.get_metric_history(run.info.run_id, f"backtest/{name}")
        assert [(each.step, each.value) for each in history] == list(zip((1, 2, 3), table[name], strict=True))
    assert run.data.metrics["backtest/f1_macro_worst"] == table["f1_macro"].min()
    assert run.data.params["evaluation.backtest"] == "3"
    evaluated = tested.step("evaluate")
    assert "evaluation.backtest" not in evaluated.data.params
    for step in (run, evaluated):
        assert "figures/score_against_time.png" in tested.files(step)
    document = json.loads(tested.file(run, "metrics.json").read_text())["backtest"]
    assert [each["f1_macro"] for each in document["windows"]] == table["f1_macro"].tolist()
    page = (tested.folder / "outputs/report.html").read_text()
    assert "Does it get worse over time?" in page
    assert "no backtest was made" not in page
    for each in document["windows"]:
        assert each["starts"][:10] in page
        assert each["ends"][:10] in page


@pytest.mark.parametrize(
    ("column", "windows", "message"),
    [
        ("text_length", 3, "evaluation.backtest needs the time of every row, and 240 of 240 rows have no timestamp"),
        ("timestamp", 40, "makes no 40 windows to test on"),
    ],
)
def test_a_backtest_that_cannot_be_made_stops_before_anything_is_learned(
    command, store, small_frame, column, windows, message
) -> None:
    small_frame.drop(columns={"timestamp", "text_length"} - {column}).to_parquet(store.folder / "cases.parquet")
    options = f"{FIXED} evaluation.backtest={windows}"
    done = command("train", "--data", str(store.folder / "cases.parquet"), "--set", options)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert "fitting" not in done.err


def test_the_messages_are_counted_over_time(tested, rows) -> None:
    run = tested.step("train")
    table = pd.read_parquet(tested.file(run, "volumes.parquet"))
    assert table.groupby("by")["rows"].sum().to_dict() == dict.fromkeys(("day", "week", "hour"), len(rows))
    by_day = rows.groupby([rows["time"].dt.strftime("%Y-%m-%d"), "intent"]).size()
    assert table[table["by"] == "day"].set_index(["period", "label"])["rows"].to_dict() == by_day.to_dict()
    assert run.data.metrics["data/breaks"] == 0
    assert "figures/volumes_over_time.png" in tested.files(tested.step("evaluate"))
    page = (tested.folder / "outputs/report.html").read_text()
    assert "The messages over time" in page
    assert "too few days to look for" in page
