"""Small folders of images to learn from."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, train: int, test: int, height: int, width: int, seed: int = 0) -> Path:
    """So many images of noise of each of two classes, as train/<class>/<number>.png and test/<class>/<number>.png."""
    stream = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = stream.integers(0, 256, (height, width, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder
