"""How the network is trained."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from specs.base import AsTuple, ByName, NonNegative, Positive, Section

Regime = Literal["subset", "full+augmented", "random+augmented"]


class Optimizer(Section):
    """Stochastic gradient descent."""

    learning_rate: Annotated[float, Field(gt=0)] = Field(0.1, description="Step size at the start.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    nesterov: bool = Field(False, description="Nesterov's form of momentum; needs momentum above 0.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="L2 penalty on all parameters.")

    @field_validator("nesterov")
    @classmethod
    def _needs_momentum(cls, nesterov: bool, info: ValidationInfo) -> bool:
        if nesterov and info.data.get("momentum") == 0:
            raise ValueError("nesterov needs momentum above 0: set momentum, or nesterov: false")
        return nesterov


class Constant(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"] = Field(description="Which schedule.")
    warmup_epochs: NonNegative = Field(0, description="Epochs over which the rate rises linearly to its full size.")


class Milestones(Section):
    """The learning rate is multiplied by gamma at each milestone."""

    name: Literal["milestones"] = Field(description="Which schedule.")
    milestones: Annotated[tuple[Positive, ...], AsTuple, Field(min_length=1)] = Field(
        description="Epochs at which the rate drops, ascending."
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="Factor at each milestone.")
    warmup_epochs: NonNegative = Field(0, description="Epochs over which the rate rises linearly to its full size.")

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError("milestones must ascend, without repeats")
        return milestones


class Cosine(Section):
    """The learning rate falls to zero along half a cosine, a step an epoch."""

    name: Literal["cosine"] = Field(description="Which schedule.")
    warmup_epochs: NonNegative = Field(0, description="Epochs over which the rate rises linearly to its full size.")


Schedule = Annotated[Annotated[Constant | Milestones | Cosine, Field(discriminator="name")], ByName]


class Training(Section):
    """Regime, length, batches, optimiser and schedule."""

    regime: Regime = Field(
        description="subset: train on S and its copies; full+augmented: on everything and S's copies; "
        "random+augmented: on a random subset of the same size, drawn anew every R epochs, and S's copies."
    )
    epochs: Positive = Field(description="Passes over the (augmented) training set.")
    batch_size: Positive = Field(128, description="Examples a step, over all workers of a trial.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="SGD's settings.")
    schedule: Schedule = Field(
        default_factory=lambda: Cosine(name="cosine"),
        description="How the learning rate changes: constant, milestones, cosine.",
    )
