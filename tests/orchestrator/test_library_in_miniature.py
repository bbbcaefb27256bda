"""Every experiment of the library run in miniature: its own file, shrunk by --set, on small copies of the real layouts.

What is shrunk: images, epochs, seeds, sizes; where the network is too heavy for a test (WideResNet-28-10 at 32 px,
ResNet50 at 224 px) a smaller one stands in, in NETWORKS. All else is the file's.
"""

import csv
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published_layouts import write_caltech256, write_imagenet
from rich.console import Console
from scipy.io import savemat
from torchvision import datasets, models

import specs
from orchestrator.report.comparisons import compare
from orchestrator.report.csv_files import csv_files
from orchestrator.report.markdown import table_markdown, times_markdown
from orchestrator.report.provenance import provenance
from orchestrator.report.published import published
from orchestrator.report.results import read_results
from orchestrator.running import run_here
from workers.records import SWEEP_KEY, SweepRecord, checkpoint_key, load_record
from workers.storage import LocalStorage

CLASSES = 10
NETWORKS = {"wrn28_10": "resnet8", "resnet50": "resnet18"}
CIFAR = ("table1_cifar10_resnet20", "table1_cifar10_wrn2810", "table4_cifar10", "table5_noisy_cifar10", "weak_only",
         "append_vs_in_place", "figure2_cifar10", "figure1_cifar10_resnet20", "figure3_cifar10")  # fmt: skip
SVHN = ("table4_svhn", "figure2_svhn")
TINY = ("table3_tinyimagenet", "table6_tinyimagenet")
CALTECH = ("table1_caltech256", "table2_caltech256_cutout", "table2_caltech256_augmix", "table2_caltech256_perturb")


def pixels(count: int, side: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, channels), np.uint8)


def write_cifar10(root: Path, per_class: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real layout, with one batch of training images; torchvision's checksums are set to those of these files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name: str, content: object) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(count: int) -> dict[str, object]:
        images = pixels(count, 32).transpose(0, 3, 1, 2).reshape(count, 3 * 32 * 32)
        return {"data": images, "labels": [number % CLASSES for number in range(count)]}

    empty = [dump(f"data_batch_{number}", batch(0)) for number in range(2, 6)]
    train = [dump("data_batch_1", batch(per_class * CLASSES)), *empty]
    names = dump("batches.meta", {"label_names": [f"thing {number}" for number in range(CLASSES)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [dump("test_batch", batch(2 * CLASSES))])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": names[1]})
    return root


def write_svhn(root: Path, per_class: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    root.mkdir(parents=True)
    listed = {}
    for split, count in (("train", per_class * CLASSES), ("test", 2 * CLASSES)):
        path = root / f"{split}_32x32.mat"
        labels = np.arange(count)[:, None] % CLASSES + 1  # SVHN writes the digit 0 as 10
        savemat(path, {"X": pixels(count, 32).transpose(1, 2, 3, 0), "y": labels.astype(np.uint8)})
        listed[split] = [*datasets.SVHN.split_list[split][:2], hashlib.md5(path.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", listed)
    return root


def write_mnist(root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 4 * CLASSES), ("t10k", 2 * CLASSES)):
        for kind, array in (("images-idx3", pixels(count, 28, 1)[..., 0]), ("labels-idx1", np.arange(count) % CLASSES)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            head = bytes([0, 0, 8, array.ndim]) + sizes
            (raw / f"{part}-{kind}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    return root


def write_tiny_imagenet(root: Path) -> Path:
    """Three classes of eight images, and two of each to validate with."""
    wnids = ("n01443537", "n01629819", "n01641577")
    shown, lines = iter(pixels(30, 64)), []
    for wnid in wnids:
        (root / "train" / wnid / "images").mkdir(parents=True)
        for number in range(8):
            Image.fromarray(next(shown)).save(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(next(shown)).save(root / "val" / "images" / f"val_{number}.JPEG")
        lines.append(f"val_{number}.JPEG\t{wnids[number % 3]}\t0\t0\t63\t63\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (root / "words.txt").write_text("".join(f"{wnid}\tthing {wnid}\n" for wnid in wnids))
    return root


def data_of(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the data of a library spec; returns what is to be overridden for it."""
    if name in CIFAR:
        return [f"dataset.root={write_cifar10(folder, 4, monkeypatch)}"]
    if name == "table4_cifar10_ib":
        return [f"dataset.root={write_cifar10(folder, 10, monkeypatch)}"]  # of its smallest class one is left
    if name in SVHN:
        return [f"dataset.root={write_svhn(folder, 4, monkeypatch)}"]
    if name in TINY:
        return [f"dataset.root={write_tiny_imagenet(folder)}"]
    if name in CALTECH:
        weights = folder / "resnet18.pt"
        write_caltech256(folder)
        torch.save(models.resnet18().state_dict(), weights)
        few = ["dataset.train_per_class=4", "resources.loaders=0"]
        return [f"dataset.root={folder}", f"model.pretrained={weights}", "model.download=false", *few]
    if name == "table6_imagenet":
        return [f"dataset.root={write_imagenet(folder, per_class=4)}", "resources.loaders=0"]
    return [f"dataset.root={write_mnist(folder)}"]


def miniature(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> specs.SweepSpec:
    """A library spec for two epochs of a few images, one seed and one size."""
    whole = specs.load(name)
    changes = [
        *data_of(name, folder / "data", monkeypatch),
        f"storage.path={folder / 'runs'}",
        "training.epochs=2",
        "training.batch_size=16",
        "resources.gpus=0",
        "resources.cpus=1",
        "resources.selection_shards=1",
        "selection.every=1",
        "seeds=[0]",
    ]
    if whole.training.schedule.name == "milestones":
        changes.append("training.schedule.milestones=[1]")
    if whole.checkpoints.keep:
        changes.append("checkpoints.keep=[2]")
    if "selection.fraction" in whole.sweep.grid:
        changes.append("sweep.grid.selection.fraction=[0.5]")
    if whole.model.name in NETWORKS and name not in TINY:
        changes.append(f"model.name={NETWORKS[whole.model.name]}")
        if whole.model.name == "wrn28_10":
            changes.append("model.dropout=0.0")
    return specs.load(name, changes)


def ran(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a miniature; what is left behind."""
    monkeypatch.setenv("MEDOID_CACHE", str(folder / "cache"))
    sweep = miniature(name, folder, monkeypatch)
    screen = io.StringIO()
    assert run_here(sweep, Console(file=screen, width=100), inline=True, address=None) == 0, screen.getvalue()
    storage = LocalStorage(folder / "runs" / name)
    record = load_record(storage, SWEEP_KEY, SweepRecord)
    assert record is not None
    results = read_results(storage, record)
    assert not results.missing()
    return {"sweep": sweep, "results": results, "storage": storage, "screen": screen.getvalue()}


def check(name: str, left: dict[str, Any]) -> None:
    """What every miniature must show: its cells beside the paper's, and how far its set-up is from the file's."""
    results = left["results"]
    comparisons = compare(results)
    expected = {trial.spec.selection.strategy for trial in specs.expand(specs.load(name))}
    assert {outcome.entry.strategy for outcome in results.outcomes} == expected
    text = table_markdown(results, comparisons, provenance(results, comparisons))
    assert "## Beside the paper: " in text
    assert "| training.epochs | 2 | " in text
    assert "Beside the paper: " in left["screen"]
    rows = list(csv.DictReader(io.StringIO(csv_files(results).get("paper.csv", b"").decode())))
    assert bool(rows) == bool(published()[name].sizes)
    assert all(0 <= float(row["here"]) <= 100 for row in rows if row["quantity"] == "accuracy" and row["here"])
    assert {row["strategy"] for row in rows} <= expected
    for outcome in results.outcomes:
        if outcome.entry.strategy in ("random", "max_loss", "coreset"):
            assert [one.epoch for one in outcome.result.selections] == [0, 1]


@pytest.mark.parametrize("name", ["table1_cifar10_resnet20", "table4_svhn", "figure1_mnist_mlp"])
def test_in_miniature(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = ran(name, tmp_path, monkeypatch)
    check(name, left)
    if name == "figure1_mnist_mlp":
        (outcome,) = left["results"].outcomes
        assert left["storage"].exists(checkpoint_key(outcome.entry.id, 2))
    if name == "table4_svhn":  # four copies of each image of S are appended
        views = {one.entry.strategy: one.result.epochs[0].views for one in left["results"].outcomes}
        assert views == {"none": 40, "full": 40 * 5, "random": 40 + 80, "max_loss": 40 + 80, "coreset": 40 + 80}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(name for name in CIFAR if name != "table1_cifar10_resnet20"),
        "table4_cifar10_ib",
        "figure2_svhn",
        *TINY,
        *CALTECH,
        "table6_imagenet",
    ],
)
def test_in_miniature_slowly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = ran(name, tmp_path, monkeypatch)
    check(name, left)
    results = left["results"]
    if name == "figure2_cifar10":  # one after another, so that there are speed-ups
        text = times_markdown(results, compare(results))
        assert "have no part in the speed-ups" not in text
        assert "paper 3.43" in text
    if name in CALTECH:
        assert {outcome.result.metric for outcome in results.outcomes} == {"balanced_accuracy"}
    if name == "table6_imagenet":  # as many originals as copies: 16 images, half of them
        assert {(one.result.epochs[0].views, one.result.epochs[0].augmented) for one in results.outcomes} == {(16, 8)}
    if name == "append_vs_in_place":
        found = [
            (one.result.spec.augmentation.placement, one.result.epochs[0].views, one.result.epochs[0].augmented)
            for one in results.outcomes
            if one.entry.strategy == "full"
        ]
        assert found == [("append", 80, 40), ("in_place", 40, 40), ("in_place", 80, 80)]


def test_every_experiment_is_run_here() -> None:
    """So that none that is added is forgotten."""
    here = {*CIFAR, *SVHN, *TINY, *CALTECH, "table4_cifar10_ib", "table6_imagenet", "figure1_mnist_mlp"}
    library = {path.stem for path in specs.loading.LIBRARY.glob("*.yaml")}
    assert here == {name for name in library if specs.load(name).reproduces == name}
