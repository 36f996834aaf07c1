"""`registry.gates`: what a version must show before it may become the champion; `gates.judge` judges by them.

A kind of gate is one file of `gates/kinds/`: its options, what it requires in words, and its verdict. It is registered
by one line of `KINDS`.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from typing import Annotated, Any, Union

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainValidator,
    SerializeAsAny,
    Tag,
    TypeAdapter,
    model_validator,
)

from pcc_pipeline.config.section import Section
from pcc_pipeline.errors import meant

# Every kind and its class. By name, and imported when gates are read: the classes stand floors above this one.
KINDS = {
    "minimum": "pcc_pipeline.gates.kinds.metric_bounds:MinimumGate",
    "maximum": "pcc_pipeline.gates.kinds.metric_bounds:MaximumGate",
    "no_worse_than_champion": "pcc_pipeline.gates.kinds.no_worse_than_champion:NoWorseThanChampionGate",
    "calibration": "pcc_pipeline.gates.kinds.metric_bounds:CalibrationGate",
    "data_age": "pcc_pipeline.gates.kinds.data_age:DataAgeGate",
    "encoder": "pcc_pipeline.gates.kinds.encoder:EncoderGate",
    "ab_test": "pcc_pipeline.gates.kinds.ab_test:AbTestGate",
}
DEFAULT: list[dict[str, Any]] = [
    {"kind": "minimum", "metric": "test/f1_macro", "threshold": 0.8},
    {"kind": "no_worse_than_champion", "metric": "f1_macro", "margin": 0.03, "confidence": 0.95},
    {"kind": "calibration", "threshold": 0.15},
    {"kind": "data_age", "days": 365},
    {"kind": "encoder"},
]

# Strict: YAML's yes is no bound of 1, nor is .nan one of anything.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
ShareOfOne = Annotated[Number, Field(ge=0, le=1)]


class GateSettings(Section):
    """One entry of the list: its kind and that kind's own options."""

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _options_are_those_of_the_kind(cls, values: Any) -> Any:
        # Said here with the kind's options, because a list has no key where the loader could look them up.
        if not isinstance(values, dict):
            return values
        names = list(cls.model_fields)
        faults = []
        for name in values:
            if name not in names:
                faults.append(f"no such option {name}{meant(str(name), names)}")
        faults += [
            f"{name} is missing" for name in names if cls.model_fields[name].is_required() and name not in values
        ]
        if faults:
            raise ValueError(f"{'; '.join(faults)}; a gate of this kind takes {', '.join(names)}")
        return values


@cache
def classes() -> dict[str, type[GateSettings]]:
    """The class of every kind."""
    return {kind: pkgutil.resolve_name(place) for kind, place in KINDS.items()}


@cache
def default_gates() -> tuple[GateSettings, ...]:
    """The gates of a configuration that names none."""
    return tuple(_gate(entry) for entry in DEFAULT)


def _gate(value: Any) -> GateSettings:
    return _any_kind().validate_python(value)


@cache
def _any_kind() -> TypeAdapter[GateSettings]:
    tagged = tuple(Annotated[model, Tag(kind)] for kind, model in classes().items())
    # A function rather than the field's name: only so does pydantic take a message of our own.
    kind = Discriminator(
        _kind_of,
        custom_error_type="gate_kind",
        custom_error_message=f"a gate is a mapping whose kind is one of {', '.join(KINDS)}",
    )
    union: Any = Annotated[Union[tagged], kind]  # noqa: UP007 # of a tuple made at run time
    return TypeAdapter(union)


def _kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


def _a_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        got = "nothing" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"expected a list such as [{{kind: encoder}}], or [] for no gates, got {got}")
    return value


Gates = Annotated[
    tuple[Annotated[SerializeAsAny[GateSettings], PlainValidator(_gate)], ...],
    BeforeValidator(_a_list),
]
