"""One image file: its header, and its pixels."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

Pixels = npt.NDArray[np.uint8]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# Wider pixels would be clipped to 8 bits on the way to RGB.
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


class DataError(ValueError):
    """Data that cannot be used: says which file, folder or class, and what is asked of it."""


def read_file(path: Path) -> bytes:
    """A file's bytes. Raises DataError where they cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def header_size(path: Path, content: bytes | None = None) -> tuple[int, int]:
    """Height and width of an image, from its header alone; `content`: the file's bytes, where they are there already.

    Raises DataError for what is no image, and for one of more than 8 bits a channel.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            mode, wide, (width, height) = image.mode, _wide(image), image.size
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, zlib.error and more
        raise _unreadable(path, error) from error
    _check_pixels(path, mode, wide)
    return height, width


def read_square(path: Path, size: int | None) -> tuple[Pixels, bool]:
    """RGB pixels (H, W, 3), resized to size x size unless that is None, and whether the file is 8-bit grey.

    Transparency is dropped. Raises DataError for what is unreadable, or has more than 8 bits a channel.
    """
    image = _open(path)
    rgb = image.convert("RGB")
    if size is not None:
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb), image.mode == "L"


def read_scaled(path: Path, shorter: int | None) -> Pixels:
    """RGB pixels (H, W, 3), the shorter side resized to `shorter`, the other in proportion; as they are for None.

    Transparency is dropped. Raises DataError for what is unreadable, or has more than 8 bits a channel.
    """
    return np.asarray(_scaled(_open(path).convert("RGB"), shorter))


def scaled(pixels: Pixels, shorter: int) -> Pixels:
    """Pixels (H, W, 3), the shorter side resized to `shorter`, the other in proportion."""
    return np.asarray(_scaled(Image.fromarray(pixels), shorter))


def _scaled(image: Image.Image, shorter: int | None) -> Image.Image:
    size = scaled_size(*image.size, shorter)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def scaled_size(height: int, width: int, shorter: int | None) -> tuple[int, int]:
    """Both sides, in the order they were given, once the shorter one is resized to `shorter`; as they are for None."""
    if shorter is None:
        return height, width
    least = min(height, width)
    return int(shorter * height / least), int(shorter * width / least)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            wide = _wide(image)  # known until it is loaded
            image.load()
    except Exception as error:  # as above
        raise _unreadable(path, error) from error
    _check_pixels(path, image.mode, wide)
    return image


def _wide(image: ImageFile.ImageFile) -> bool:
    """Whether a file that is not loaded yet has 16 bits a channel, of which Pillow would keep the upper 8 in colour."""
    for tile in image.tile:
        if image.format in ("PNG", "TIFF") and ";16" in str(tile.args):
            return True
        if tile.codec_name.startswith("ppm") and isinstance(tile.args, tuple) and tile.args[-1] > 255:
            return True
    return False


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: unreadable image: {error or type(error).__name__}")


def _check_pixels(path: Path, mode: str, wide: bool) -> None:
    if wide and mode in _EIGHT_BIT_MODES:
        raise DataError(f"{path}: pixels of 16 bits a channel; only 8 can be used: convert it")
    if mode not in _EIGHT_BIT_MODES:
        raise DataError(
            f"{path}: pixels of Pillow's mode {mode}; only 8 bits a channel can be used: "
            f"{', '.join(sorted(_EIGHT_BIT_MODES))}"
        )
