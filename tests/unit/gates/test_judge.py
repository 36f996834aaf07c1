"""Each gate passes what it should, refuses what it should, and refuses what it cannot compute, with the reason."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest

from pcc_pipeline.config import gate_settings, load_params
from pcc_pipeline.config.gate_settings import GateSettings, default_gates
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.evaluation.report import report
from pcc_pipeline.gates.evidence import FieldTest, GateEvidence
from pcc_pipeline.gates.gate import Gate, Measured
from pcc_pipeline.gates.judge import data_age_limit, in_words, judge, take_field_test
from pcc_pipeline.gates.kinds.ab_test import AbTestGate
from pcc_pipeline.gates.kinds.data_age import DataAgeGate
from pcc_pipeline.gates.kinds.encoder import EncoderGate
from pcc_pipeline.gates.kinds.metric_bounds import CalibrationGate, MaximumGate, MinimumGate
from pcc_pipeline.gates.kinds.no_worse_than_champion import NoWorseThanChampionGate
from pcc_pipeline.gates.verdicts import passed

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
DIGEST = "ab" * 32
CLASSES = ["opt_out", "data/deletion", "other"]


def measured(classes: list[str], labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """The metrics that an evaluation logs for a model that is sure of these answers."""
    return report(
        "test", labels, np.eye(len(classes))[[classes.index(label) for label in predicted]], classes
    ).metrics()


def answers(rows: int = 300, right: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    given = np.where(draws.random(rows) < right, y, draws.integers(0, 3, rows))
    names = np.array(CLASSES)
    return names[y], names[given]


LABELS, PREDICTED = answers()
GOOD = GateEvidence(
    metrics=measured(CLASSES, LABELS, PREDICTED),
    labels=LABELS,
    predicted=PREDICTED,
    champion_predicted=PREDICTED,
    data_time=NOW - timedelta(days=30),
    now=NOW,
    encoder_digest=DIGEST,
    serving_digest=DIGEST,
    champion_version="v20260601_000000",
)


def verdict(gate, evidence: GateEvidence = GOOD):
    (found,) = judge([gate], evidence)
    return found


def refused(gate, evidence: GateEvidence = GOOD) -> str:
    """The note of a gate that could not be computed."""
    found = verdict(gate, evidence)
    assert (found.passed, found.measured) == (False, "not computed")
    return found.note


def with_metrics(**metrics: float) -> GateEvidence:
    return replace(GOOD, metrics={name.replace("__", "/"): value for name, value in metrics.items()})


def test_a_good_version_passes_the_gates_of_the_shipped_file():
    found = judge(default_gates(), GOOD)
    assert [(each.gate, each.passed) for each in found] == [
        ("minimum test/f1_macro", True),
        ("no_worse_than_champion f1_macro", True),
        ("calibration", True),
        ("data_age", True),
        ("encoder", True),
    ]
    assert passed(found)


def test_nothing_known_of_a_version_passes_nothing():
    nothing = np.array([], dtype=str)
    empty = GateEvidence({}, nothing, nothing, nothing, None, NOW, "", None, None)
    found = judge(default_gates(), empty)
    assert [each.passed for each in found] == [False] * 5
    assert all(each.measured == "not computed" and each.note for each in found)


def test_what_cannot_judge_is_named():
    with pytest.raises(TypeError, match="cannot judge a GateSettings"):
        judge([GateSettings(kind="minimum")], GOOD)


@pytest.mark.parametrize(("value", "expected"), [(0.9, True), (0.8, True), (0.8 - 1e-15, True), (0.7999, False)])
def test_a_minimum_is_met_from_its_threshold_on(value, expected):
    assert verdict(MinimumGate(metric="test/x", threshold=0.8), with_metrics(test__x=value)).passed is expected


@pytest.mark.parametrize(("value", "expected"), [(0.1, True), (0.8, True), (0.8 + 1e-15, True), (0.8001, False)])
def test_a_maximum_is_met_up_to_its_threshold(value, expected):
    assert verdict(MaximumGate(metric="test/x", threshold=0.8), with_metrics(test__x=value)).passed is expected


def test_a_narrow_miss_is_not_rounded_into_a_hit():
    found = verdict(MinimumGate(metric="test/x", threshold=0.8), with_metrics(test__x=0.79999))
    assert (found.required, found.measured) == (">= 0.8", "0.79999")


def test_a_metric_that_is_absent_or_nan_fails_and_says_so():
    gate = MinimumGate(metric="test/f1_marco", threshold=0)
    assert refused(gate) == "the version has no metric test/f1_marco; did you mean test/f1_macro?"
    assert refused(gate, with_metrics()) == "the version has no metric test/f1_marco"
    for gate in (MinimumGate(metric="test/x", threshold=-9), MaximumGate(metric="test/x", threshold=9)):
        for value in (math.nan, math.inf, -math.inf):
            assert "it could not be measured" in refused(gate, with_metrics(test__x=value))


def test_a_class_may_be_named_as_in_the_data_or_as_in_mlflow():
    by_data = verdict(MinimumGate(metric="test/class/data/deletion/recall", threshold=0.5))
    by_store = verdict(MinimumGate(metric="test/class/data_deletion/recall", threshold=0.5))
    assert by_data.passed
    assert by_data.measured == by_store.measured == f"{GOOD.metrics['test/class/data_deletion/recall']:.4f}"


def test_labels_that_read_alike_in_mlflow_are_told_apart():
    labels = np.array(["a/b", "a/b", "a_b", "a_b"])
    predicted = np.array(["a/b", "a_b", "a_b", "a_b"])
    evidence = replace(GOOD, metrics=measured(["a/b", "a_b"], labels, predicted), labels=labels, predicted=predicted)
    assert verdict(MinimumGate(metric="test/class/a/b/recall", threshold=0), evidence).measured == "0.5000"
    assert verdict(MinimumGate(metric="test/class/a_b/recall", threshold=0), evidence).measured == "1.0000"


def test_a_class_that_there_is_not_fails():
    note = refused(MinimumGate(metric="test/class/complaint/f1", threshold=0))
    assert note.startswith("the version has no metric test/class/complaint/f1 (a class without test rows has none)")


def test_a_star_takes_the_worst_class_and_names_it():
    values = {"test__class__a__f1": 0.9, "test__class__b__f1": 0.4, "val__class__c__f1": 0.1, "test__f1_macro": 0.0}
    least = verdict(MinimumGate(metric="test/class/*/f1", threshold=0.5), with_metrics(**values))
    assert (least.measured, least.passed) == ("0.4000 (b)", False)
    assert verdict(MinimumGate(metric="test/class/*/f1", threshold=0.4), with_metrics(**values)).passed
    most = verdict(MaximumGate(metric="test/class/*/f1", threshold=0.85), with_metrics(**values))
    assert (most.measured, most.passed) == ("0.9000 (a)", False)


def test_the_worst_class_is_not_known_while_a_class_is_unmeasured():
    """A class that has dropped out of the test rows must not open the gate."""
    classes = [*CLASSES, *(f"rare {number}" for number in range(7))]
    evidence = replace(GOOD, metrics=measured(classes, LABELS, PREDICTED))
    note = refused(MinimumGate(metric="test/class/*/recall", threshold=0), evidence)
    assert note.startswith("7 of 10 classes have no recall, for want of test rows: rare 0, rare 1, ")
    assert note.endswith(" and 2 more")
    found = verdict(MinimumGate(metric="test/class/*/support", threshold=20), evidence)
    assert (found.passed, found.measured) == (False, "0.0000 (rare 0)")


def test_a_star_without_class_metrics_fails():
    note = refused(MinimumGate(metric="test/class/*/f1", threshold=0), with_metrics(test__f1=1))
    assert note == "the version has no metric test/class/<label>/f1"
    assert "nan" in refused(
        MinimumGate(metric="test/class/*/f1", threshold=0), with_metrics(test__class__a__f1=math.nan)
    )


def test_calibration_is_the_expected_calibration_error_of_the_test_rows():
    gate = CalibrationGate(threshold=0.1)
    assert verdict(gate, with_metrics(test__calibration_error=0.1)).passed
    found = verdict(gate, with_metrics(test__calibration_error=0.12))
    assert (found.gate, found.required, found.measured, found.passed) == (
        "calibration",
        "error <= 0.1",
        "0.1200",
        False,
    )
    assert "no metric test/calibration_error" in refused(gate, with_metrics())


def test_without_a_champion_there_is_nothing_to_be_worse_than():
    found = verdict(NoWorseThanChampionGate(), replace(GOOD, champion_predicted=None, champion_version=None))
    assert (found.passed, found.measured) == (True, "no champion")
    assert "no champion yet" in found.note


def test_a_champion_without_predictions_fails():
    note = refused(NoWorseThanChampionGate(), replace(GOOD, champion_predicted=None))
    assert note == "champion v20260601_000000 has no predictions for these test rows"


@pytest.mark.parametrize("metric", ["f1_macro", "accuracy", "f1_weighted"])
def test_a_much_worse_version_is_refused_and_a_better_one_is_not(metric):
    weak, gate = answers(right=0.7, seed=1)[1], NoWorseThanChampionGate(metric=metric)
    worse = verdict(gate, replace(GOOD, predicted=weak))
    assert not worse.passed
    assert worse.required == "difference >= -0.03 (95% sure)"
    assert worse.measured.startswith("at least -0.")
    assert "champion v20260601_000000 0.9" in worse.note
    assert "on 300 test rows of which" in worse.note
    assert verdict(gate, replace(GOOD, champion_predicted=weak)).passed


def test_what_the_luck_of_few_rows_leaves_open_is_refused():
    """Equally good models whose errors differ: 60 rows cannot show a margin of 0.01, 60,000 can."""
    few, many = 60, 60_000
    for rows, expected in ((few, False), (many, True)):
        labels, first = answers(rows, seed=2)
        evidence = replace(GOOD, labels=labels, predicted=first, champion_predicted=answers(rows, seed=3)[1])
        assert verdict(NoWorseThanChampionGate(metric="accuracy"), evidence).passed is expected
    wide = NoWorseThanChampionGate(metric="accuracy", margin=0.5)
    labels, first = answers(few, seed=2)
    assert verdict(
        wide, replace(GOOD, labels=labels, predicted=first, champion_predicted=answers(few, seed=3)[1])
    ).passed


def test_a_margin_of_nothing_asks_for_a_better_version():
    same = verdict(NoWorseThanChampionGate(margin=0))
    assert not same.passed
    assert "no number of rows shows a version that is just as good to be within 0: raise the gate's margin" in same.note
    weak = answers(right=0.7, seed=1)[1]
    assert verdict(NoWorseThanChampionGate(margin=0), replace(GOOD, champion_predicted=weak)).passed


def test_too_few_rows_to_judge_is_a_failed_gate_that_says_how_many_are_needed():
    labels, same = answers(20)
    few = replace(GOOD, labels=labels, predicted=same, champion_predicted=same)
    found = verdict(NoWorseThanChampionGate(metric="accuracy", margin=0.01), few)
    assert not found.passed
    assert re.search(r"too few rows to judge: about 30\d such test rows .* within 0\.01 in 4 of 5 cases", found.note)
    assert all(way in found.note for way in ("test_data", "margin in registry.gates", "force with a reason"))
    labels, same = answers(310)
    enough = replace(GOOD, labels=labels, predicted=same, champion_predicted=same)
    assert verdict(NoWorseThanChampionGate(metric="accuracy", margin=0.01), enough).passed


def test_predictions_of_other_rows_fail():
    gate = NoWorseThanChampionGate()
    assert "got 300, 300, 299" in refused(gate, replace(GOOD, champion_predicted=PREDICTED[1:]))
    assert "got 300, 299, 300" in refused(gate, replace(GOOD, predicted=PREDICTED[1:]))
    none = np.array([], dtype=str)
    assert "got 0, 0, 0" in refused(gate, replace(GOOD, labels=none, predicted=none, champion_predicted=none))


def test_predictions_as_objects_are_compared_as_text():
    evidence = replace(GOOD, labels=LABELS.astype(object), champion_predicted=pd.Series(PREDICTED, dtype="str").array)
    assert verdict(NoWorseThanChampionGate(), evidence).passed


@pytest.mark.parametrize(
    ("age", "expected", "found"),
    [
        (timedelta(days=30), True, "30.0 days (2026-06-01)"),
        (timedelta(days=365), True, "365.0 days (2025-07-01)"),
        (timedelta(days=365, hours=1), False, "365.04 days (2025-07-01)"),
        (timedelta(hours=-5), True, "0.0 days (2026-07-01)"),
    ],
)
def test_the_age_of_the_data_in_days(age, expected, found):
    given = verdict(DataAgeGate(days=365), replace(GOOD, data_time=NOW - age))
    assert (given.required, given.measured, given.passed) == ("<= 365 days", found, expected)


def test_ages_are_reckoned_over_time_zones():
    gate = DataAgeGate(days=1)
    naive = datetime(2026, 6, 30, 12, 30)
    assert verdict(gate, replace(GOOD, data_time=naive)).passed
    assert verdict(gate, replace(GOOD, data_time=naive, now=NOW.replace(tzinfo=None))).passed
    east = naive.replace(tzinfo=timezone(timedelta(hours=2)))
    assert not verdict(gate, replace(GOOD, data_time=east)).passed
    assert verdict(gate, replace(GOOD, data_time=pd.Timestamp("2026-06-30 12:30", tz="UTC"))).passed


@pytest.mark.parametrize("nothing", [None, pd.NaT])
def test_data_of_unknown_age_fail(nothing):
    assert "is known" in refused(DataAgeGate(), replace(GOOD, data_time=nothing))


def test_data_of_the_future_fail():
    """One mistyped year would otherwise keep the gate open for good."""
    note = refused(DataAgeGate(), replace(GOOD, data_time=datetime(2099, 1, 1, tzinfo=UTC)))
    assert note == "the training data are dated 2099-01-01, in the future: a timestamp is wrong"


def test_another_encoder_is_refused():
    found = verdict(EncoderGate(), replace(GOOD, encoder_digest="cd" * 32))
    assert (found.required, found.measured, found.passed) == ("ab" * 6, "cd" * 6, False)
    assert "train it with the one that serves" in found.note


def test_an_unknown_encoder_fails():
    assert "which encoder it was trained with" in refused(EncoderGate(), replace(GOOD, encoder_digest=""))
    assert "serving encoder is not known" in refused(EncoderGate(), replace(GOOD, serving_digest=None))
    assert not verdict(EncoderGate(), replace(GOOD, serving_digest="", encoder_digest="")).passed


def test_without_test_rows_the_gates_that_need_them_fail_with_the_reason():
    blind = replace(GOOD, metrics={}, labels=np.empty(0), predicted=np.empty(0), test_fault="the file is gone")
    for gate in (
        MinimumGate(kind="minimum", metric="test/f1_macro", threshold=0.1),
        MinimumGate(kind="minimum", metric="test/class/*/f1", threshold=0.1),
        CalibrationGate(kind="calibration", threshold=1),
        NoWorseThanChampionGate(kind="no_worse_than_champion"),
    ):
        assert refused(gate, blind) == "the file is gone"
    assert verdict(DataAgeGate(kind="data_age", days=90), blind).passed


def test_a_champion_that_cannot_be_loaded_fails_the_gates_that_need_it():
    broken = replace(GOOD, champion_predicted=None, serving_digest=None, champion_fault="its files were altered")
    assert refused(NoWorseThanChampionGate(kind="no_worse_than_champion"), broken) == "its files were altered"
    assert refused(EncoderGate(kind="encoder"), broken)
    assert verdict(MinimumGate(kind="minimum", metric="test/f1_macro", threshold=0.1), broken).passed


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (MinimumGate(metric="test/f1_macro", threshold=0.8), "its score test/f1_macro is 0.8 or more"),
        (MaximumGate(metric="test/log_loss", threshold=1), "its score test/log_loss is 1 or less"),
        (CalibrationGate(), "how sure it says it is differs from how often it is right by 0.15 or less"),
        (NoWorseThanChampionGate(), "its f1_macro is not lower than that of the model in use by more than 0.03"),
        (DataAgeGate(days=90), "the messages that it learned from are 90 days old or less"),
        (EncoderGate(), "it was made with the encoder (what turns messages into numbers) that is in use"),
        (AbTestGate(), "tried on messages of the last 30 days, it was better than the model in use (ab_test)"),
        (AbTestGate(demand="no_worse"), "it was no more than 0.03 worse than the model in use (ab_test)"),
    ],
)
def test_a_gate_says_in_words_what_it_asks_for(gate: Gate, said: str) -> None:
    (words,) = in_words([gate])
    assert words.endswith(said)


class RowsGate(Gate):
    """As a new kind would be written."""

    kind: Literal["rows"] = "rows"
    least: int

    @property
    def takes_field_test(self) -> bool:
        return True

    @property
    def most_data_days(self) -> int:
        return 30

    def required(self, evidence: GateEvidence) -> str:
        return f">= {self.least} rows"

    def measure(self, evidence: GateEvidence) -> Measured:
        return Measured(f"{evidence.labels.size}", evidence.labels.size >= self.least)


def test_a_new_kind_takes_its_class_and_one_registration(monkeypatch):
    monkeypatch.setitem(gate_settings.KINDS, "rows", f"{__name__}:RowsGate")
    # Read anew here and, without this kind, by the tests that follow.
    for made_once in (gate_settings.classes, gate_settings._any_kind):
        monkeypatch.setattr(gate_settings, made_once.__name__, cache(made_once.__wrapped__))
    params = load_params(None, {"registry.gates": [{"kind": "rows", "least": 301}]})
    assert params.document()["registry"]["gates"] == [{"kind": "rows", "least": 301}]
    (found,) = judge(params.registry.gates, GOOD)
    assert (found.gate, found.required, found.measured, found.passed) == ("rows", ">= 301 rows", "300", False)
    # What is gathered for gates, and looked at before a training, is asked of each gate and not of its kind.
    assert take_field_test(params.registry.gates)
    assert data_age_limit(params.registry.gates) == (30, "rows")
    with pytest.raises(ConfigError, match=r"least is missing; a gate of this kind takes kind, least"):
        load_params(None, {"registry.gates": [{"kind": "rows"}]})


def test_only_what_a_gate_asks_for_is_gathered() -> None:
    asked = {gate.kind: (take_field_test([gate]), data_age_limit([gate])) for gate in every_gate()}
    assert asked.pop("ab_test") == (True, None)
    assert asked.pop("data_age") == (False, (365, "data_age"))
    assert set(asked.values()) == {(False, None)}
    assert data_age_limit([DataAgeGate(days=90), EncoderGate(), DataAgeGate(days=7)]) == (7, "data_age")
    assert (take_field_test([]), data_age_limit([])) == (False, None)


def every_gate() -> list[GateSettings]:
    """One of each kind there is."""
    bound: dict[str, dict[str, Any]]
    bound = {"minimum": {"metric": "test/f1", "threshold": 0.5}, "maximum": {"metric": "test/f1", "threshold": 0.5}}
    bound["calibration"] = {"threshold": 0.5}
    return [model(**bound.get(kind, {})) for kind, model in gate_settings.classes().items()]


def test_no_other_module_asks_for_a_kind_by_name() -> None:
    """import-linter holds that none imports a kind's class; this, that none compares the name of one."""
    package = Path(gate_settings.__file__).parents[1]
    comparing = [
        f"{path.relative_to(package)}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare)
        and any(isinstance(side, ast.Attribute) and side.attr == "kind" for side in (node.left, *node.comparators))
        and {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)} & {*gate_settings.KINDS}
    ]
    assert comparing == [], "ask the gate itself, by a property that a new kind can have as well"


def test_an_age_that_is_counted_from_the_training_says_so() -> None:
    assert verdict(DataAgeGate(), GOOD).note == ""
    assert "the data have no times" in verdict(DataAgeGate(), replace(GOOD, dated=False)).note


@pytest.mark.parametrize(
    ("options", "test", "passes", "said"),
    [
        ({}, None, False, "no ab_test of this version against v20260601_000000 is on record"),
        ({}, ("challenger better", 0.01, 3), True, "challenger better"),
        ({}, ("alike", -0.01, 3), False, "alike"),
        ({}, ("challenger better", 0.01, 31), False, "31 days old"),
        ({"demand": "no_worse", "margin": 0.02}, ("alike", -0.01, 3), True, "at least -0.0100 (alike)"),
        ({"demand": "no_worse", "margin": 0.02}, ("not decided yet", -0.03, 3), False, "at least -0.0300"),
        ({"demand": "no_worse", "margin": 0.02}, ("shares do not match", 0.1, 3), False, "shares do not match"),
    ],
)
def test_what_the_field_says_passes_where_it_is_good_enough_and_fresh(options, test, passes, said) -> None:
    gate, evidence = AbTestGate(**options), GOOD
    if test is not None:
        evidence = replace(GOOD, field_test=FieldTest("run", test[0], test[1], 900, NOW - timedelta(days=test[2])))
    assert gate.waits(evidence) == (test is None)
    said_of_it = gate.verdict(evidence)
    assert said_of_it.passed == passes
    assert said in f"{said_of_it.measured} {said_of_it.note}"
    assert gate.verdict(replace(GOOD, champion_version=None)).passed
