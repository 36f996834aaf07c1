"""A model that may say "I don't know": trained, evaluated and scored as a user would."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pcc_pipeline.evaluation.predictions import COLUMNS

pytestmark = pytest.mark.pipeline

FIXED = "model.search_method=none model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs"


@pytest.fixture(scope="module")
def trained(new_store, in_process, noisy_file):
    """A model that leaves a quarter of the rows, or fewer, to a person."""
    store = new_store("leaving")
    rule = "decision.abstain=auto decision.max_review_share=0.25 decision.conformal=0.9"
    assert in_process(store.folder, "train", ["--data", str(noisy_file), "--set", f"{FIXED} {rule}"]) == 0
    return store


@pytest.fixture(scope="module")
def noisy_file(small_frame, tmp_path_factory):
    """A tenth of the labels are another row's, so that no model can be sure of all."""
    frame = small_frame.copy()
    frame.loc[::10, "intent"] = frame["intent"].iloc[::-1].iloc[::10].to_numpy()
    path = tmp_path_factory.mktemp("noisy") / "noisy.parquet"
    frame.to_parquet(path, index=False)
    return path


def test_the_run_says_how_it_is_calibrated_and_what_it_leaves(trained) -> None:
    run = trained.step("train")
    tried = {name for name in run.data.metrics if name.startswith("cv/log_loss_calibration_")}
    assert {name.rpartition("_")[2] for name in tried} == {"none", "temperature", "sigmoid", "isotonic"}
    chosen = run.data.tags["pcc.calibration"]
    losses = {name.rpartition("_")[2]: run.data.metrics[name] for name in tried}
    of_labels = {name: run.data.metrics[f"cv/f1_macro_calibration_{name}"] for name in losses}
    assert losses[chosen] == min(losses[name] for name in losses if of_labels["none"] - of_labels[name] <= 0.01)
    assert (run.data.params["model.calibration"], run.data.params["decision.max_review_share"]) == ("auto", "0.25")
    metadata = json.loads(trained.file(run, "metadata.json").read_text())
    assert metadata["calibration"]["method"] == chosen
    assert 0 < metadata["decision"]["threshold"] < 1
    assert set(metadata["decision"]["label_limits"]) == set(metadata["classes"])


def test_wrong_labels_are_listed_and_a_list_leaves_rows_out_of_training_alone(
    command, trained, noisy_file, small_frame
) -> None:
    run = trained.step("train")
    issues = pd.read_parquet(trained.file(run, "label_issues.parquet"))
    assert list(issues.columns) == ["case_id", "label", "suggested", "score"]
    assert run.data.metrics["data/label_issues"] == len(issues) > 0
    pd.testing.assert_frame_equal(pd.read_parquet(trained.folder / "outputs/label_issues.parquet"), issues)
    document = json.loads(trained.file(run, "metrics.json").read_text())
    assert document["label_issues"] == issues.head(50).to_dict("records")
    # A tenth of the labels are another row's: the list holds more of those than chance would.
    true = small_frame.set_index("case_id")["intent"]
    assert (true[issues["case_id"]].to_numpy() != issues["label"].to_numpy()).mean() > 0.4

    split = pd.read_parquet(trained.file(run, "split.parquet"))
    tested = pd.read_parquet(noisy_file)["case_id"][split["split"] == "test"].iloc[0]
    listed = [*issues["case_id"], tested, "no such case"]
    pd.DataFrame({"case_id": listed}).to_csv(trained.folder / "listed.csv", index=False)
    options = f"{FIXED} data.exclude=listed.csv registry.model_name=without"
    done = command("train", "--data", str(noisy_file), "--set", options, store=trained)
    assert done.code == 0, done.err
    assert f"{len(issues)} rows left out of training" in done.out
    assert f"1 of the {len(listed)} case ids that data.exclude lists are not in the data" in done.out
    assert "1 test row that data.exclude lists stays" in done.out
    without = trained.step("train")
    assert without.data.metrics["data/excluded_rows"] == len(issues)
    after = pd.read_parquet(trained.file(without, "split.parquet"))
    assert after["split"][split["split"] == "test"].eq("test").all()
    assert (after["split"] == "left_out").sum() == len(issues)


def test_evaluate_measures_the_rule_and_its_predictions_follow_it(command, trained) -> None:
    done = command("evaluate", store=trained)
    assert done.code == 0, done.err
    assert "leaves the rest to a person" in done.out
    run = trained.step("evaluate")
    table = pd.read_parquet(trained.file(run, "predictions.parquet"))
    left = table["prediction_notes"].notna()
    assert table["predicted_label"].isna().equals(left)
    assert table["confidence"].notna().all()
    assert run.data.metrics["test/decided_share"] == pytest.approx(1 - left.mean())
    assert "figures/risk_coverage.png" in trained.files(run)
    document = json.loads(trained.file(run, "metrics.json").read_text())["test"]["answers"]
    assert document["decided"]["share"] == run.data.metrics["test/decided_share"]
    assert document["label_sets"]["share"] == 0.9
    # By the model's own settings, not the caller's.
    assert run.data.params["decision.abstain"] == "auto"


def test_evaluate_measures_parts_of_the_rows_also_by_a_named_column(command, trained, noisy_file) -> None:
    """The training did not name it: the caller's slices count, and the fingerprint stays the same with the column."""
    frame = pd.read_parquet(noisy_file).assign(country=lambda rows: ["de", "fr"] * (len(rows) // 2))
    frame.to_parquet(trained.folder / "with_country.parquet", index=False)
    data = ("--data", "with_country.parquet", "--set")
    done = command("evaluate", *data, "evaluation.slices=[country]", store=trained)
    assert done.code == 0, done.err
    run = trained.step("evaluate")
    parts = json.loads(trained.file(run, "metrics.json").read_text())["test"]["slices"]
    assert {"text_length", "has_personal_info", "confidence", "country"} <= {part["slice"] for part in parts}
    whole = [part for part in parts if (part["slice"], part["metric"]) == ("country", "accuracy")]
    assert sum(part["rows"] for part in whole) == run.data.metrics["test/rows"]
    for part in whole:
        assert run.data.metrics[f"test/slice/country/{part['value']}/accuracy"] == part["score"]
    assert run.data.params["evaluation.slices"] == "['country']"
    lacking = command("evaluate", *data, "evaluation.slices=[region]", store=trained)
    assert lacking.code == 1
    assert "lacks required columns: region" in lacking.err
    assert "country" in lacking.err


def test_score_leaves_the_same_rows_and_counts_them(command, trained, noisy_file) -> None:
    done = command(
        *("score", "--data", str(noisy_file), "--model", "models:/pcc-intent-classifier@challenger"), store=trained
    )
    assert done.code == 0, done.err
    table = pq.read_table(trained.folder / "outputs/scores.parquet")
    assert table.schema.names == list(COLUMNS)
    frame = table.to_pandas()
    left = frame["prediction_notes"].notna()
    assert 0 < left.sum() < len(frame)
    assert frame["predicted_label"].isna().equals(left)
    assert f"{left.sum():,} rows left to a person" in done.out
    assert trained.step("score").data.metrics["score/undecided_rows"] == left.sum()


def test_without_a_search_validation_rows_calibrate_and_few_do_not(in_process, new_store, small_frame) -> None:
    store = new_store("few")
    small_frame.to_parquet(store.folder / "all.parquet", index=False)
    small_frame.head(80).to_parquet(store.folder / "few.parquet", index=False)
    for name, losses in (("all", 4), ("few", 1)):
        data = str(store.folder / f"{name}.parquet")
        assert in_process(store.folder, "train", ["--data", data, "--set", f"{FIXED} data.validation_size=0.2"]) == 0
        run = store.step("train")
        assert len([key for key in run.data.metrics if key.startswith("cv/log_loss_calibration_")]) == losses
    assert run.data.tags["pcc.calibration"] == "none"
    rule = f"{FIXED} decision.abstain=auto decision.target_accuracy=0.9 data.test_size=0.4 data.validation_size=0.4"
    small_frame.head(12).to_parquet(store.folder / "twelve.parquet", index=False)
    assert in_process(store.folder, "train", ["--data", str(store.folder / "twelve.parquet"), "--set", rule]) == 1
