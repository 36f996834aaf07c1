"""`registry.gates`: a list of closed, typed gates whose faults say what to write instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pcc_pipeline.config import Params, load_params
from pcc_pipeline.config.gate_settings import KINDS, classes, default_gates
from pcc_pipeline.errors import ConfigError
from pcc_pipeline.gates.gate import Gate
from pcc_pipeline.gates.kinds.data_age import DataAgeGate
from pcc_pipeline.gates.kinds.encoder import EncoderGate
from pcc_pipeline.gates.kinds.metric_bounds import MaximumGate, MinimumGate


def faults_of(gates: Any) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_params(None, {"registry.gates": gates})
    lines = [line.removeprefix("  - ") for line in str(caught.value).splitlines() if line.startswith("  - ")]
    return dict(line.split(": ", 1) for line in lines)


def test_the_default_gates() -> None:
    assert Params().registry.gates == default_gates()
    assert [gate.kind for gate in default_gates()] == [
        "minimum",
        "no_worse_than_champion",
        "calibration",
        "data_age",
        "encoder",
    ]


def test_every_registered_kind_is_a_gate_of_that_name_that_can_judge() -> None:
    assert list(classes()) == list(KINDS)
    for kind, model in classes().items():
        assert issubclass(model, Gate)
        assert model.model_fields["kind"].default == kind
        assert not model.__abstractmethods__
        assert (model.model_config["extra"], model.model_config["frozen"]) == ("forbid", True)


def test_a_gate_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        default_gates()[0].kind = "maximum"  # type: ignore[misc] # what is tried is what must fail


def test_the_configuration_is_read_without_what_only_judging_needs() -> None:
    code = "import sys; from pcc_pipeline.config import Params; Params(); print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_gates_may_be_given_in_the_file_or_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("registry:\n  gates:\n    - {kind: data_age, days: 7}\n    - kind: encoder\n")
    assert load_params(path).registry.gates == (DataAgeGate(days=7), EncoderGate())
    setting = "'registry.gates=[{kind: maximum, metric: test/log_loss, threshold: 1}]'"
    assert load_params(path, {}, [setting]).registry.gates == (MaximumGate(metric="test/log_loss", threshold=1.0),)
    assert load_params(path, {}, ["registry.gates=[]"]).registry.gates == ()


def test_a_document_loads_back_to_the_same_gates(tmp_path: Path) -> None:
    gates = [{"kind": kind} for kind in ("no_worse_than_champion", "calibration", "data_age", "encoder")] + [
        {"kind": "minimum", "metric": "test/f1", "threshold": 1}
    ]
    first = load_params(None, {"registry.gates": gates})
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(first.document()))
    assert load_params(path) == first
    assert first.registry.gates[-1] == MinimumGate(metric="test/f1", threshold=1.0)


@pytest.mark.parametrize("entry", [{"kind": "minimun"}, {}, "encoder", None, {"kind": ["encoder"]}])
def test_an_unknown_kind_is_told_with_the_kinds_there_are(entry: Any) -> None:
    found = faults_of([{"kind": "encoder"}, entry])
    assert set(found) == {"registry.gates.1"}
    assert f"whose kind is one of {', '.join(KINDS)}" in found["registry.gates.1"]


@pytest.mark.parametrize(("value", "got"), [(None, "nothing"), ({"kind": "encoder"}, "a dict"), ("encoder", "a str")])
def test_what_is_no_list_is_told(value: Any, got: str) -> None:
    """An empty `gates:` could mean no gates or the default ones, so it is asked."""
    expected = f"expected a list such as [{{kind: encoder}}], or [] for no gates, got {got}"
    assert faults_of(value) == {"registry.gates": expected}


def test_unknown_and_missing_options_are_told_together_with_those_there_are() -> None:
    found = faults_of([{"kind": "minimum", "metric": "test/f1", "treshold": 1}, {"kind": "encoder", "digest": "x"}])
    assert found["registry.gates.0.minimum"].startswith(
        "no such option treshold (did you mean threshold?); threshold is missing; a gate of this kind takes "
    )
    assert found["registry.gates.1.encoder"] == "no such option digest; a gate of this kind takes kind"


def test_a_metric_must_say_of_which_rows() -> None:
    found = faults_of([{"kind": "minimum", "metric": "f1_macro", "threshold": 1}])
    assert "such as test/f1_macro" in found["registry.gates.0.minimum.metric"]


@pytest.mark.parametrize(
    ("gate", "option", "message"),
    [
        ({"kind": "minimum", "metric": "test/f1", "threshold": True}, "threshold", "true is not a number"),
        ({"kind": "minimum", "metric": "test/f1", "threshold": float("nan")}, "threshold", "finite number"),
        ({"kind": "maximum", "metric": "test/f1", "threshold": float("inf")}, "threshold", "finite number"),
        ({"kind": "no_worse_than_champion", "metric": "test/f1_macro"}, "metric", "is not one of 'f1_macro', 'acc"),
        ({"kind": "no_worse_than_champion", "margin": -0.01}, "margin", "greater than or equal to 0"),
        ({"kind": "no_worse_than_champion", "confidence": 95}, "confidence", "less than or equal to 0.995"),
        ({"kind": "no_worse_than_champion", "confidence": 0.05}, "confidence", "greater than or equal to 0.5"),
        ({"kind": "calibration", "threshold": 15}, "threshold", "less than or equal to 1"),
        ({"kind": "data_age", "days": 0}, "days", "greater than 0"),
        ({"kind": "data_age", "days": "1 year"}, "days", "valid integer"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_its_place(gate: dict[str, Any], option: str, message: str) -> None:
    ((key, problem),) = faults_of([gate]).items()
    assert key == f"registry.gates.0.{gate['kind']}.{option}"
    assert message in problem
