"""`registry.gates`: what a version must show before it may become the champion; `evaluation.gates` judges by them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from pcc_pipeline.config.section import NonEmpty, Section
from pcc_pipeline.errors import meant

ComparedMetric = Literal["f1_macro", "accuracy", "f1_weighted"]
# Strict: YAML's yes is no bound of 1, nor is .nan one of anything.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
ShareOfOne = Annotated[Number, Field(ge=0, le=1)]


class _Gate(Section):
    """One entry of the list: its kind and that kind's own options."""

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


class _BoundGate(_Gate):
    metric: NonEmpty
    threshold: Number

    @field_validator("metric")
    @classmethod
    def _named_with_its_split(cls, metric: str) -> str:
        if "/" not in metric:
            raise ValueError(
                f"{metric!r} does not say of which rows; name a metric as MLflow shows it, such as test/{metric}"
            )
        return metric


class MinimumGate(_BoundGate):
    """`metric >= threshold`; `test/class/*/f1` is the worst class's."""

    kind: Literal["minimum"] = "minimum"


class MaximumGate(_BoundGate):
    """`metric <= threshold`; `test/class/*/…` is the greatest of the classes'."""

    kind: Literal["maximum"] = "maximum"


class NoWorseThanChampionGate(_Gate):
    """With this confidence (one-sided), challenger minus champion on the same test rows is `-margin` or more.

    The default margin is one that a few hundred test rows can show: where 5 % of the rows are labelled differently, a
    version that is just as good passes in 4 of 5 cases with 3,316 rows at a margin of 0.01, 884 at 0.02, 422 at 0.03
    and 174 at 0.05 (`noninferiority.Difference.rows_needed`, accuracy).
    """

    kind: Literal["no_worse_than_champion"] = "no_worse_than_champion"
    metric: ComparedMetric = "f1_macro"
    margin: ShareOfOne = 0.03
    confidence: Annotated[Number, Field(ge=0.5, le=0.995)] = 0.95


class CalibrationGate(_Gate):
    """`test/calibration_error <= threshold`."""

    kind: Literal["calibration"] = "calibration"
    threshold: ShareOfOne = 0.15


class DataAgeGate(_Gate):
    """The training data are `days` old at most."""

    kind: Literal["data_age"] = "data_age"
    days: Annotated[int, Field(strict=True, gt=0)] = 365


class EncoderGate(_Gate):
    """The version was trained with the sentence encoder that serves."""

    kind: Literal["encoder"] = "encoder"


def _a_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        got = "nothing" if value is None else f"a {type(value).__name__}"
        raise ValueError(f"expected a list such as [{{kind: encoder}}], or [] for no gates, got {got}")
    return value


Gate = MinimumGate | MaximumGate | NoWorseThanChampionGate | CalibrationGate | DataAgeGate | EncoderGate
KINDS: tuple[str, ...] = ("minimum", "maximum", "no_worse_than_champion", "calibration", "data_age", "encoder")


def _kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


# A function rather than the field's name: only so does pydantic take a message of our own.
_TaggedGate = Annotated[
    Annotated[MinimumGate, Tag("minimum")]
    | Annotated[MaximumGate, Tag("maximum")]
    | Annotated[NoWorseThanChampionGate, Tag("no_worse_than_champion")]
    | Annotated[CalibrationGate, Tag("calibration")]
    | Annotated[DataAgeGate, Tag("data_age")]
    | Annotated[EncoderGate, Tag("encoder")],
    Discriminator(
        _kind_of,
        custom_error_type="gate_kind",
        custom_error_message=f"a gate is a mapping whose kind is one of {', '.join(KINDS)}",
    ),
]
Gates = Annotated[tuple[_TaggedGate, ...], BeforeValidator(_a_list)]

DEFAULT_GATES: tuple[Gate, ...] = (
    MinimumGate(metric="test/f1_macro", threshold=0.8),
    NoWorseThanChampionGate(metric="f1_macro", margin=0.03, confidence=0.95),
    CalibrationGate(threshold=0.15),
    DataAgeGate(days=365),
    EncoderGate(),
)
