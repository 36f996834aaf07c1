"""What stops a training before it begins, and what demands one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.alerting.book import AlertBook
from pcc_pipeline.config import Params
from pcc_pipeline.config.alert_settings import AlertRule
from pcc_pipeline.data.contract import Contract
from pcc_pipeline.data.dataset import Dataset, load
from pcc_pipeline.data.quality.counts import duplicates
from pcc_pipeline.data.sample.messages import sample
from pcc_pipeline.data.split_record import TEST, TRAIN, SplitRecord
from pcc_pipeline.data.splits import RowKeys
from pcc_pipeline.steps.retraining.champion import Champion
from pcc_pipeline.steps.retraining.demand import demand_of
from pcc_pipeline.steps.retraining.guards import RetrainStoppedError, demand_sense
from pcc_pipeline.tracking.registry.champion import CurrentChampion
from pcc_pipeline.tracking.runs import TrainingRun

NAME = "pcc-intent-classifier"


def params(folder: Path, **retrain: object) -> Params:
    return Params.model_validate(
        {
            "data": {"path": "cases.csv", "split": "stable"},
            "retrain": {"min_new_rows": 20, **retrain},
            "output": {"alerts_dir": str(folder / "alerts")},
        }
    )


def dataset(frame: pd.DataFrame) -> Dataset:
    return load([frame], Contract("intent"), "cases.csv", 1.0)


def champion(data: Dataset, tags: Mapping[str, str] | None = None, near_duplicates: int = 10_000) -> Champion:
    """One that was trained on this data, today; by default its data was full of near-duplicates."""
    keys, positions = RowKeys.of(data.texts), np.arange(len(data.frame))
    counts = duplicates(keys.texts, list(data.labels))
    document = {
        "rows": len(data.frame),
        "rejected_rows": len(data.rejected),
        "unique_texts": counts.unique_texts,
        "conflicting_texts": counts.conflicting_texts,
        "near_duplicate_rows": near_duplicates,
        "class_counts": {"val": {"all": 30}, "test": {"all": 60}},
    }
    version = f"v{datetime.now(UTC):%Y%m%d}_000000"
    training = TrainingRun(
        "run",
        Params(),
        {"pcc.version": version},
        {"data": document},
        {"classes": sorted(set(data.labels))},
    )
    one = Champion(CurrentChampion("4", "run", tags or {}, True), training)
    split = SplitRecord.of(keys, {TRAIN: positions[::2], TEST: positions[1::2]}, data.labels, refit=True)
    vars(one)["split"] = split  # which it would read from MLflow
    return one


@pytest.fixture(autouse=True)
def no_versions(mlflow_store: Path) -> Path:
    """A registry without versions, so that none was trained today."""
    return mlflow_store


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return sample(400)[["text", "intent"]]


def why_not(settings: Params, data: Dataset, one: Champion, *, demanded: bool = False) -> str:
    with pytest.raises(RetrainStoppedError) as caught:
        demand_sense(settings, data, one, demanded=demanded)
    return str(caught.value)


def test_new_texts_and_corrected_labels_count_and_too_few_stop_it(rows: pd.DataFrame, tmp_path: Path) -> None:
    one = champion(dataset(rows[:300]))
    settings = params(tmp_path, worse_by=None)
    few = pd.concat([rows[:300], pd.DataFrame({"text": ["A new one entirely"], "intent": [rows["intent"][0]]})])
    assert "1 text is new or has another label since version 4" in why_not(settings, dataset(few), one)
    demand_sense(settings, dataset(few), one, demanded=True)
    assert "0 texts are new" in why_not(settings, dataset(rows[:299]), one, demanded=True)
    corrected = rows[:300].copy()
    by_text = corrected.drop_duplicates("text").index[:25]
    corrected.loc[corrected["text"].isin(corrected.loc[by_text, "text"]), "intent"] = rows["intent"][0]
    changed = (corrected["intent"] != rows["intent"][:300]).sum()
    assert changed >= 10
    demand_sense(params(tmp_path, worse_by=None, min_new_rows=10), dataset(corrected), one, demanded=False)


def test_labels_that_came_or_went_stop_it_and_a_text_in_their_column_is_not_shown(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    one, settings = champion(dataset(rows[:300])), params(tmp_path)
    shifted = rows.copy()
    shifted.loc[0, "intent"] = "My name is Ann Lee, and I want all of it gone!"
    shifted.loc[1, "intent"] = "brand_new"
    said = why_not(settings, dataset(shifted), one)
    assert "labels have appeared or vanished since version 4" in said
    assert "+brand_new, 1 more" in said
    assert "Ann" not in said
    gone = rows[rows["intent"] != "opt_out"].reset_index(drop=True)
    said = why_not(settings, dataset(gone), one)
    assert "-opt_out" in said
    assert said.endswith("if that is meant: --set retrain.labels=any")  # as pcc and the scripts take it
    demand_sense(params(tmp_path, labels="any", worse_by=None), dataset(gone), one, demanded=True)


def test_a_label_that_the_champion_had_among_test_rows_alone_has_not_appeared(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    """Else the champion's own data would be refused for ever."""
    data = rows[:300].copy()
    data.loc[[1, 3], ["text", "intent"]] = [["A rare one", "rare"], ["Another rare one", "rare"]]
    one, settings = champion(dataset(data)), params(tmp_path, worse_by=None, min_new_rows=0)
    one.training.metadata["classes"].remove("rare")
    demand_sense(settings, dataset(data), one, demanded=True)
    data.loc[5, "intent"] = "rarer"
    assert "+rarer" in why_not(settings, dataset(data), one)


def test_another_spelling_is_no_label_that_came_or_went_where_they_are_made_one(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    one, data = champion(dataset(rows[:300])), rows[:300].assign(intent=rows["intent"][:300].str.upper())
    settings = params(tmp_path, worse_by=None, min_new_rows=0)
    assert "+DATA_DELETION" in why_not(settings, dataset(data), one)
    folded = settings.model_copy(update={"data": settings.data.model_copy(update={"normalise_labels": True})})
    demand_sense(folded, dataset(data), one, demanded=True)


def test_near_duplicates_are_counted_among_the_rows_of_a_test_file_on_both_sides(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    different = rows.drop_duplicates("text").reset_index(drop=True)
    again = different.assign(text=[f"{text} please" for text in different["text"]])
    again.to_parquet(tmp_path / "test.parquet", index=False)
    one = champion(dataset(rows[:300]), near_duplicates=0)
    one.training.metrics["data"]["near_duplicates_looked_at"] = len(again)
    settings = params(tmp_path)
    with_test = {"test_path": str(tmp_path / "test.parquet")}
    settings = settings.model_copy(update={"data": settings.data.model_copy(update=with_test)})
    assert "near-duplicates, of the champion's data 0.0%" in why_not(settings, dataset(different), one)


def test_data_that_is_worse_than_the_champions_stops_it(rows: pd.DataFrame, tmp_path: Path) -> None:
    one, settings = champion(dataset(rows[:300])), params(tmp_path)
    demand_sense(settings, dataset(rows), one, demanded=False)
    blank = rows.copy()
    blank.loc[blank.index[::10], "text"] = " "
    assert "10.0% of the rows are rejected, of the champion's data 0.0%" in why_not(settings, dataset(blank), one)
    twice = rows.drop_duplicates("text")[:80]
    other = np.where(twice["intent"] == "opt_out", "other", "opt_out")
    torn = pd.concat([rows, twice.assign(intent=other)], ignore_index=True)
    said = why_not(settings, dataset(torn), one)
    assert "of the texts have two labels, of the champion's data" in said
    assert "rejected" not in said
    demand_sense(params(tmp_path, worse_by=None), dataset(torn), one, demanded=False)


def test_near_duplicates_stop_it_where_the_champions_data_had_few(rows: pd.DataFrame, tmp_path: Path) -> None:
    different = rows.drop_duplicates("text")
    again = different.assign(text=[f"{text} please" for text in different["text"]])
    copied = pd.concat([different, again], ignore_index=True)
    said = why_not(params(tmp_path), dataset(copied), champion(dataset(rows[:300]), near_duplicates=0))
    assert "near-duplicates, of the champion's data 0.0%" in said
    demand_sense(params(tmp_path), dataset(copied), champion(dataset(rows[:300])), demanded=False)


def test_alerts_about_drift_or_accuracy_demand_a_training_and_others_do_not(rows: pd.DataFrame, tmp_path: Path) -> None:
    one, settings = champion(dataset(rows)), params(tmp_path)
    assert demand_of(settings, one) == ""
    book = AlertBook(Path(settings.output.alerts_dir))
    bad: list[tuple[str, dict[str, Any]]] = [("2026-W01", {"quality/rejected_share": 0.2, "drift/alarm": 1.0})]
    rejected = AlertRule(metric="quality/rejected_share", above=0.05)
    book.judge(NAME, [rejected], bad, [])
    assert demand_of(settings, one) == ""
    book.judge(NAME, [rejected, AlertRule(metric="drift/alarm", above=0)], bad, [])
    assert demand_of(settings, one).startswith("drift/alarm above 0, since 20")
    assert demand_of(params(tmp_path, demanded_by=[]), one) == ""
    tagged = champion(dataset(rows), {"pcc.alert": "messages have changed: lengths"})
    assert demand_of(settings, tagged).startswith("messages have changed: lengths; drift/alarm")
    late = champion(
        dataset(rows), {"pcc.alert": "the newest row is 9 days old", "pcc.alert_kinds": "quality operation"}
    )
    assert demand_of(settings, late).startswith("drift/alarm")


def test_what_was_judged_before_the_champion_was_trained_is_none_of_its_faults(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    settings = params(tmp_path)
    book = AlertBook(Path(settings.output.alerts_dir), clock=lambda: datetime(2020, 1, 1, tzinfo=UTC))
    book.judge(NAME, [AlertRule(metric="drift/alarm", above=0)], [("w", {"drift/alarm": 1.0})], [])
    assert demand_of(settings, champion(dataset(rows))) == ""
