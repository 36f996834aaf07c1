"""The whole way: `main` from a file to an evaluated, registered model, and each step alone beside it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pcc_pipeline.data.sample.messages import sample

pytestmark = pytest.mark.pipeline

# A customer's word, which no part of MLflow and no log may hold; it is common enough to enter a vocabulary.
WORD = "Zanzibarkowski"
NAME = "pcc-intent-classifier"


def _text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


DOWNSTREAM = {
    "case_id": _text,
    "predicted_label": _text,
    "subtype_label": lambda kind: _text(kind) or pa.types.is_null(kind),
    "confidence": pa.types.is_floating,
    "model_version": _text,
    "embedding_model": _text,
    "inference_timestamp": pa.types.is_timestamp,
    "prediction_notes": lambda kind: _text(kind) or pa.types.is_null(kind),
    "ingestion_time": pa.types.is_timestamp,
}
SCORES = {"accuracy", "f1_macro", "f1_weighted", "roc_auc", "pr_auc", "log_loss"}
INTENTS = ["data_deletion", "opt_out", "other", "privacy_request"]
FIGURES = (
    "confusion_matrix",
    "confusion_matrix_normalised",
    "roc_curve",
    "precision_recall_curve",
    "calibration_curve",
    "feature_halves",
)
SPACE = "'model.search_space={C: [0.1, 1, 10], penalty: [l2], solver: [liblinear]}' model.cv_folds=2 search.n_jobs=1"
RANDOM = ("--search-method", "random", "--n-iter", "2", "--set", SPACE)
FIXED = ("--search-method", "none", "--set", "model.hyperparameters.penalty=l2 model.hyperparameters.solver=lbfgs")


@dataclass(frozen=True)
class First:
    """The `main` run that most tests look at: its store, and all that it said."""

    store: object
    said: str


@pytest.fixture(scope="module")
def first(new_store, in_process) -> First:
    store = new_store("main")
    frame = sample(400)
    frame["text"] = [text if number % 5 else f"{text} {WORD}" for number, text in enumerate(frame["text"])]
    frame["customer"] = [f"customer {number // 3}" for number in range(len(frame))]
    frame.loc[0, "text"] = f"{WORD} " * 1000  # quarantined
    frame.to_csv(store.folder / "cases.csv", index=False)
    with (store.folder / "cases.csv").open("a") as file:
        file.write("\n\n")
    frame.to_parquet(store.folder / "cases.parquet", index=False)
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = in_process(store.folder, "main", ["--data", "cases.csv", *RANDOM])
    finally:
        logging.getLogger().removeHandler(handler)
    assert code == 0, said.getvalue()
    return First(store, said.getvalue())


@pytest.fixture(scope="module")
def tree(first) -> dict:
    """Step -> run of the first `main`."""
    pipeline = next(run for run in first.store.runs() if run.data.tags["pcc.step"] == "pipeline")
    steps = {run.data.tags["pcc.step"]: run for run in first.store.children(pipeline)}
    return {"pipeline": pipeline, **steps}


@pytest.fixture
def store(first):
    """The first run's store, in place of one for each test."""
    return first.store


def test_runs_form_the_tree_of_the_design(store, tree) -> None:
    assert [run.info.run_name for run in store.children(tree["pipeline"])] == ["embed", "train", "evaluate"]
    trials = store.children(tree["train"])
    assert [run.info.run_name for run in trials] == ["trial-000", "trial-001"]
    assert {run.data.tags["pcc.step"] for run in trials} == {"trial"}
    assert not store.children(tree["embed"]) + store.children(tree["evaluate"])
    assert {run.info.status for run in [*tree.values(), *trials]} == {"FINISHED"}
    assert len({run.info.experiment_id for run in [*tree.values(), *trials]}) == 1
    assert store.client.get_experiment(tree["train"].info.experiment_id).name == "pcc-intent"


def test_the_summary_says_scores_version_and_where_to_look(first) -> None:
    for expected in ("embedded", f"{NAME} version 1", "alias challenger", "macro F1", "mlflow ui --backend-store-uri"):
        assert expected in first.said


def test_the_summary_tells_what_was_decided(first) -> None:
    summary = first.said[first.said.index("\nembedded ") :]
    assert re.search(
        r"searched   2 candidates: 2 complete.*\n +best is trial [01], f1_macro 0\.\d{4} ± 0\.\d{4}", summary
    )
    (best,) = re.findall(r"over 2 folds: (.*)", summary)
    assert re.search(r"\bC [\d.]+", best)
    assert "penalty l2" in best
    for head in ("class, most rows first", "class, worst first"):
        table = summary[summary.index(head) :].splitlines()[1:5]
        assert sorted(line.split()[0] for line in table) == INTENTS
    assert re.search(r"^took       (\d+ min )?\d+ s$", summary, re.M)
    assert not re.search(r"\b0 texts/s", summary)


def test_the_resolved_configuration_is_logged_under_dotted_keys(store, tree) -> None:
    for step in ("pipeline", "embed", "train", "evaluate"):
        params = tree[step].data.params
        assert params["data.path"] == "cases.csv"
        assert all("." in key for key in params)
        if step == "embed":
            assert not [key for key in params if key.startswith("model.")], "it used none of them"
            continue
        assert params["model.search_method"] == "random"
        assert params["model.cv_folds"] == "2"
        assert params["preprocessing.tfidf.analyzer"] == "char_wb"
    document = yaml.safe_load(store.file(tree["train"], "params.yaml").read_text())
    assert document["model"]["cv_folds"] == 2
    assert document["data"]["path"] == "cases.csv"
    for trial in store.children(tree["train"]):
        assert trial.data.params["model.hyperparameters.C"] in ("0.1", "1", "10")


def test_run_version_metadata_and_trials_say_which_solver_fitted(store, tree) -> None:
    solver = tree["train"].data.tags["pcc.solver"]
    assert solver == "pcc_pipeline/quasi_newton", "it stands in for the liblinear that the search names"
    assert store.client.get_model_version(NAME, "1").tags["pcc.solver"] == solver
    assert json.loads(store.file(tree["train"], "metadata.json").read_text())["solver"] == solver
    assert {trial.data.tags["pcc.solver"] for trial in store.children(tree["train"])} == {solver}


def test_metrics_have_the_names_of_the_design(store, tree) -> None:
    trained, evaluated = tree["train"].data.metrics, tree["evaluate"].data.metrics
    for score in SCORES:
        assert {f"train/{score}", f"val/{score}", f"cv/{score}_mean", f"cv/{score}_std"} <= set(trained)
        assert f"test/{score}" in evaluated
        assert tree["pipeline"].data.metrics[f"test/{score}"] == evaluated[f"test/{score}"]
    for intent in INTENTS:
        assert {f"test/class/{intent}/{name}" for name in ("precision", "recall", "f1", "support")} <= set(evaluated)
    assert sum(evaluated[f"test/class/{intent}/support"] for intent in INTENTS) == evaluated["test/rows"]
    assert not [name for name in trained if name.startswith("test/")], "training reads no test row"
    for trial in store.children(tree["train"]):
        folds = store.client.get_metric_history(trial.info.run_id, "cv/f1_macro")
        scores = [fold.value for fold in folds]
        assert [fold.step for fold in folds] == [0, 1]
        assert trial.data.metrics["cv/f1_macro_mean"] == pytest.approx(sum(scores) / 2)


def test_artifacts_of_the_design_are_there(store, tree) -> None:
    trained = {"params.yaml", "metrics.json", "metadata.json", "rejected.parquet", "trials.parquet"}
    trained |= {"figures/class_distribution.png", "figures/optimisation_history.png"}
    assert trained <= store.files(tree["train"])
    evaluated = {
        "metrics.json",
        "predictions.parquet",
        "report.html",
        "model_card.md",
        *(f"figures/{name}.png" for name in FIGURES),
    }
    assert evaluated <= store.files(tree["evaluate"])
    assert "rejected.parquet" in store.files(tree["embed"])
    rejected = pd.read_parquet(store.file(tree["embed"], "rejected.parquet"))
    assert list(rejected["reason"]) == ["longer than 10,000 characters"]
    metadata = json.loads(store.file(tree["train"], "metadata.json").read_text())
    assert metadata["model_version"] == tree["train"].data.tags["pcc.version"]
    assert (metadata["embedding_model"], metadata["trained_on"]) == ("all-MiniLM-L6-v2", "cases.csv")
    assert (metadata["classifier"], metadata["feature_dimensions"]) == ("LogisticRegression", 584)
    assert metadata["classes"] == INTENTS
    assert sum(metadata["class_distribution"].values()) == metadata["training_samples"]
    metrics = json.loads(store.file(tree["evaluate"], "metrics.json").read_text())
    assert {"train", "val", "cv", "test"} <= set(metrics)
    assert metrics["test"]["scores"]["f1_macro"] == tree["evaluate"].data.metrics["test/f1_macro"]


def test_predictions_have_the_downstream_columns_and_types(store, tree) -> None:
    table = pq.read_table(store.file(tree["evaluate"], "predictions.parquet"))
    assert table.column_names == list(DOWNSTREAM)
    for name, fits in DOWNSTREAM.items():
        kind = table.schema.field(name).type
        assert fits(kind), (name, kind)
    frame = table.to_pandas()
    assert len(frame) == tree["evaluate"].data.metrics["test/rows"]
    assert set(frame["predicted_label"]) <= set(INTENTS)
    assert frame["confidence"].between(0.25, 1).all()
    assert frame["case_id"].is_unique
    assert set(frame["model_version"]) == {tree["train"].data.tags["pcc.version"]}
    assert str(frame["inference_timestamp"].dt.tz) == "UTC"
    copies = {f"figures/{path.name}" for path in (store.folder / "outputs/figures").iterdir()}
    assert copies == {name for name in store.files(tree["evaluate"]) if name.startswith("figures/")}
    local = pd.read_parquet(store.folder / "outputs/predictions.parquet")
    assert list(local.columns) == list(DOWNSTREAM)


def test_the_version_is_registered_with_alias_and_tags(store, tree) -> None:
    version = store.client.get_model_version(NAME, "1")
    run = tree["train"]
    assert version.run_id == run.info.run_id
    for tag in ("pcc.version", "pcc.data_digest", "pcc.encoder_digest", "pcc.git_commit", "pcc.git_dirty"):
        assert version.tags[tag] == run.data.tags[tag]
    assert re.fullmatch(r"(torch|openvino)-\w+", run.data.tags["pcc.encoder_backend"])
    assert len(version.tags["pcc.git_commit"]) == 40
    assert float(version.tags["metric.val/f1_macro"]) == pytest.approx(run.data.metrics["val/f1_macro"], abs=1e-6)
    assert tree["evaluate"].data.tags["pcc.version"] == run.data.tags["pcc.version"]


def test_the_report_says_whether_it_may_serve_here_and_in_mlflow(store, tree, first) -> None:
    page = store.file(tree["evaluate"], "report.html").read_text(encoding="utf-8")
    assert (store.folder / "outputs/report.html").read_text(encoding="utf-8") == page
    assert "outputs/report.html" in first.said
    measured = tree["evaluate"].data.metrics
    gate = "minimum test/f1_macro"
    card = store.file(tree["evaluate"], "model_card.md").read_text(encoding="utf-8")
    for expected in (gate, f"{measured['test/f1_macro']:.4f}", "There is no champion yet", *INTENTS):
        assert expected in page
        assert expected in card.replace(chr(92), "")
    assert WORD not in page + card


def test_each_page_says_which_data_which_model_and_how_good(store, tree) -> None:
    version = store.client.get_model_version(NAME, "1")
    pages = {step: tree[step].data.tags["mlflow.note.content"] for step in ("pipeline", "train", "evaluate")}
    pages["version"] = version.description
    model = f"LogisticRegression {tree['train'].data.tags['pcc.version']}"
    measured = tree["evaluate"].data.metrics
    scored = f"macro F1 {measured['test/f1_macro']:.3f} (95% {measured['test/f1_macro_low']:.3f} to "
    for page, text in pages.items():
        assert len(text) < 5000
        first = text.partition("\n")[0]
        assert re.fullmatch(rf"{model}: macro F1 0\.\d+ \(.*rows.*\. Learned from cases\.csv\.", first), first
        for expected in ("cases.csv", tree["train"].data.tags["pcc.data_digest"][:12], *INTENTS, "C ", "penalty l2"):
            assert expected in text.replace(chr(92), ""), page
        assert (scored in text) is (page != "train")
    for page in ("pipeline", "version"):
        assert f"mlflow.pyfunc.load_model('models:/{NAME}/1')" in pages[page]
        assert "pass no gates" in pages[page]
    assert f"#/models/{NAME}/versions/1" in pages["pipeline"]
    files = f"runs/{tree['evaluate'].info.run_id}/artifacts"
    for page in ("pipeline", "evaluate", "version"):
        assert f"{files}/report.html" in pages[page]
        assert f"{files}/model_card.md" in pages[page]
    assert {"figures/confusion_matrix.png", "figures/calibration_curve.png"} <= store.files(tree["pipeline"])
    assert "pass no gates" in store.client.get_registered_model(NAME).description
    assert version.tags["metric.test/f1_macro"] == f"{measured['test/f1_macro']:.6f}"
    (logged,) = tree["train"].outputs.model_outputs
    assert store.client.get_logged_model(logged.model_id).name == model
    assert [each.model_id for each in tree["pipeline"].outputs.model_outputs] == [logged.model_id]
    evaluate = store.client.get_run(tree["evaluate"].info.run_id)
    assert [each.model_id for each in evaluate.inputs.model_inputs] == [logged.model_id]


def test_every_file_is_listed_with_its_use(store, tree) -> None:
    uses = {"pipeline": "training", "embed": "embedding", "train": "training", "evaluate": "testing"}
    for step, use in uses.items():
        (used,) = tree[step].inputs.dataset_inputs
        digest = tree["train"].data.tags["pcc.data_digest"][:12]
        assert (used.dataset.name, used.dataset.digest, used.tags[0].value) == ("cases.csv", digest, use)


def test_no_word_of_a_customer_is_in_mlflow_or_the_log(first, tree) -> None:
    """In no byte of the database and the artifacts, opened where they are compressed."""
    word = WORD.lower().encode()
    places = [path for path in first.store.folder.rglob("*") if path.is_file() and path.parent.name != "embedded"]
    places = [path for path in places if path.name not in ("cases.csv", "cases.parquet")]
    assert {".skops", ".png", ".parquet", ".db", ".json"} <= {path.suffix for path in places}
    for path in places:
        contents = [path.read_bytes()]
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as parts:
                contents += [parts.read(name) for name in parts.namelist()]
        if path.suffix == ".parquet":
            contents.append(pd.read_parquet(path).to_csv().encode())
        for content in contents:
            assert word not in content.lower(), path
    assert word not in first.said.lower().encode()


def _embedded(store, stem: str) -> Path:
    """The one file that was made of `<stem>.…`."""
    (path,) = (store.folder / "outputs/embedded").glob(f"{stem}-????????.parquet")
    return path


def test_the_embedded_file_keeps_rows_and_digest(store, tree) -> None:
    table = pq.read_table(_embedded(store, "cases"))
    assert table.schema.field("embeddings").type == pa.list_(pa.float32(), 384)
    assert table.num_rows == 399
    assert tree["embed"].data.tags["pcc.data_digest"] == tree["train"].data.tags["pcc.data_digest"]
    measured = tree["embed"].data.metrics
    assert (measured["embed/data/rows"], measured["embed/data/rejected_rows"]) == (400, 1)
    assert measured["embed/data/unique_texts"] == table.to_pandas()["text"].nunique()


def test_rows_that_are_left_out_and_blank_lines_are_counted(store, tree) -> None:
    measured = tree["train"].data.metrics
    assert (measured["data/rejected_rows"], measured["data/blank_lines"]) == (1, 2)
    assert measured["quality/validity"] == 399 / 400
    assert measured["quality/uniqueness"] == 1 - measured["data/duplicate_rows"] / 399
    assert measured["quality/consistency"] == 1 - measured["data/rows_in_conflict"] / 399
    counted = json.loads(store.file(tree["train"], "metrics.json").read_text())["data"]
    assert (counted["rejected_rows"], counted["blank_lines"]) == (1, 2)


def test_training_on_the_embedded_file_gives_the_same_scores(command, store, tree) -> None:
    demanded = "case_id,confidence,timestamp,text_length,word_count,has_personal_info,formality_score,urgency_score"
    schema = f"data.schema=[{demanded},embeddings]"
    done = command("train", "--data", str(_embedded(store, "cases")), *RANDOM, "--set", schema)
    assert done.code == 0, done.err
    run = store.step("train")
    assert run.data.tags["pcc.data_digest"] == tree["train"].data.tags["pcc.data_digest"]
    assert _scores(run) == pytest.approx(_scores(tree["train"]), abs=1e-6)


def _scores(run) -> dict:
    return {name: value for name, value in run.data.metrics.items() if name.startswith(("train/", "val/", "cv/"))}


def test_evaluate_alone_gives_the_same_numbers_as_within_main(command, store, tree) -> None:
    done = command("evaluate", "--data", "cases.csv", "--model", f"models:/{NAME}/1")
    assert done.code == 0, done.err
    run = store.step("evaluate")
    assert run.info.run_id != tree["evaluate"].info.run_id
    assert run.data.metrics == tree["evaluate"].data.metrics
    both = [pd.read_parquet(store.file(one, "predictions.parquet")) for one in (run, tree["evaluate"])]
    same = ["case_id", "predicted_label", "confidence", "model_version"]
    pd.testing.assert_frame_equal(both[0][same], both[1][same])


def test_evaluate_on_another_file(command, store) -> None:
    """With a label that the model does not know: its rows count as errors, and the summary is there."""
    other = sample(60, seed=99)
    other.loc[:2, "intent"] = "complaint"
    other.to_csv(store.folder / "other.csv", index=False)
    done = command("evaluate", "--test-data", "other.csv")
    assert done.code == 0, done.err
    run = store.step("evaluate")
    assert run.data.metrics["test/rows"] == 60
    assert run.data.metrics["test/unknown_label_rows"] == 3
    assert run.data.tags["pcc.test_source"] == "other.csv"
    assert "60 test rows" in done.out


@pytest.mark.parametrize(
    ("labels", "accuracy"), [(["complaint", "praise"] * 4, 0.0), (["complaint"], 0.0), (["opt_out"] * 8, None)]
)
def test_a_file_is_evaluated_whatever_labels_its_rows_have(command, store, labels, accuracy) -> None:
    """Labels that the model does not know are errors, all of them where all are unknown; so is a single class."""
    other = sample(60, seed=99).iloc[: len(labels)].assign(intent=labels)
    other.to_csv(store.folder / "strange.csv", index=False)
    done = command("evaluate", "--test-data", "strange.csv")
    assert done.code == 0, done.err
    run = store.step("evaluate")
    assert run.data.metrics["test/rows"] == len(labels)
    assert "ROC-AUC not measured" in done.out
    assert "test/roc_auc" not in run.data.metrics
    assert {f"figures/{stem}.png" for stem in ("confusion_matrix", "calibration_curve")} <= store.files(run)
    if accuracy is not None:
        assert run.data.metrics["test/accuracy"] == run.data.metrics["test/f1_macro"] == accuracy
        assert run.data.metrics["test/unknown_label_rows"] == len(labels)
        assert f"{len(labels)} of {len(labels)} test rows have a label that the model does not know" in done.out


def test_evaluate_says_what_was_seen_about_the_test_file(command, store) -> None:
    sample(60, seed=98).to_csv(store.folder / "semicolons.csv", index=False, sep=";")
    done = command("evaluate", "--test-data", "semicolons.csv")
    assert done.code == 0, done.err
    assert re.search("^warning .*semicolons", done.out, re.MULTILINE)


def test_parquet_gives_what_csv_gave_and_nothing_is_encoded_twice(command, store, tree) -> None:
    """The same rows, options and seed: the same numbers to the last digit, in whichever format they come."""
    done = command("main", "--data", "cases.parquet", *RANDOM)
    assert done.code == 0, done.err
    embedded, trained, evaluated = (store.step(name) for name in ("embed", "train", "evaluate"))
    assert embedded.data.metrics["embed/data/cache_hits"] == embedded.data.metrics["embed/data/unique_texts"]
    assert embedded.data.tags["pcc.data_digest"] == tree["embed"].data.tags["pcc.data_digest"]
    assert _scores(trained) == _scores(tree["train"])
    assert evaluated.data.metrics == tree["evaluate"].data.metrics
    assert trained.data.tags["pcc.version"] > tree["train"].data.tags["pcc.version"]
    newest = store.client.get_model_version_by_alias(NAME, "challenger")
    assert newest.run_id == trained.info.run_id
    assert newest.tags["pcc.version"] == trained.data.tags["pcc.version"]


@pytest.mark.long
def test_a_group_never_stands_on_two_sides(command, store) -> None:
    done = command("main", "--data", "cases.csv", *FIXED, "--set", "data.group_column=customer")
    assert done.code == 0, done.err
    tested = set(pd.read_parquet(store.file(store.step("evaluate"), "predictions.parquet"))["case_id"])
    rows = pd.read_csv(store.folder / "cases.csv").drop(index=0)
    shares = rows["case_id"].isin(tested).groupby(rows["customer"]).mean()
    assert set(shares) == {0.0, 1.0}
    assert len(tested) == pytest.approx(0.2 * len(rows), rel=0.1)


def test_a_test_file_replaces_the_test_rows(command, store) -> None:
    """Its texts are kept out of training, and `evaluate` alone finds it again."""
    rows = pd.read_csv(store.folder / "cases.csv").drop(index=0)
    rows[:60].to_csv(store.folder / "held.csv", index=False)
    done = command("main", "--data", "cases.csv", "--test-data", "held.csv", *FIXED)
    assert done.code == 0, done.err
    trained, evaluated = store.step("train"), store.step("evaluate")
    assert trained.data.metrics["data/overlap_removed_rows"] >= 60
    assert evaluated.data.metrics["test/rows"] == 60
    assert _embedded(store, "held").is_file()
    assert command("evaluate").code == 0
    assert store.step("evaluate").data.metrics == evaluated.data.metrics


def test_embed_takes_a_file_without_labels(command, store) -> None:
    sample(60).drop(columns="intent").to_csv(store.folder / "unlabelled.csv", index=False)
    done = command("embed", "--data", "unlabelled.csv")
    assert done.code == 0, done.err
    assert pq.read_table(_embedded(store, "unlabelled")).num_rows == 60
    assert store.step("embed").info.run_name == "embed"


@pytest.mark.long
def test_two_labels_are_scored_for_the_positive_one(command, store) -> None:
    rows = pd.read_csv(store.folder / "cases.csv").drop(index=0)
    rows["deletes"] = (rows["intent"] == "data_deletion").map({True: "yes", False: "no"})
    rows.to_csv(store.folder / "binary.csv", index=False)
    options = ["--data", "binary.csv", "--label", "deletes", *FIXED]
    scores = {}
    for label in ("yes", "no"):
        done = command("main", *options, "--set", f"data.positive_label={label}")
        assert done.code == 0, done.err
        metrics = store.step("evaluate").data.metrics
        scores[label] = metrics["test/f1"]
        assert metrics["test/f1"] == metrics[f"test/class/{label}/f1"]
    assert scores["yes"] != scores["no"]


def test_outputs_hold_nothing_half_written(store) -> None:
    assert not list(store.folder.rglob(".partial-*"))
    assert not list(Path(store.folder).rglob("*.tmp"))


@pytest.mark.long
def test_by_time_a_label_that_came_later_is_an_error_of_the_scores_and_not_of_the_training(
    in_process, new_store, small_frame
) -> None:
    store = new_store("by-time-new-label")
    frame = small_frame.sort_values("timestamp", ignore_index=True)
    # Of the last 0.3 of the rows, which validate and test.
    frame.loc[frame.index[int(0.75 * len(frame)) :: 2], "intent"] = "new"
    frame.to_parquet(store.folder / "cases.parquet", index=False)
    by_time = [*FIXED[:-1], f"{FIXED[-1]} data.split=time data.validation_size=0.2"]
    assert in_process(store.folder, "main", ["--data", str(store.folder / "cases.parquet"), *by_time]) == 0
    metadata = json.loads(store.file(store.step("train"), "metadata.json").read_text())
    assert "new" not in metadata["classes"]
    assert metadata["class_distribution"].keys() == set(metadata["classes"])
    assert store.step("train").data.metrics["val/unknown_label_rows"] > 0
    assert store.step("evaluate").data.metrics["test/unknown_label_rows"] > 0
    few = [*FIXED[:-1], f"{FIXED[-1]} data.validation_size=0.05 model.calibration=sigmoid"]
    assert in_process(store.folder, "train", ["--data", str(store.folder / "cases.parquet"), *few]) == 1
