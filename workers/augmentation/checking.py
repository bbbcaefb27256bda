"""Whether operations can work on images of a shape, and which shape comes out."""

from collections.abc import Sequence

from specs.augmentation import (
    Augmentation,
    AugMix,
    AutoAugment,
    CenterCrop,
    CutOut,
    LossGuided,
    Operation,
    Perturb,
    RandAugment,
    RandomCrop,
    RandomResizedCrop,
    Resize,
)

Shape = tuple[int, int, int]  # height, width, channels


def check_operations(operations: Sequence[Operation], image_shape: Shape) -> Shape:
    """Refuse operations that cannot work on images of this shape (height, width, channels), with ValueError.

    Returns the shape that comes out.
    """
    for operation in operations:
        _check(operation, image_shape)
        image_shape = _after(operation, image_shape)
    return image_shape


def check_augmentation(augmentation: Augmentation, image_shape: Shape) -> Shape:
    """Check all operations of a spec on images of this shape (height, width, channels).

    Returns the shape of the images that the network sees, in training and in evaluation. Raises ValueError with a
    message that begins with the field: `weak: …`.
    """
    weak = _checked("weak", augmentation.weak, image_shape)
    strong = _checked("strong", augmentation.strong, weak)
    if strong != weak:
        raise ValueError(
            f"strong: makes copies of {_sides(strong)} pixels of originals of {_sides(weak)}, and they share batches: "
            "crop both, under weak"
        )
    test = _checked("evaluation", augmentation.evaluation, image_shape)
    if test != weak:
        crop = f"{{name: center_crop, size: {weak[0]}}}"
        fitting = f"only {crop}" if weak[0] == weak[1] < min(image_shape[:2]) else "no operation"
        raise ValueError(
            f"evaluation: the weak operations make training images of {_sides(weak)} pixels, and test images would be "
            f"{_sides(test)}: should hold {fitting}"
        )
    return weak


def _checked(field: str, operations: Sequence[Operation], image_shape: Shape) -> Shape:
    try:
        return check_operations(operations, image_shape)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from error


def _check(operation: Operation, image_shape: Shape) -> None:
    height, width, channels = image_shape
    shorter = min(height, width)
    match operation:
        case RandomCrop(size=size, padding=padding):
            if size is not None and size > shorter + 2 * padding:
                raise ValueError(
                    f"random_crop size = {size}: larger than {width}x{height} images with a padding of {padding}; "
                    f"allowed: 1 to {shorter + 2 * padding}"
                )
            if padding >= (size or shorter):
                raise ValueError(
                    f"random_crop padding = {padding}: some crops of {width}x{height} images would hold nothing "
                    f"but padding; allowed: {0 if size else 1} to {(size or shorter) - 1}"
                )
        case CenterCrop(size=size) if size > shorter:
            raise ValueError(f"center_crop size = {size}: larger than {width}x{height} images; allowed: 1 to {shorter}")
        case CutOut(size=size):
            _check_hole("cutout size", size, height, width)
        case LossGuided(cutout=size):
            _check_hole("loss_guided cutout", size, height, width)
        case Perturb(kernel=kernel) if kernel // 2 >= shorter:
            raise ValueError(
                f"perturb kernel = {kernel}: reaches beyond {width}x{height} images reflected at their borders; "
                f"allowed: odd numbers from 3 to {2 * shorter - 1}"
            )
    if isinstance(operation, AutoAugment | RandAugment | AugMix | LossGuided) and channels not in (1, 3):
        raise ValueError(f"{operation.name}: needs images of 1 or 3 channels; these have {channels}")


def _check_hole(what: str, size: int, height: int, width: int) -> None:
    # From this size on the hole covers the image wherever its centre falls.
    if size >= (whole := 2 * max(height, width) - 1):
        raise ValueError(
            f"{what} = {size}: the hole would cover {width}x{height} images wholly; allowed: 1 to {whole - 1}"
        )


def _after(operation: Operation, image_shape: Shape) -> Shape:
    match operation:
        case RandomCrop(size=int(side)) | RandomResizedCrop(size=side) | CenterCrop(size=side):
            return side, side, image_shape[2]
        case Resize(size=side):  # at least: of streamed images the least sides are known
            return side, side, image_shape[2]
        case _:
            return image_shape


def _sides(image_shape: Shape) -> str:
    return f"{image_shape[1]}x{image_shape[0]}"
