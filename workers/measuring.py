"""Passes over the data without learning: test accuracy, and losses and gradient proxies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from selection.proxies import Int64
from selection.strategies import Candidates
from specs.resources import Metric
from workers.group import Group, share
from workers.images import MOST, Images, Normalizer
from workers.models import LastInput
from workers.uploads import upload


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    model.eval()
    try:
        yield
    finally:
        model.train()


def _together(rows: Int64, ids: Int64, images: Images) -> Iterator[tuple[Int64, torch.Tensor]]:
    """Some rows and their images, as many as are taken at once."""
    starts = range(0, len(rows), images.at_once)
    batches = images.batches([ids[start : start + images.at_once] for start in starts])
    for start, batch in zip(starts, batches, strict=True):
        yield rows[start : start + images.at_once], batch


@torch.no_grad()
def evaluate(
    model: nn.Module,
    images: Images,
    labels: Int64,
    normalize: Normalizer,
    group: Group,
    metric: Metric = "accuracy",
) -> tuple[float, float]:
    """Accuracy (0 to 1, by the metric) and mean cross-entropy over a labelled set; every process does its part."""
    mine = np.arange(len(labels))[share(len(labels), group)]
    hits: list[torch.Tensor] = []
    losses: list[torch.Tensor] = []
    with _evaluation_mode(model):
        for rows, batch in _together(mine, mine, images):
            target = upload(labels[rows], images.device)
            logits = model(normalize(batch))
            hits.append(logits.argmax(dim=1) == target)
            losses.append(functional.cross_entropy(logits, target, reduction="sum").double()[None])
    found = _numpy(hits).astype(bool)  # read back once, at the end
    right = np.bincount(labels[mine][found], minlength=labels.max() + 1)
    loss = sum(_numpy(losses).tolist())
    totals = group.gather((right, loss))
    return accuracy(sum(total[0] for total in totals), labels, metric), sum(total[1] for total in totals) / len(labels)


def accuracy(right: Int64, labels: Int64, metric: Metric) -> float:
    """Share of examples (accuracy), or mean over the classes that occur of each one's share (balanced_accuracy).

    right   (classes,): how many of each class are classified rightly
    labels  (n,)
    """
    if metric == "accuracy":
        return int(right.sum()) / len(labels)
    counts = np.bincount(labels, minlength=len(right))
    return float((right[counts > 0] / counts[counts > 0]).mean())


def losses_and_residuals(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy (n,) and softmax(logits) - onehot(label) (n, C) of logits (n, C) and labels (n,)."""
    residuals = functional.softmax(logits, dim=1)
    residuals[torch.arange(len(target)), target] -= 1.0
    return functional.cross_entropy(logits, target, reduction="none"), residuals


@torch.no_grad()
def measure_losses(
    model: nn.Module, images: torch.Tensor, targets: torch.Tensor, normalize: Normalizer
) -> torch.Tensor:
    """Cross-entropy (m,) of uint8 images (m, C, H, W) and soft labels (m, classes); the network in evaluation mode."""
    with _evaluation_mode(model):
        pieces = zip(images.split(MOST), targets.split(MOST), strict=True)
        return torch.cat([functional.cross_entropy(model(normalize(x)), y, reduction="none") for x, y in pieces])


@torch.no_grad()
def measure_candidates(
    model: nn.Module,
    images: Images,
    ids: Int64,
    labels: Int64,
    normalize: Normalizer,
    group: Group,
    *,
    embeddings: bool,
) -> Candidates:
    """Loss, residual softmax(logits) - onehot(label) and, if asked, last layer's input of every training example.

    Forward only, on images without random augmentation, with the network in evaluation mode. Every process does its
    part, and keeps its residuals and embeddings; of the others it gets the losses.
    """
    mine = np.arange(len(ids))[share(len(ids), group)]
    inputs: list[torch.Tensor] = []
    last = LastInput(model) if embeddings else None
    losses: list[torch.Tensor] = []
    residuals: list[torch.Tensor] = []
    try:
        with _evaluation_mode(model):
            for rows, batch in _together(mine, ids[mine], images):
                target = upload(labels[rows], images.device)
                logits = model(normalize(batch)).float()
                if last is not None:
                    inputs.append(last.take())
                loss, residual = losses_and_residuals(logits, target)
                losses.append(loss)
                residuals.append(residual)
    finally:
        if last is not None:
            last.close()
    return Candidates(
        ids=ids,
        labels=labels,
        losses=np.concatenate(group.gather(_numpy(losses))),
        residuals=_numpy(residuals),
        embeddings=_numpy(inputs) if embeddings else None,
        rows=None if group.size == 1 else mine,
    )


def _numpy(batches: list[torch.Tensor]) -> npt.NDArray[Any]:
    return torch.cat(batches).cpu().numpy() if batches else np.zeros(0, np.float32)
