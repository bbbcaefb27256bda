"""Weak augmentation of every training image, and strong augmentation of the copies."""

from typing import Annotated, Literal

from pydantic import Field

from specs.base import AsTuple, ByName, Positive, Section


class RandomCrop(Section):
    """Zero-pad all sides, then crop back to the image's size at a random place."""

    name: Literal["random_crop"] = Field(description="Which operation.")
    padding: Annotated[int, Field(ge=1, le=32)] = Field(4, description="Pixels added on every side.")


class RandomFlip(Section):
    """Mirror left to right."""

    name: Literal["random_flip"] = Field(description="Which operation.")
    probability: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Chance that an image is mirrored.")


class AutoAugment(Section):
    """AutoAugment (Cubuk et al., 2019): one of a policy's sub-policies, drawn for each image."""

    name: Literal["autoaugment"] = Field(description="Which operation.")
    policy: Literal["cifar10", "svhn", "imagenet"] = Field("cifar10", description="The learned policy.")


class RandAugment(Section):
    """RandAugment (Cubuk et al., 2020)."""

    name: Literal["randaugment"] = Field(description="Which operation.")
    num_ops: Annotated[int, Field(ge=1, le=8)] = Field(2, description="Operations applied one after another.")
    magnitude: Annotated[int, Field(ge=0, le=30)] = Field(9, description="Strength of each operation, 0 to 30.")


class CutOut(Section):
    """CutOut (DeVries and Taylor, 2017): one square hole of zeros, centred anywhere in the image."""

    name: Literal["cutout"] = Field(description="Which operation.")
    size: Annotated[int, Field(ge=1, le=64)] = Field(16, description="Side of the hole, in pixels.")


Operation = Annotated[
    Annotated[RandomCrop | RandomFlip | AutoAugment | RandAugment | CutOut, Field(discriminator="name")],
    ByName,
]


class Augmentation(Section):
    """Weak operations go on every training image; copies get the weak ones, then the strong ones."""

    weak: Annotated[tuple[Operation, ...], AsTuple] = Field(
        (), description="Operations on every training image, in order."
    )
    strong: Annotated[tuple[Operation, ...], AsTuple] = Field(
        (), description="Operations on each augmented copy, in order, after the weak ones."
    )
    copies: Positive = Field(
        1, description="r: augmented copies of each selected example, each drawn anew every epoch."
    )
    placement: Literal["append", "in_place"] = Field(
        "append",
        description="append: copies are added to the originals; in_place: they take their originals' place.",
    )
