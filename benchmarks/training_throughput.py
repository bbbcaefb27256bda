"""Claim: the loop trains ResNet20 at least 1.35 times as fast as plain PyTorch does.

Both train on the same random 32x32 images with padded random crop and flip, SGD with momentum, batch 128, on all
cores (or the GPU, where there is one). Plain PyTorch: contiguous tensors, torchvision's transforms image by image in a
DataLoader, at the better of none and two loader processes. Ours: `workers.loop.train` as a trial runs it. Each has a
process of its own; they take turns, epoch by epoch, so that a noisy neighbour hurts all. The first epoch of each warms
up and does not count.

    python benchmarks/training_throughput.py [--images 2560] [--rounds 5]
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from environment import ROOT, summary, write_result
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from selection.mapper import SerialMapper
from specs import TrialSpec
from workers.data import ImageData, ImageSet
from workers.loop import Context, train
from workers.models import build_model
from workers.storage import LocalStorage

REACH = 1.35
BATCH = 128


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """Images augmented one by one, as the usual training script does it."""

    def __init__(self, images: ImageSet):
        self.images = torch.from_numpy(np.ascontiguousarray(images.images.transpose(0, 3, 1, 2)))
        self.labels = images.labels
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def plain(images: ImageSet, spec: TrialSpec, device: torch.device, loaders: int) -> Iterator[float]:
    """Images a second of plain PyTorch, epoch by epoch."""
    torch.set_num_threads(spec.resources.cpus)
    model = build_model(spec.model, 10, (32, 32, 3), seed=0).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches = DataLoader(PerImage(images), BATCH, shuffle=True, num_workers=loaders, persistent_workers=loaders > 0)
    while True:
        start = time.perf_counter()
        for inputs, target in batches:
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs.to(device)), target.to(device)).backward()
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        yield len(images) / (time.perf_counter() - start)


def ours(images: ImageData, spec: TrialSpec, device: torch.device, folder: str) -> Iterator[float]:
    """Images a second of the loop, epoch by epoch: all of an epoch but evaluation."""
    context = Context("throughput", LocalStorage(folder), images, SerialMapper(), device)
    for epoch in train(spec, context):
        yield epoch.record.views / epoch.times.training_time


def main() -> int:
    """Measure, print, write the result. Returns 1 where the ratio is below what is claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    spec = _spec(arguments.rounds + 1, cuda)
    rates: dict[str, list[float]] = {"ours": [], "plain, no loader process": [], "plain, 2 loader processes": []}
    runners = {name: _Runner(name, arguments.images, spec) for name in rates}
    try:
        for turn in range(arguments.rounds + 1):
            for name, runner in runners.items():
                rate = runner.epoch()
                if turn:
                    rates[name].append(rate)
                    print(f"{name}: {rate:.0f} images/s", flush=True)
    finally:
        for runner in runners.values():
            runner.close()
    best = max((name for name in rates if name != "ours"), key=lambda name: statistics.mean(rates[name]))
    ratios = [a / b for a, b in zip(rates["ours"], rates[best], strict=True)]
    path = write_result(
        "training_throughput",
        {
            "model": "resnet20",
            "device": "cuda" if cuda else "cpu",
            "batch": BATCH,
            "images": arguments.images,
            "rounds": arguments.rounds,
            "images_per_second": {name: summary(values, 3) for name, values in rates.items()},
            "compared_with": best,
            "ratio": summary(ratios, 3),
            "reach": REACH,
            "load_average_1min": round(os.getloadavg()[0], 2),
        },
    )
    print(f"ours / {best}: {statistics.mean(ratios):.2f} ± {statistics.stdev(ratios):.2f} -> {path.relative_to(ROOT)}")
    return int(statistics.mean(ratios) < REACH)


class _Runner:
    """A process that trains an epoch when it is told to."""

    def __init__(self, name: str, images: int, spec: TrialSpec):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, name, images, spec))
        self.process.start()

    def epoch(self) -> float:
        """Images a second of the next epoch."""
        self.pipe.send(True)
        return float(self.pipe.recv())

    def close(self) -> None:
        self.pipe.send(False)
        self.process.join()


def _serve(pipe: Connection, name: str, count: int, spec: TrialSpec) -> None:
    device = torch.device("cuda" if spec.resources.gpus else "cpu")
    images = _images(count)
    with tempfile.TemporaryDirectory(prefix="medoid-throughput-") as folder:
        if name == "ours":
            epochs = ours(images, spec, device, folder)
        else:
            epochs = plain(images.train, spec, device, 2 if "2 loader" in name else 0)
        while pipe.recv():
            pipe.send(next(epochs))


def _spec(epochs: int, cuda: bool) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "dataset": {"name": "cifar10", "root": "."},
            "model": {"name": "resnet20"},
            "augmentation": {"weak": [{"name": "random_crop", "padding": 4}, "random_flip"]},
            "training": {"regime": "full+augmented", "epochs": epochs, "batch_size": BATCH},
            "selection": {"strategy": "none"},
            "evaluation": {"every": epochs},
            "checkpoints": {"every": epochs},
            "resources": {"cpus": len(os.sched_getaffinity(0)), "gpus": int(cuda), "deterministic": False},
            "seed": 0,
        }
    )


def _images(count: int) -> ImageData:
    stream = np.random.default_rng(0)

    def draw(n: int) -> ImageSet:
        pixels = stream.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        return ImageSet(pixels, np.arange(n, dtype=np.int64) % 10)

    half = np.full(3, 0.5, np.float32)
    return ImageData(draw(count), draw(100), tuple("0123456789"), "random", half, half / 2)


if __name__ == "__main__":
    sys.exit(main())
