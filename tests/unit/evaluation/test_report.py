"""A report measures what the model does not know as well, and names its numbers so that MLflow takes them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from pcc_pipeline.errors import ConfigError, DataError
from pcc_pipeline.evaluation.metric_names import metric_names
from pcc_pipeline.evaluation.metrics import scores
from pcc_pipeline.evaluation.report import cv_metrics, report

CLASSES = ["data_deletion", "opt_out", "other"]


def sample(rows: int = 120, seed: int = 1):
    draws = np.random.default_rng(seed)
    y = draws.integers(0, 3, rows)
    given = draws.dirichlet(np.ones(3), rows)
    given[np.arange(rows), y] += 0.4
    return np.array(CLASSES, dtype=object)[y], given / given.sum(axis=1, keepdims=True), y


def test_a_report_of_known_labels_holds_the_scores():
    labels, given, y = sample()
    found = report("test", labels, given, CLASSES)
    assert found.scores == scores(y, given, 3)
    assert found.n_rows == 120
    assert found.unknown_labels == {}
    assert [score.label for score in found.by_class] == CLASSES
    low, high = found.intervals["f1_macro"]
    assert low < found.scores["f1_macro"] < high


def test_rows_of_unknown_labels_are_errors_and_are_counted_under_their_own_label():
    labels, given, y = sample()
    strange = np.concatenate([labels, ["refund", "refund", "appeal"]])
    found = report("test", strange, np.concatenate([given, given[:3]]), CLASSES)
    known = scores(y, given, 3)
    assert found.unknown_labels == {"appeal": 1, "refund": 2}
    assert found.scores["accuracy"] == pytest.approx(known["accuracy"] * 120 / 123)
    # Two more labels, each with F1 0, and rightly found classes lose a little precision.
    assert found.scores["f1_macro"] < known["f1_macro"] * 3 / 5
    assert {name: found.scores[name] for name in ("roc_auc", "pr_auc", "log_loss")} == {
        name: known[name] for name in ("roc_auc", "pr_auc", "log_loss")
    }
    refund = next(score for score in found.by_class if score.label == "refund")
    assert (refund.support, refund.recall, refund.f1) == (2, 0.0, 0.0)


def test_a_split_of_unknown_labels_only_is_measured_as_all_wrong():
    found = report("test", ["x", "y"], np.eye(3)[[0, 1]], CLASSES)
    assert found.scores["accuracy"] == found.scores["f1_macro"] == 0.0
    assert found.calibration_error == 1.0
    assert math.isnan(found.scores["roc_auc"])
    assert "test/roc_auc" not in found.metrics()


def test_the_positive_label_decides_what_two_class_scores_are_about():
    labels, given, y = sample()
    labels, given, y = labels[y < 2], given[y < 2][:, :2], y[y < 2]
    given = given / given.sum(axis=1, keepdims=True)
    for label, place in (("data_deletion", 0), ("opt_out", 1), (None, 1)):
        assert report("val", labels, given, CLASSES[:2], label).scores == scores(y, given, 2, place)
    with pytest.raises(ConfigError, match=r"positive label 'other' is not one") as caught:
        report("val", labels, given, CLASSES[:2], "other")
    assert "'opt_out'" in caught.value.fix


def test_metrics_have_the_names_of_the_design_and_no_nan():
    labels, given, _ = sample()
    found = report("test", labels, given, [*CLASSES[:2], "never seen"])
    metrics = found.metrics()
    for name in ("accuracy", "f1", "f1_macro", "f1_weighted", "roc_auc", "pr_auc", "log_loss", "calibration_error"):
        assert metrics[f"test/{name}"] == (found.scores | {"calibration_error": found.calibration_error})[name]
    assert metrics["test/class/opt_out/support"] == (labels == "opt_out").sum()
    assert metrics["test/unknown_label_rows"] == (labels == "other").sum()
    assert "test/class/never seen/recall" not in metrics
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert not [name for name in found.metrics(by_class=False) if "/class/" in name]


def test_to_json_is_valid_json_that_keeps_labels_and_says_null_for_nan():
    found = report("test", ["a$ b/c", "?"], np.eye(2), ["a$ b/c", "nowhere"])
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert read["scores"]["roc_auc"] is None
    assert [score["label"] for score in read["by_class"]] == ["a$ b/c", "nowhere", "?"]
    assert read["by_class"][0]["support"] == 1
    assert read["unknown_labels"] == {"?": 1}


def test_an_empty_split_and_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"the val split has no rows"):
        report("val", [], np.empty((0, 3)), CLASSES)
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(3, 3\)"):
        report("val", ["other", "other"], np.eye(3), CLASSES)


HARD_LABELS = [
    "a/b",
    "a_b",
    "a?b",
    "A_B",
    "Opt_out",
    "opt_Out",
    "",
    ".",
    "..",
    "_",
    "  pad ",
    "pad",
    "éñ",
    "削除",
    "a:b\n",
]
HARD_LABELS += ["x" * 400, "x" * 401]


def test_labels_become_names_that_mlflow_takes_and_that_never_collide():
    from mlflow.utils.validation import _validate_metric_name

    names = metric_names(HARD_LABELS)
    assert len({name.casefold() for name in names.values()}) == len(HARD_LABELS)
    for name in names.values():
        _validate_metric_name(f"train/class/{name}/precision")
        assert len(f"train/class/{name}/precision") <= 250
        assert "/" not in name


def test_safe_labels_keep_their_names_and_order_changes_none():
    assert metric_names(["opt_out", "privacy-request 2.0"]) == {
        "opt_out": "opt_out",
        "privacy-request 2.0": "privacy-request 2.0",
    }
    assert metric_names(["really?"]) == {"really?": "really_"}
    assert metric_names(HARD_LABELS) == metric_names(HARD_LABELS[::-1])
    assert metric_names(["a_b", "A_B", "a/b"])["A_B"] == "A_B"


def test_cv_metrics_are_mean_and_sample_deviation():
    found = cv_metrics([{"accuracy": 0.8}, {"accuracy": 0.9}])
    assert found["cv/accuracy_mean"] == pytest.approx(0.85)
    # Sample deviation: sqrt((0.05**2 + 0.05**2) / (2 - 1)).
    assert found["cv/accuracy_std"] == pytest.approx(math.sqrt(0.005))


def test_cv_metrics_leave_folds_out_where_a_metric_could_not_be_measured():
    folds = [{"roc_auc": math.nan, "f1": 0.5}, {"roc_auc": 0.7, "f1": 0.7}, {"roc_auc": math.nan, "f1": math.nan}]
    assert cv_metrics(folds) == pytest.approx({"cv/roc_auc_mean": 0.7, "cv/f1_mean": 0.6, "cv/f1_std": math.sqrt(0.02)})
    assert cv_metrics([{"pr_auc": math.nan}]) == {}
