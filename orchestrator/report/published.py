"""What the paper published, read from `published.yaml`: each figure as printed, and its place in the paper."""

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from specs.base import AsTuple, Section
from specs.paper import Exhibit
from specs.selection import Strategy

FILE = Path(__file__).parent / "published.yaml"
Quantity = Literal["accuracy", "share", "speedup"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
UNKNOWN = "–"
_PRINTED = re.compile(r"(?P<below>< )?(?P<value>\d+(\.\d+)?)( ± (?P<std>\d+(\.\d+)?))?")


class Figure(Section):
    """One figure of the paper: in % for accuracies and shares, in times for speed-ups."""

    text: str  # as printed
    value: float
    std: float | None  # deviation, where it is given
    below: bool  # whether the paper only says that it lies below `value`


def _figure(text: str) -> Figure | None:
    if text == UNKNOWN:
        return None
    found = _PRINTED.fullmatch(text)
    if found is None:
        raise ValueError(
            f"not a figure as the paper prints it: {text!r}; such as 33.5, 72.32 ± 0.14, < 15 or {UNKNOWN}"
        )
    std = None if found["std"] is None else float(found["std"])
    return Figure(text=text, value=float(found["value"]), std=std, below=found["below"] is not None)


def _figures(printed: str | list[str]) -> Figure | tuple[Figure | None, ...] | None:
    return _figure(printed) if isinstance(printed, str) else tuple(_figure(text) for text in printed)


# A strategy's figures: one by size, or a single one where it has no size.
Figures = Annotated[Figure | tuple[Figure | None, ...] | None, BeforeValidator(_figures)]


class Published(Section):
    """A table or figure of the paper, or the part of it that one sweep reproduces."""

    place: str = Field(description="Where it stands in the paper.")
    rows: Literal["strategies", "sizes"] = Field("strategies", description="What its rows are; the other is columns.")
    sizes: Annotated[tuple[str, ...], AsTuple] = Field((), description="The subset sizes, as `medoid` writes them.")
    per_class: Annotated[tuple[str, ...], AsTuple] = Field((), description="Mean examples a class at each size.")
    accuracy: dict[Strategy, Figures] = Field(default_factory=dict, description="Test accuracy in %.")
    share: dict[Strategy, Figures] = Field(default_factory=dict, description="Share of full augmentation's gain in %.")
    speedup: dict[Strategy, Figures] = Field(default_factory=dict, description="Times as fast as full augmentation.")
    remarks: Annotated[tuple[str, ...], AsTuple] = Field((), description="What else the paper says, or does not say.")

    @model_validator(mode="after")
    def _complete(self) -> "Published":
        if self.per_class and len(self.per_class) != len(self.sizes):
            raise ValueError(f"per_class has {len(self.per_class)} values, sizes {len(self.sizes)}")
        for quantity in QUANTITIES:
            for strategy, figures in self.of(quantity).items():
                if isinstance(figures, tuple) and len(figures) != len(self.sizes):
                    raise ValueError(f"{quantity} of {strategy} has {len(figures)} values, sizes {len(self.sizes)}")
        return self

    def of(self, quantity: Quantity) -> dict[str, Figures]:
        """All figures of a quantity, by strategy in the paper's order."""
        figures: dict[str, Figures] = getattr(self, quantity)
        return figures

    def at(self, quantity: Quantity, strategy: str, size: str) -> Figure | None:
        """One figure; None where the paper, or the text we have of it, has none. No size is an empty text."""
        figures = self.of(quantity).get(strategy)
        if not isinstance(figures, tuple):
            return figures if not size else None
        return figures[self.sizes.index(size)] if size in self.sizes else None


@cache
def published() -> dict[Exhibit, Published]:
    """Everything in `published.yaml`, in its order."""
    text = FILE.read_text(encoding="utf-8")
    # BaseLoader leaves every scalar the text that it is: 93.50 is printed with its nought
    return TypeAdapter(dict[Exhibit, Published]).validate_python(yaml.load(text, yaml.BaseLoader))
