"""What every section of params.yaml has in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
