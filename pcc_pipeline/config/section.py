"""What every section of params.yaml has in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A closed section: an unknown key is a fault, and a loaded value never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=False)

    @model_validator(mode="before")
    @classmethod
    def _null_sections_mean_their_defaults(cls, values: Any) -> Any:
        # A section whose options are all commented out reads as null.
        if not isinstance(values, dict):
            return values
        nested = {
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.get_default(call_default_factory=True, validated_data={}), BaseModel | dict)
        }
        return {key: value for key, value in values.items() if value is not None or key not in nested}

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true for 1: `retention: {runs: yes}` would remove what is older than a day.
        truths = [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, bool)]
        if truths and info.field_name:
            types = set(_types_in(cls.model_fields[info.field_name].annotation))
            if types & {int, float} and bool not in types:
                word = "true" if truths[0] else "false"
                raise ValueError(f"{word} is not a number; YAML reads yes, no, on and off as true or false")
        return value


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _types_in(part)
