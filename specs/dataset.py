"""The images to learn from, and how they are corrupted on purpose."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from specs.base import Section
from specs.places import check_endpoint, check_place, in_s3

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
        None,
        description="Folder that holds the data, relative to the working directory, or an archive of it "
        "(.tar, .tar.gz, .tar.xz, .tar.bz2, .zip); or s3://bucket/prefix, s3://bucket/archive.tar.gz: brought to each "
        "node once. Not used by digits.",
    )
    endpoint: str | None = Field(
        None, description="URL of the S3 server that holds root; without it Amazon's, or AWS_ENDPOINT_URL_S3."
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

    @field_validator("root")
    @classmethod
    def _usable(cls, root: str | None) -> str | None:
        return root if root is None else check_place(root, "s3://bucket/prefix")

    @field_validator("endpoint")
    @classmethod
    def _server(cls, endpoint: str | None, info: ValidationInfo) -> str | None:
        if endpoint is None:
            return None
        if not in_s3(info.data.get("root", "s3://") or ""):
            raise ValueError("only data in S3 have a server: set root to s3://bucket/prefix, or leave endpoint out")
        return check_endpoint(endpoint)
