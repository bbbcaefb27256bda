"""Weak augmentation of every training image, strong augmentation of the copies, and what test images go through."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from specs.base import AsTuple, ByName, Fraction, Positive, Section

Side = Annotated[int, Field(ge=1, le=1024)]


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"the first bound should be at most the second; got {bounds[0]:g} and {bounds[1]:g}")
    return bounds


_TwoAscending = AfterValidator(_ascending)
_Two = Field(min_length=2, max_length=2)
Range = Annotated[tuple[Annotated[float, Field(gt=0)], ...], AsTuple, _Two, _TwoAscending]
ShareRange = Annotated[tuple[Fraction, ...], AsTuple, _Two, _TwoAscending]


class RandomCrop(Section):
    """Zero-pad all sides, then crop at a random place: back to the image's size, or to `size`."""

    name: Literal["random_crop"] = Field(description="Which operation.")
    size: Side | None = Field(
        None, description="Height and width of the crop, in pixels. Without it: those of the image."
    )
    padding: Annotated[int, Field(ge=0, le=32)] = Field(
        4, description="Pixels added on every side before; 0 only where a size is given."
    )

    @field_validator("padding")
    @classmethod
    def _changes_something(cls, padding: int, info: ValidationInfo) -> int:
        if padding == 0 and info.data.get("size", 0) is None:
            raise ValueError("a crop without padding needs a size: set size, or leave the operation out")
        return padding


class RandomResizedCrop(Section):
    """Cut out a random part of random area and shape, and resize it (Szegedy et al., 2015), bilinear, antialiased."""

    name: Literal["random_resized_crop"] = Field(description="Which operation.")
    size: Side = Field(description="Height and width of the result, in pixels.")
    scale: ShareRange = Field((0.08, 1.0), description="Least and greatest share of the image's area.")
    ratio: Range = Field((3 / 4, 4 / 3), description="Least and greatest width over height of the part.")


class CenterCrop(Section):
    """Keep the middle of the image. Nothing about it is random."""

    name: Literal["center_crop"] = Field(description="Which operation.")
    size: Side = Field(description="Height and width of what is kept, in pixels.")


class Resize(Section):
    """Resize streamed images: the shorter side to `size`, the other in proportion, bilinear, antialiased.

    Images in memory have one size already: dataset.image_size.
    """

    name: Literal["resize"] = Field(description="Which operation.")
    size: Side = Field(description="The shorter side of the result, in pixels.")


class RandomFlip(Section):
    """Mirror left to right."""

    name: Literal["random_flip"] = Field(description="Which operation.")
    probability: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Chance that an image is mirrored.")


class RandomRotation(Section):
    """Rotate about the centre, by the nearest pixels; what comes from outside the image is black."""

    name: Literal["random_rotation"] = Field(description="Which operation.")
    degrees: Annotated[float, Field(gt=0, le=180)] = Field(
        15.0, description="Largest angle: it is drawn uniformly between that to either side."
    )


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
    size: Annotated[int, Field(ge=1, le=256)] = Field(16, description="Side of the hole, in pixels.")


class AugMix(Section):
    """AugMix (Hendrycks et al., 2020): a mix of the image and of several chains of operations on it.

    All views of an image stay aligned with it. The Jensen-Shannon loss of that paper is not part of it, as it is not
    in the coreset paper's code.
    """

    name: Literal["augmix"] = Field(description="Which operation.")
    width: Annotated[int, Field(ge=1, le=10)] = Field(3, description="k: chains that are mixed.")
    depth: Annotated[int, Field(ge=-1, le=8)] = Field(
        -1, description="Operations in a chain, at least 1; -1: 1 to 3, drawn for each chain."
    )
    severity: Annotated[int, Field(ge=1, le=10)] = Field(
        3, description="How strong an operation can be: its magnitude is drawn from the first of ten steps."
    )
    alpha: Annotated[float, Field(ge=0.1, le=100)] = Field(
        1.0, description="Of the Dirichlet distribution of the chains' shares and the Beta distribution of the image's."
    )
    all_ops: bool = Field(
        False,
        description="Whether brightness, color, contrast and sharpness take part too; in the paper they do not, "
        "in torchvision they do.",
    )

    @field_validator("depth")
    @classmethod
    def _not_empty(cls, depth: int) -> int:
        if depth == 0:
            raise ValueError("a chain needs an operation: should be -1, or at least 1")
        return depth


class Perturb(Section):
    """Noise perturbation of the coreset paper's Table 2: brightness jitter, then Gaussian blur.

    The defaults are those of its published code: brightness 0.2, a 5x5 kernel.
    """

    name: Literal["perturb"] = Field(description="Which operation.")
    brightness: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="b: pixels are multiplied by a factor drawn between 1-b and 1+b."
    )
    sigma: Range = Field((0.1, 2.0), description="Least and greatest standard deviation of the blur, in pixels.")
    kernel: Annotated[int, Field(ge=3, le=31)] = Field(5, description="Side of the blur's kernel, in pixels; odd.")

    @field_validator("kernel")
    @classmethod
    def _odd(cls, kernel: int) -> int:
        if kernel % 2 == 0:
            raise ValueError(f"a kernel has a middle pixel: should be odd, {kernel - 1} or {kernel + 1}")
        return kernel


class Noise(Section):
    """Additive noise bounded by epsilon_0, the perturbation of the paper's theory (Eq. 1) and its Figure 1.

    The bound holds for each value of each pixel (the maximum norm): an integer is drawn uniformly from -epsilon to
    epsilon for each, and added; sums below 0 or above 255 are clipped, which keeps the bound. Eq. 1 leaves its norm
    open, and its use (Lipschitz in x) is Euclidean; but a Euclidean bound of 8 of 255 on an image of 32x32x3 values is
    0.14 a value, which rounding to whole grey levels removes entirely. Bounded by epsilon in each of d values is
    bounded by sqrt(d) epsilon in the Euclidean norm, and that is the epsilon_0 of the lemmas.
    """

    name: Literal["noise"] = Field(description="Which operation.")
    epsilon: Annotated[int, Field(ge=1, le=255)] = Field(
        8, description="Largest change of any value of any pixel, in units of 0 to 255."
    )


class Mixup(Section):
    """Mixup (Zhang et al., 2018) with another training example, as the last part of loss-guided augmentation."""

    probability: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="Chance that a candidate is mixed at its end; in the published code it is drawn uniformly."
    )
    alpha: Annotated[float, Field(ge=0.1, le=100)] = Field(
        1.0, description="Of the Beta distribution of the example's own share; also of the Mixup among the operations."
    )


class LossGuided(Section):
    """Loss-guided augmentation (Wu et al., 2020): of several random candidates, those with the highest loss.

    A candidate is a composition of `operations` of AutoContrast, Brightness, Color, Contrast, Cutout, Equalize, Invert,
    Mixup, Posterize, Rotate, Sharpness, ShearX, ShearY, Solarize, TranslateX and TranslateY, drawn with replacement,
    each applied with a random probability and magnitude, then the weak operations of the spec (crop and flip), CutOut
    and Mixup. The copies of an example are the `kept` of its `candidates`, by the loss of the network as it is.
    """

    name: Literal["loss_guided"] = Field(description="Which operation.")
    operations: Annotated[int, Field(ge=1, le=8)] = Field(2, description="L: operations composed for a candidate.")
    candidates: Annotated[int, Field(ge=1, le=64)] = Field(4, description="C: candidates for each example.")
    kept: Positive = Field(1, description="S: candidates that become copies; augmentation.copies must be the same.")
    sampling: Literal["highest", "proportional"] = Field(
        "highest",
        description="highest: those with the largest loss; proportional: drawn in proportion to the loss, with "
        "replacement, as in the published code.",
    )
    cutout: Annotated[int, Field(ge=0, le=256)] = Field(
        16, description="Side of the hole in each candidate, in pixels; 0: none."
    )
    mixup: Mixup = Field(default_factory=Mixup, description="The Mixup at a candidate's end.")

    @field_validator("kept")
    @classmethod
    def _among_the_candidates(cls, kept: int, info: ValidationInfo) -> int:
        candidates = info.data.get("candidates")
        if candidates is not None and kept > candidates:
            raise ValueError(f"should be at most candidates, {candidates}")
        return kept


Operation = Annotated[
    Annotated[
        RandomCrop
        | RandomResizedCrop
        | CenterCrop
        | Resize
        | RandomFlip
        | RandomRotation
        | AutoAugment
        | RandAugment
        | CutOut
        | AugMix
        | Perturb
        | Noise
        | LossGuided,
        Field(discriminator="name"),
    ],
    ByName,
]


# Nothing about these is random.
EvaluationOperation = Annotated[Annotated[CenterCrop | Resize, Field(discriminator="name")], ByName]


class Augmentation(Section):
    """Weak operations go on every training image; copies get the weak ones, then the strong ones."""

    weak: Annotated[tuple[Operation, ...], AsTuple] = Field(
        (), description="Operations on every training image, in order."
    )
    strong: Annotated[tuple[Operation, ...], AsTuple] = Field(
        (),
        description="Operations on each augmented copy, in order, after the weak ones. loss_guided stands alone: it "
        "composes operations of its own, and puts the weak ones after them.",
    )
    evaluation: Annotated[tuple[EvaluationOperation, ...], AsTuple] = Field(
        (),
        description="Operations on test images, and on training images where losses and proxies are measured: needed "
        "where the weak ones change the images' size.",
    )
    copies: Positive = Field(
        1, description="r: augmented copies of each selected example, each drawn anew every epoch."
    )
    placement: Literal["append", "in_place"] = Field(
        "append",
        description="append: copies are added to the originals; in_place: they take their originals' place.",
    )

    def loss_guided(self) -> LossGuided | None:
        """The loss-guided operation among the strong ones, if there is one."""
        return next((operation for operation in self.strong if isinstance(operation, LossGuided)), None)
