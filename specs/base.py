"""What every part of a spec has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A part of a spec: frozen, closed to unknown keys, no silent type conversion."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,  # parts are built as parts of the whole; on their own only where used so
    )


def named(value: Any) -> Any:
    """Let a bare name stand for `{name: …}` with every other option at its default."""
    return {"name": value} if isinstance(value, str) else value


Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what every random generator takes
ByName = BeforeValidator(named)
AsTuple = Field(strict=False)  # YAML lists become tuples; their items stay strict
