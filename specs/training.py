"""How the network is trained."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from specs.base import AsTuple, ByName, NonNegative, Positive, Section

Regime = Literal["subset", "full+augmented", "random+augmented"]


class Optimizer(Section):
    """Stochastic gradient descent."""

    learning_rate: Annotated[float, Field(gt=0)] = Field(0.1, description="Step size at the start.")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum.")
    nesterov: bool = Field(False, description="Nesterov's form of momentum; needs momentum above 0.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="L2 penalty on all parameters.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "Optimizer":
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum above 0: set momentum, or nesterov: false")
        return self


class Constant(Section):
    """The learning rate stays as it is."""

    name: Literal["constant"]
    warmup_epochs: NonNegative = Field(
        0, description="Epochs over which the rate rises linearly to its full size."
    )


class Milestones(Section):
    """The learning rate is multiplied by gamma at each milestone."""

    name: Literal["milestones"]
    milestones: Annotated[tuple[Positive, ...], AsTuple] = Field(
        description="Epochs at which the rate drops, ascending."
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="Factor at each milestone.")
    warmup_epochs: NonNegative = Field(
        0, description="Epochs over which the rate rises linearly to its full size."
    )

    @model_validator(mode="after")
    def _ascending(self) -> "Milestones":
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must ascend, without repeats; got {list(self.milestones)}")
        return self


class Cosine(Section):
    """The learning rate falls to zero along half a cosine, a step an epoch."""

    name: Literal["cosine"]
    warmup_epochs: NonNegative = Field(
        0, description="Epochs over which the rate rises linearly to its full size."
    )


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
