"""Shows: augmentation enlarges small singular values of the Jacobian relatively more than large ones, and turns its
leading singular subspaces less than its trailing ones (the paper's Figures 1 and 3).

A one-hidden-layer MLP on handwritten digits (MNIST, where --root holds it), after epoch 15, three seeds: noise of 8 and
16 of 255, then crop, flip and AutoAugment; 10 training images of each of three classes, and all of their logits. For
every seed: does the last tenth of the singular values grow more than the first, and turn more?

    python benchmarks/figure1.py [--root DIR] [--seeds 3] [--draws 40] [--examples 10] [--storage DIR]
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from environment import RESULTS, ROOT, write_result
from PIL import Image
from scipy.stats import spearmanr

SPEC = """
name: figure1
description: One-hidden-layer MLP, plainly trained; its Jacobian after epoch 15.
dataset: {dataset}
model: {{name: mlp, width: 128}}
augmentation:   # nothing of it is trained on (strategy none, without weak operations): the analysis alone draws it
  strong: [{{name: random_crop, padding: {padding}}}, random_flip, {{name: autoaugment, policy: cifar10}}]
training: {{regime: full+augmented, epochs: 15, batch_size: 128, optimizer: {{learning_rate: 0.1}}, schedule: constant}}
selection: {{strategy: none}}
evaluation: {{every: 15}}
checkpoints: {{every: 15, keep: [15]}}
resources: {{cpus: 1}}
storage: {{path: {storage}}}
seeds: {seeds}
"""
AUGMENTATIONS = ("noise:8", "noise:16", "random_crop", "random_flip", "autoaugment")
MEASURES = ("relative", "left", "right")


def main() -> int:
    """Train, analyse, print, write the result. Returns 1 where the claim fails for the noise of Figure 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with torchvision's MNIST")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--examples", type=int, default=10)
    parser.add_argument("--storage", help="folder of sweeps; a temporary one if left out")
    asked = parser.parse_args()
    dataset = f"{{name: mnist, root: {Path(asked.root).absolute()}}}" if asked.root else "{name: digits}"
    seeds, padding = list(range(asked.seeds)), 4 if asked.root else 1
    with tempfile.TemporaryDirectory(prefix="medoid-figure1-") as folder:
        storage = Path(asked.storage or folder).absolute()
        spec = Path(folder) / "figure1.yaml"
        spec.write_text(SPEC.format(dataset=dataset, padding=padding, storage=storage, seeds=seeds))
        _medoid("run", str(spec), "--inline")
        options = ("--draws", str(asked.draws), "--examples", str(asked.examples))
        _medoid("analyze", "spectrum", str(spec), *options, "--augmentations", ",".join(AUGMENTATIONS))
        analysis = storage / "figure1/analysis/spectrum"
        shown, ranges = _shown(_rows(analysis / "draws.csv")), _rows(analysis / "ranges.csv")
        _mosaic(analysis / "figures", RESULTS / "figure1.png")
    path = write_result(
        "figure1",
        {
            "dataset": dataset,
            "seeds": seeds,
            "draws": asked.draws,
            "examples_a_class": asked.examples,
            "shown": shown,
            "ranges": ranges,
        },
    )
    print(f"-> {path.relative_to(ROOT)}")
    return int(not all(one["holds"] for name, one in shown.items() if name.startswith("noise")))


def _medoid(*arguments: str) -> None:
    # One thread: for matrices this small a second one mostly waits.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "orchestrator.cli", *arguments], cwd=ROOT, env=environment, check=True)


def _rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _shown(draws: list[dict[str, str]]) -> dict[str, Any]:
    """For each augmentation and measure, seed by seed: the first and the last range, and the order of all between.

    `relative`: of singular values; `left`, `right`: mean principal angles in degrees.
    """
    values: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
    for row in draws:
        for measure in MEASURES:
            values[row["augmentation"], measure, row["seed"], int(row["range"])].append(float(row[measure]))
    shown: dict[str, Any] = {}
    for augmentation in AUGMENTATIONS:
        found: dict[str, Any] = {}
        for measure in MEASURES:
            by_seed = []
            for seed in sorted({row["seed"] for row in draws}):
                places = sorted(key[3] for key in values if key[:3] == (augmentation, measure, seed))
                means = [float(np.mean(values[augmentation, measure, seed, place])) for place in places]
                rank = float(spearmanr(places, means).statistic)
                by_seed.append({"seed": int(seed), "first": means[0], "last": means[-1], "spearman": round(rank, 3)})
            found[measure] = by_seed
        holds = all(one["last"] > one["first"] for measure in MEASURES for one in found[measure])
        shown[augmentation] = {"holds": holds, **found}
        for measure in MEASURES:
            ends = "; ".join(f"{one['first']:.3g} -> {one['last']:.3g} ({one['spearman']})" for one in found[measure])
            print(f"{augmentation:12} {measure:9} first -> last range (Spearman), by seed: {ends}")
    return shown


def _mosaic(panels: Path, path: Path) -> None:
    """Figure 1 above, Figure 3 below: growth, left angles, right angles."""
    rows = [[f"{measure}-{group}" for measure in ("growth", "left", "right")] for group in ("noise", "operations")]
    pictures = [[Image.open(panels / f"{name}.png").convert("RGB") for name in row] for row in rows]
    width, height = pictures[0][0].size
    whole = Image.new("RGB", (3 * width, 2 * height), "white")
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            whole.paste(picture, (x * width, y * height))
    whole.resize((2 * width, 4 * height // 3), Image.Resampling.LANCZOS).save(path, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
