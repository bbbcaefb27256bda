"""Small copies of data sets as they are distributed, written file by file."""

from pathlib import Path

import numpy as np
from PIL import Image

WNIDS = ("n02124075", "n01443537", "n03126707", "n02012849")  # as wnids.txt has them: in no order
WORDS = {
    "n01443537": "goldfish, Carassius auratus",
    "n02012849": "crane",
    "n02124075": "Egyptian cat",
    "n03126707": "crane",
    "n00001740": "entity",
}
CALTECH = ("001.ak47", "056.dog", "198.spider", "257.clutter")


def colours(number: int, width: int, height: int) -> np.ndarray:
    """Smooth patches that JPEG leaves nearly as they are: each number's own."""
    coarse = np.random.default_rng(number).integers(0, 256, (3, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def write_image(path: Path, number: int, width: int, height: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(colours(number, width, height)).convert(mode)
    image.save(path, "JPEG" if path.suffix.lower() in (".jpg", ".jpeg") else None)


def write_caltech256(root: Path, tested: int = 2) -> Path:
    """60 images of each class to train on, and `tested` or one more to test; the archive's two strays with them.

    Sizes differ, as they do there; one image is grey.
    """
    inner = root / "256_ObjectCategories"
    for place, name in enumerate(CALTECH):
        for number in range(1, 61 + tested + place % 2):
            mode = "L" if number == 7 else "RGB"
            path = inner / name / f"{name[:3]}_{number:04d}.jpg"
            write_image(path, 1000 * place + number, 80 + number % 7, 72 + number % 5, mode)
    (inner / "056.dog" / "greg" / "vision309").mkdir(parents=True)
    (inner / "198.spider" / "RENAME2").write_text("#!/bin/sh\n")
    return root


def write_tiny_imagenet(root: Path) -> Path:
    """Three training images a class and five in all to validate with, 64x64 pixels; some are grey, as there."""
    inner = root / "tiny-imagenet-200"
    for place, wnid in enumerate(WNIDS):
        for number in range(3):
            path = inner / "train" / wnid / "images" / f"{wnid}_{number}.JPEG"
            write_image(path, 10 * place + number, 64, 64, "L" if (place, number) == (1, 1) else "RGB")
        (inner / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t10\t63\t60\n")
    lines = []
    for number, wnid in enumerate((*WNIDS, WNIDS[0])):
        write_image(inner / "val" / "images" / f"val_{number}.JPEG", 100 + number, 64, 64)
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (inner / "val" / "val_annotations.txt").write_text("".join(lines))
    write_image(inner / "test" / "images" / "test_0.JPEG", 200, 64, 64)
    (inner / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (inner / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    return root


def write_imagenet(root: Path, per_class: int = 3) -> Path:
    """ILSVRC's folders, images of many sizes; one is CMYK and one a PNG that is called JPEG, as there."""
    for place, wnid in enumerate(WNIDS):
        for split, size in (("train", per_class), ("val", 2)):
            for number in range(size):
                name = f"{wnid}_{number}.JPEG" if split == "train" else f"ILSVRC2012_val_{place}{number}.JPEG"
                mode = "CMYK" if (place, number) == (2, 1) else "RGB"
                write_image(root / split / wnid / name, 100 * place + number, 90 + 13 * number, 75 + 9 * place, mode)
    odd = root / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    Image.open(odd).save(odd, "PNG")
    return root
