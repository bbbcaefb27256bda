"""Passes over the data without learning: test accuracy, and losses and gradient proxies."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from selection.proxies import Int64
from selection.strategies import Candidates
from workers.group import Group, share
from workers.images import DeviceImages, Normalizer
from workers.models import LastInput

_BATCH = 512


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    model.eval()
    try:
        yield
    finally:
        model.train()


@torch.no_grad()
def evaluate(
    model: nn.Module, images: DeviceImages, labels: Int64, normalize: Normalizer, group: Group
) -> tuple[float, float]:
    """Accuracy (share of images, 0 to 1) and mean cross-entropy over a labelled set; every process does its part."""
    mine = np.arange(len(labels))[share(len(labels), group)]
    right, loss = 0, 0.0
    with _evaluation_mode(model):
        for start in range(0, len(mine), _BATCH):
            rows = mine[start : start + _BATCH]
            target = torch.from_numpy(labels[rows]).to(images.device)
            logits = model(normalize(images.take(rows)))
            right += int((logits.argmax(dim=1) == target).sum())
            loss += float(functional.cross_entropy(logits, target, reduction="sum"))
    totals = group.gather((right, loss))
    return sum(total[0] for total in totals) / len(labels), sum(total[1] for total in totals) / len(labels)


def losses_and_residuals(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy (n,) and softmax(logits) - onehot(label) (n, C) of logits (n, C) and labels (n,)."""
    residuals = functional.softmax(logits, dim=1)
    residuals[torch.arange(len(target)), target] -= 1.0
    return functional.cross_entropy(logits, target, reduction="none"), residuals


@dataclass(frozen=True)
class _Part:
    losses: npt.NDArray[np.float32]
    residuals: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32] | None


@torch.no_grad()
def measure_candidates(
    model: nn.Module,
    images: DeviceImages,
    ids: Int64,
    labels: Int64,
    normalize: Normalizer,
    group: Group,
    *,
    embeddings: bool,
) -> Candidates:
    """Loss, residual softmax(logits) - onehot(label) and, if asked, last layer's input of every training example.

    Forward only, on images without augmentation, with the network in evaluation mode. Every process does its part,
    and everybody gets the whole.
    """
    mine = share(len(ids), group)
    inputs: list[torch.Tensor] = []
    last = LastInput(model) if embeddings else None
    losses: list[torch.Tensor] = []
    residuals: list[torch.Tensor] = []
    try:
        with _evaluation_mode(model):
            for start in range(mine.start, mine.stop, _BATCH):
                rows = slice(start, min(start + _BATCH, mine.stop))
                target = torch.from_numpy(labels[rows]).to(images.device)
                logits = model(normalize(images.take(ids[rows]))).float()
                if last is not None:
                    inputs.append(last.take())
                loss, residual = losses_and_residuals(logits, target)
                losses.append(loss)
                residuals.append(residual)
    finally:
        if last is not None:
            last.close()
    part = _Part(_numpy(losses), _numpy(residuals), _numpy(inputs) if embeddings else None)
    parts: list[_Part] = [part for part in group.gather(part) if len(part.losses)]  # more processes than examples
    return Candidates(
        ids=ids,
        labels=labels,
        losses=np.concatenate([part.losses for part in parts]),
        residuals=np.concatenate([part.residuals for part in parts]),
        embeddings=np.concatenate([part.embeddings for part in parts]) if embeddings else None,
    )


def _numpy(batches: list[torch.Tensor]) -> npt.NDArray[Any]:
    return torch.cat(batches).cpu().numpy() if batches else np.zeros(0, np.float32)
