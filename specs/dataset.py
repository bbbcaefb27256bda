"""The images to learn from, and how they are corrupted on purpose."""

from typing import Annotated, Literal

from pydantic import Field

from specs.base import Section

DatasetName = Literal["digits", "image_folder", "mnist", "cifar10", "svhn"]


class Dataset(Section):
    """A training and a test set, with seeded corruption of the training set."""

    name: DatasetName = Field(
        description="digits: 1,797 8x8 images shipped with medoid; image_folder: `root`/train and `root`/test "
        "with one folder a class; the others are torchvision's, read from `root`."
    )
    root: str | None = Field(
        None, description="Folder that holds the data; relative to the working directory. Not used by digits."
    )
    download: bool = Field(False, description="Let torchvision download the data to `root` if it is not there.")
    image_size: Annotated[int, Field(ge=4, le=64)] | None = Field(
        None,
        description="Resize every image to this height and width, in pixels. Without it all must have one size.",
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
