"""`monitoring.alerts` and `monitoring.notify`: when somebody is told of a watched model, and who."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pcc_pipeline.config.section import NonEmpty, Section
from pcc_pipeline.errors import meant

Level = Literal["warning", "critical"]
Bound = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def names_variable(value: object) -> bool:
    """Whether this can be the name of an environment variable; else it may be an address, and is not to be repeated."""
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None


def _names_of_variables(value: Any) -> Any:
    # What stands here instead may be a receiver's address, whose path is its password: not repeated.
    if not isinstance(value, list | tuple) or not all(names_variable(name) for name in value):
        raise ValueError(
            "give a list of names of environment variables that hold the receivers' addresses, such as [PCC_NOTIFY], "
            "and never an address"
        )
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_names_of_variables)]


class AlertRule(Section):
    """One entry of `monitoring.alerts`.

    Attributes:
        metric: of a watched window, such as `quality/rejected_share`; `*` stands for any part of a name.
        above, below: the bound, one of them; a value on the bound is no breach.
        windows: so many windows in a row, the last one among them, must be past the bound.
        to: receivers of `monitoring.notify`; none for all of them.
        repeat_hours: tell again after so many hours while it lasts; null tells once.
    """

    metric: NonEmpty
    above: Bound | None = None
    below: Bound | None = None
    windows: int = Field(default=1, ge=1, le=1000, strict=True)
    level: Level = "warning"
    to: Names = ()
    repeat_hours: Annotated[float, Field(gt=0)] | None = 24.0

    @model_validator(mode="before")
    @classmethod
    def _known_options(cls, values: Any) -> Any:
        # Said here with the rule's options, because a list has no key where the loader could look them up.
        if not isinstance(values, dict):
            raise ValueError("a rule is a mapping such as {metric: quality/rejected_share, above: 0.05}")
        names = list(cls.model_fields)
        faults = [f"no such option {name}{meant(str(name), names)}" for name in values if name not in names]
        if "metric" not in values:
            faults.append("metric is missing")
        if faults:
            raise ValueError(f"{'; '.join(faults)}; a rule takes {', '.join(names)}")
        return values

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError(f"the rule of {self.metric} needs a bound: above or below, and one of them only")
        return self

    @property
    def bound(self) -> float:
        """The number that the metric is held against."""
        return self.above if self.above is not None else self.below  # type: ignore[return-value] # one of them is there

    def broken_by(self, value: float) -> bool:
        """Whether a value is past the bound."""
        return value > self.bound if self.above is not None else value < self.bound

    @property
    def words(self) -> str:
        """The rule as one reads it."""
        windows = f" in {self.windows} windows in a row" if self.windows > 1 else ""
        return f"{self.metric} {'above' if self.above is not None else 'below'} {self.bound:g}{windows}"


def _a_list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        got = "nothing" if value is None else f"a {type(value).__name__}"
        raise ValueError(
            f"expected a list such as [{{metric: quality/rejected_share, above: 0.05}}], or [] for none, got {got}"
        )
    return value


def _each_once(rules: tuple[AlertRule, ...]) -> tuple[AlertRule, ...]:
    seen: set[str] = set()
    for rule in rules:
        if rule.words in seen:
            raise ValueError(f"the rule {rule.words} is listed twice")
        seen.add(rule.words)
    return rules


Rules = Annotated[tuple[AlertRule, ...], BeforeValidator(_a_list), AfterValidator(_each_once)]


# Messages have changed beyond chance; labels show that the version is less right than on its reference rows; rows break
# the data contract, lack values, repeat or are late, beyond what is usual; of the monitoring logs, the last run
# failed, none came for long, or none can be read at all.
DEFAULT: list[dict[str, Any]] = [
    {"metric": "drift/alarm", "above": 0.0},
    {"metric": "observed/alarm", "above": 0.0, "level": "critical"},
    {"metric": "quality/alarm", "above": 0.0},
    {"metric": "operation/last_failed", "above": 0.0, "level": "critical"},
    {"metric": "operation/hours_since_last", "above": 36.0},
    {"metric": "operation/runs", "below": 1.0},
]


class AlertParams(Section):
    """The options of `monitoring` that alerts go by."""

    alerts: Rules = Field(
        default_factory=lambda: tuple(AlertRule(**rule) for rule in DEFAULT), json_schema_extra={"default": [*DEFAULT]}
    )
    notify: Annotated[Names, AfterValidator(lambda names: tuple(dict.fromkeys(names)))] = ("PCC_NOTIFY",)

    @model_validator(mode="after")
    def _receivers_are_there(self) -> Self:
        for rule in self.alerts:
            for name in rule.to:
                if name not in self.notify:
                    raise ValueError(
                        f"the rule of {rule.metric} tells {name}, which monitoring.notify does not name"
                        f"{meant(name, self.notify)}"
                    )
        return self
