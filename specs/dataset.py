"""The images to learn from, and how they are corrupted on purpose."""

from typing import Annotated, Literal

from pydantic import Field

from specs.base import Section

DatasetName = Literal["digits", "image_folder", "mnist", "cifar10", "svhn", "caltech256", "tiny_imagenet", "imagenet"]
DOWNLOADABLE = ("mnist", "cifar10", "svhn")
FILES = ("image_folder", "caltech256", "tiny_imagenet", "imagenet")  # one file an image: they can be streamed
LARGEST_IN_MEMORY = 64  # pixels, height and width


class Dataset(Section):
    """A training and a test set, with seeded corruption of the training set.

    Images of up to 64x64 pixels are decoded once and stay in memory. Larger ones are streamed: read, decoded and
    cropped anew for every batch, by processes beside the training.
    """

    name: DatasetName = Field(
        description="digits: 1,797 8x8 images shipped with medoid; image_folder: `root`/train and `root`/test "
        "with one folder a class; mnist, cifar10, svhn: torchvision's, read from `root`; caltech256: "
        "256_ObjectCategories, the first 60 of each class in name order for training, the others for testing; "
        "tiny_imagenet: tiny-imagenet-200 as it is distributed, testing on its validation set; imagenet: ILSVRC's "
        "train/<wnid> and val/<wnid>."
    )
    root: str | None = Field(
        None, description="Folder that holds the data; relative to the working directory. Not used by digits."
    )
    download: bool = Field(False, description="Let torchvision download the data to `root` if it is not there.")
    image_size: Annotated[int, Field(ge=4, le=1024)] | None = Field(
        None,
        description="Up to 64: resize every image to this height and width, in pixels; without it all images in "
        "memory must have one size. Above 64, for data that lies in one file an image: stream them, their shorter "
        "side resized to this before any crop; without it large images are streamed in their native sizes.",
    )
    clutter: bool = Field(
        True,
        description="caltech256: keep 257.clutter as a class like the others, as the paper's published code does.",
    )
    normalization: Literal["data", "imagenet"] | None = Field(
        None,
        description="Mean and deviation that inputs are normalised by: those of the training images, or ImageNet's. "
        "Without it: imagenet for a torchvision classifier with model.pretrained, else data.",
    )
    train_per_class: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Keep only this many training examples of each class (a seeded draw)."
    )
    label_noise: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Share of training labels replaced by another class, drawn uniformly: round(p*n) examples.",
    )
    imbalance_factor: Annotated[float, Field(ge=1)] = Field(
        1.0,
        description="Size of the first class over that of the last, in an exponential long tail. 1: leave as is.",
    )
