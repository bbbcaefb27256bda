"""Claim: augmentation in batches is at least 5 times as fast as torchvision's image by image for AutoAugment, 3 times
for AugMix, at 32 pixels, in batches of 128 and of 512.

Both get the same random uint8 images in memory. Batched: `workers.augmentation` on a whole batch, as the loop calls it,
on one core and on all. Per image: torchvision's v2 transform (contiguous tensors, its own generator) on one image after
another in the same process, stacked to a batch, as in a training loop without loader processes; on one core, since
more only cost on a single image. They take turns, round by round, so that a noisy neighbour hurts both; the first round
of each warms up and does not count. Beside them, not part of the claim: torchvision in as many loader processes as
there are cores; larger images; and the operations that torchvision does not have. Loss-guided candidates are made, not
scored: that takes a network.

    python benchmarks/augmentation_throughput.py [--rounds 8] [--device cuda]

With --device cuda the batches lie on the GPU; torchvision still works on the CPU, and its batches are copied there.
"""

import argparse
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from environment import ROOT, summary, write_result
from pydantic import TypeAdapter
from torchvision.transforms import v2

from specs.augmentation import Operation
from workers.augmentation import Augmenter, LossGuidedCopies, Pool

Transform = Callable[[torch.Tensor], torch.Tensor]
WEAK = ({"name": "random_crop", "padding": 4}, {"name": "random_flip"})
CANDIDATES = 4
BATCHES = {32: (128, 512), 224: (32,)}  # pixels a side: images a batch; the largest is what a round takes
ALONE = {32: 128, 224: 16}  # pixels a side: images a round, one by one


class Candidate:
    """What Wu et al.'s published code does to one image for one candidate, in torchvision's operations."""

    def __init__(self, images: torch.Tensor):
        self.images = images
        self.policy = v2.AutoAugment()
        self.space = self.policy._AUGMENTATION_SPACE
        self.crop = v2.Compose([v2.RandomCrop(images.shape[2], padding=4), v2.RandomHorizontalFlip()])

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return self.composed(image, [random.choice([*self.space, "Cutout", "Mixup"]) for _ in range(2)])

    def composed(self, image: torch.Tensor, names: list[str], final: bool = True) -> torch.Tensor:
        """Two operations, each by a coin, crop and flip, a hole, and Mixup by a coin with an image gone that way."""
        for number, name in enumerate(names):
            if random.random() < 0.5:
                image = self.changed(image, name, names[:number])
        if not final:
            return image
        image = self.holed(self.crop(image), 16)
        return self.mixed(image, names, ended=True) if random.random() < 0.5 else image

    def changed(self, image: torch.Tensor, name: str, before: list[str]) -> torch.Tensor:
        if name == "Mixup":
            return self.mixed(image, before)
        if name == "Cutout":
            return self.holed(image, random.randrange(image.shape[1] // 2 + 1))
        table, signed = self.space[name]
        steps = table(10, *image.shape[1:])
        amount = (
            0.0 if steps is None else float(steps[random.randrange(10)]) * (random.choice([-1, 1]) if signed else 1)
        )
        return self.policy._apply_image_or_video_transform(
            image, name, amount, self.policy.interpolation, self.policy._fill
        )

    def holed(self, image: torch.Tensor, size: int) -> torch.Tensor:
        top, left = (random.randrange(side) - size // 2 for side in image.shape[1:])
        image = image.clone()
        image[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
        return image

    def mixed(self, image: torch.Tensor, names: list[str], ended: bool = False) -> torch.Tensor:
        partner = self.images[random.randrange(len(self.images))]
        partner = self.composed(partner, [name for name in names if name != "Mixup"], final=False)
        if ended:
            partner = self.holed(self.crop(partner), 16)
        share = random.betavariate(1.0, 1.0)
        return (image * share + partner * (1 - share)).to(torch.uint8)


# operation: its spec, torchvision's transform (given the images), and what is to be reached at 32 pixels
CASES: dict[str, tuple[Any, Callable[[torch.Tensor], Transform] | None, float | None]] = {
    "autoaugment cifar10": (
        {"name": "autoaugment", "policy": "cifar10"},
        lambda _: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
        5.0,
    ),
    "autoaugment svhn": (
        {"name": "autoaugment", "policy": "svhn"},
        lambda _: v2.AutoAugment(v2.AutoAugmentPolicy.SVHN),
        5.0,
    ),
    "autoaugment imagenet": (
        {"name": "autoaugment", "policy": "imagenet"},
        lambda _: v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET),
        5.0,
    ),
    "randaugment": ("randaugment", lambda _: v2.RandAugment(), None),
    "augmix": ("augmix", lambda _: v2.AugMix(all_ops=False), 3.0),
    "augmix, all operations": ({"name": "augmix", "all_ops": True}, lambda _: v2.AugMix(), 3.0),
    "perturb": ("perturb", lambda _: v2.Compose([v2.ColorJitter(0.2), v2.GaussianBlur(5, (0.1, 2.0))]), None),
    "loss_guided candidates": ("loss_guided", Candidate, None),
    "random_crop and random_flip": (
        WEAK,
        lambda images: v2.Compose([v2.RandomCrop(images.shape[2], padding=4), v2.RandomHorizontalFlip()]),
        None,
    ),
    "random_resized_crop": (
        {"name": "random_resized_crop", "size": "side"},
        lambda images: v2.RandomResizedCrop(images.shape[2], antialias=True),
        None,
    ),
    "cutout": ("cutout", None, None),
    "noise": ("noise", None, None),
}


def pixels(count: int, side: int) -> torch.Tensor:
    """The same random images for everybody: uint8 (n, 3, side, side), contiguous."""
    drawn = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(drawn)


class Batched:
    """One operation, or a chain, on batches on a device."""

    def __init__(self, spec: Any, images: torch.Tensor, device: torch.device):
        self.device = device
        self.images = images.to(device).contiguous(memory_format=torch.channels_last)
        self.ids = np.arange(len(images))
        self.guided: LossGuidedCopies | None = None
        chain = [_operation(part, images.shape[2]) for part in (spec if isinstance(spec, tuple) else (spec,))]
        if chain[0].name == "loss_guided":
            pool = Pool(self.ids, self.ids % 10, 10, lambda ids: self.images[torch.from_numpy(ids).to(device)])
            weak = [_operation(part, images.shape[2]) for part in WEAK]
            self.guided = LossGuidedCopies(chain[0], weak, pool, lambda *_: torch.zeros(0))
        else:
            self.augment = Augmenter(chain)

    def rate(self, batch: int, epoch: int) -> float:
        """Images a second over all images, in batches; candidates count as images."""
        self._wait()
        start, made = time.perf_counter(), 0
        step = batch if self.guided is None else batch // CANDIDATES
        for first in range(0, len(self.ids), step):
            rows = self.ids[first : first + step]
            if self.guided is None:
                made += len(self.augment(self.images[first : first + step], rows, rows * 0 + 1, seed=0, epoch=epoch))
            else:
                made += len(self.guided.candidates(rows, seed=0, epoch=epoch)[0])
        self._wait()
        return made / (time.perf_counter() - start)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def per_image(transform: Transform, images: torch.Tensor, device: torch.device) -> float:
    """Images a second of a transform called on each image of a batch by itself."""
    start = time.perf_counter()
    torch.stack([transform(image) for image in images]).to(device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return len(images) / (time.perf_counter() - start)


class Loaders:
    """Processes that transform their part of the images when told to, at the same time."""

    def __init__(self, processes: int, side: int):
        context = multiprocessing.get_context("spawn")
        self.images, self.pipes, self.processes = processes * ALONE[side], [], []
        for _ in range(processes):
            pipe, theirs = context.Pipe()
            process = context.Process(target=_load, args=(theirs, side), daemon=True)
            process.start()
            self.pipes.append(pipe)
            self.processes.append(process)

    def rate(self, case: str) -> float:
        """Images a second of all processes together."""
        for pipe in self.pipes:
            pipe.recv()  # ready
        start = time.perf_counter()
        for pipe in self.pipes:
            pipe.send(case)
        for pipe in self.pipes:
            pipe.recv()
        return self.images / (time.perf_counter() - start)

    def close(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.recv()
            pipe.send(None)
            process.join()


def _load(pipe: Connection, side: int) -> None:
    torch.set_num_threads(1)
    images = pixels(ALONE[side], side)
    transforms = {name: make(images) for name, (_, make, _) in CASES.items() if make is not None}
    while True:
        pipe.send(True)
        case = pipe.recv()
        if case is None:
            return
        per_image(transforms[case], images, torch.device("cpu"))
        pipe.send(True)


def measure(side: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """All operations on images of a size, round by round."""
    batches, cores = BATCHES[side], len(os.sched_getaffinity(0))
    images = pixels(max(batches), side)
    batched = {name: Batched(spec, images, device) for name, (spec, _, _) in CASES.items()}
    transforms = {name: make(images) for name, (_, make, _) in CASES.items() if make is not None}
    loaders = Loaders(cores, side)
    rates: dict[str, dict[str, list[float]]] = {name: {} for name in CASES}
    try:
        for turn in range(rounds + 1):
            for name in CASES:
                found = {}
                for threads in dict.fromkeys((cores, 1)):  # one comes last, for torchvision
                    torch.set_num_threads(threads)
                    for batch in batches:
                        way = f"batched, {batch} a batch, {threads} core{'s' * (threads > 1)}"
                        found[way] = batched[name].rate(batch, turn)
                if name in transforms:
                    found["per image"] = per_image(transforms[name], images[: ALONE[side]], device)
                    found[f"per image, {cores} loader processes"] = loaders.rate(name)
                for way, rate in found.items():
                    if turn:
                        rates[name].setdefault(way, []).append(rate)
    finally:
        loaders.close()
    results = {}
    for name, ways in rates.items():
        results[name] = {"images_per_second": {way: summary(values, 3) for way, values in ways.items()}}
        for base in [way for way in ways if way.startswith("per image")]:
            results[name][f"times as fast as {base}"] = {
                way: summary([ours / theirs for ours, theirs in zip(ways[way], ways[base], strict=True)], 3)
                for way in ways
                if way.startswith("batched")
            }
    return results


def main() -> int:
    """Measure, print, write the result. Returns 1 where a ratio is below what is claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cpu", help="where the batches lie: cpu or cuda")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    before = os.getloadavg()[0]
    results = {side: measure(side, arguments.rounds, device) for side in BATCHES}
    missed = []
    for side, cases in results.items():
        for name, found in cases.items():
            for way, rate in found["images_per_second"].items():
                ratio = found.get("times as fast as per image", {}).get(way)
                times = f", {ratio['mean']:.1f} ± {ratio['std']:.1f} times torchvision per image" if ratio else ""
                print(f"{side} px, {name}, {way}: {rate['mean']:.0f} ± {rate['std']:.0f} images/s{times}")
                reach = CASES[name][2]
                if side == 32 and ratio and reach and ratio["mean"] < reach:
                    missed.append(f"{name}, {way}: {ratio['mean']:.1f}, to reach: {reach}")
    name = "augmentation_throughput" + ("_cuda" if device.type == "cuda" else "")
    path = write_result(
        name,
        {
            "device": device.type,
            "cores": len(os.sched_getaffinity(0)),
            "rounds": arguments.rounds,
            "images_a_round": {
                "batched": {f"{side} px": max(batches) for side, batches in BATCHES.items()},
                "per image, and in each loader process": {f"{side} px": count for side, count in ALONE.items()},
            },
            "reach": {name: reach for name, (_, _, reach) in CASES.items() if reach},
            "results": {f"{side} px": cases for side, cases in results.items()},
            "load_average_1min": {"before": round(before, 2), "after": round(os.getloadavg()[0], 2)},
        },
    )
    print(f"-> {path.relative_to(ROOT)}")
    for line in missed:
        print(f"below the claim: {line}")
    return int(bool(missed))


def _operation(spec: Any, side: int) -> Any:
    if isinstance(spec, dict) and spec.get("size") == "side":
        spec = {**spec, "size": side}
    if spec == "loss_guided":
        spec = {"name": "loss_guided", "candidates": CANDIDATES}
    return TypeAdapter(Operation).validate_python(spec)


if __name__ == "__main__":
    sys.exit(main())
