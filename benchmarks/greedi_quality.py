"""Claim: GreeDi in 16 parts keeps 99 % of centralised greedy's drop at k = 200 (alpha = 16), 97 % at k = 2,000.

n = 20,000 in one problem, objective `frobenius`. Both drops are measured from the best single medoid: from the empty
set on, the first pick alone would make up most of either. Points: real residuals of 20,000 CIFAR-10 images after a few
epochs of ResNet8 (trained here, without augmentation), and 10-d normal points. Mean and deviation over five partitions.

    python benchmarks/greedi_quality.py --root FOLDER [--epochs 3] [--partitions 5]

FOLDER holds train/<class>/* and test/<class>/*, such as CIFAR-10 as JPEG files.
"""

import argparse
import statistics
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from environment import ROOT, write_result
from torch.nn import functional

from selection import Proxies, select
from selection.randomness import draw_words
from specs.dataset import Dataset
from specs.model import Model
from workers.data import load_images
from workers.measuring import losses_and_residuals
from workers.models import build_model

Float32 = npt.NDArray[np.float32]
N, PARTS, BATCH = 20_000, 16, 128
CASES = ((200, 16.0, 0.99), (2_000, 4.0, 0.97), (2_000, 16.0, 0.97))  # k, alpha, what is to be reached


def main() -> int:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the image folder")
    parser.add_argument("--epochs", type=int, default=3, help="of training before the residuals are taken")
    parser.add_argument("--partitions", type=int, default=5)
    parser.add_argument("--name", default="greedi_quality", help="name of the result file")
    arguments = parser.parse_args()
    grounds = {
        "residuals": trained_residuals(arguments.root, arguments.epochs),
        "normal": np.random.default_rng(0).standard_normal((N, 10), np.float32),
    }
    found = {name: [_case(points, *case, arguments.partitions) for case in CASES] for name, points in grounds.items()}
    for name, cases in found.items():
        for case in cases:
            print(f"{name}: {case}")
    settings = {"n": N, "parts": PARTS, "objective": "frobenius", "epochs": arguments.epochs}
    path = write_result(arguments.name, {**settings, "grounds": found})
    print(f"-> {path.relative_to(ROOT)}")
    return 0


def _case(points: Float32, k: int, alpha: float, reach: float, partitions: int) -> dict[str, Any]:
    proxies = Proxies(np.arange(N), points, np.zeros(N, int))
    central = select(proxies, budget=k)
    ratios = []
    for seed in range(partitions):
        chosen = select(proxies, budget=k, partitions=PARTS, alpha=alpha, seed=seed)
        # the value counts from the empty set, the drop from the best single medoid: central's first pick
        ratios.append(float((chosen.value - central.gains[0]) / (central.value - central.gains[0])))
    return {
        "k": k,
        "alpha": alpha,
        "reach": reach,
        "mean": round(float(statistics.mean(ratios)), 5),
        "std": round(statistics.stdev(ratios), 5) if len(ratios) > 1 else None,
        "ratios": [round(ratio, 5) for ratio in ratios],
    }


def trained_residuals(root: str, epochs: int) -> Float32:
    """(20,000, 10) softmax(logits) - onehot(label) after some epochs of plain SGD, seed 0."""
    images = load_images(Dataset(name="image_folder", root=root))
    ids = np.sort(np.argsort(draw_words(0, "order", np.arange(len(images.train))))[:N])
    pixels = torch.from_numpy(np.ascontiguousarray(images.train.images[ids])).permute(0, 3, 1, 2)
    labels = torch.from_numpy(images.train.labels[ids])
    module = build_model(Model(name="resnet8"), 10, images.image_shape, seed=0)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    mean, std = (torch.from_numpy(values).view(1, 3, 1, 1) for values in (images.mean, images.std))

    def logits(rows: Any) -> torch.Tensor:
        found: torch.Tensor = module((pixels[rows].float() / 255 - mean) / std)
        return found

    for epoch in range(epochs):
        order = np.argsort(draw_words(0, "order", epoch, ids))
        for start in range(0, N, BATCH):
            rows = torch.from_numpy(order[start : start + BATCH])
            optimizer.zero_grad(set_to_none=True)
            functional.cross_entropy(logits(rows), labels[rows]).backward()
            optimizer.step()
    module.eval()
    with torch.no_grad():
        every = [losses_and_residuals(logits(slice(s, s + 500)), labels[s : s + 500])[1] for s in range(0, N, 500)]
    return torch.cat(every).numpy()


if __name__ == "__main__":
    sys.exit(main())
