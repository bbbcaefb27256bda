"""Weights to start a network from: a state dict in a file, or one that torchvision publishes."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from specs.model import PUBLISHED, Model

_NAMED = 5  # tensors listed in an error


class WeightsError(ValueError):
    """Weights that cannot be used: says which file or tensor, and what is asked of it."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, as they were read.

    `fingerprint`: 16 hexadecimal digits of the SHA-256 of the file's bytes; the same wherever it lies.
    """

    origin: str
    fingerprint: str
    tensors: Mapping[str, torch.Tensor]


def read_weights(model: Model) -> Weights | None:
    """The weights that a spec's `model.pretrained` names; None where it names none.

    Of torchvision's those called IMAGENET1K_V1: what its `pretrained=True` has always meant. They are looked for in
    torch's hub folder ($TORCH_HOME), and downloaded to it only with `model.download`. Files are read with
    `weights_only`, so that nothing in them is executed. Raises WeightsError.
    """
    if model.pretrained is None:
        return None
    if model.pretrained == PUBLISHED:
        return _read_published(model)
    path = Path(model.pretrained).expanduser()
    if not path.is_file():
        raise WeightsError(f"model.pretrained: {path} is not a file")
    fingerprint = _fingerprint(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's own words advise to run what the file holds
        raise WeightsError(
            f"model.pretrained: {path} cannot be read: torch.save made it of something else than a state_dict(), or "
            "not at all; nothing in it was run"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"model.pretrained: {path} cannot be read as torch.save's file: {reason}") from error
    return Weights(str(path), fingerprint, _state_dict(found, path))


def start_from(network: nn.Module, classifier: str | None, weights: Weights) -> None:
    """Give a network's parameters and buffers these values.

    classifier  name of the linear layer that gives the logits, if there is one: it stays as it is where the weights
                are for another number of classes

    Raises WeightsError, naming tensors and shapes, where anything else does not fit.
    """
    expected = network.state_dict()
    kept = dict(weights.tensors)
    for name in (f"{classifier}.weight", f"{classifier}.bias"):
        theirs, ours = kept.get(name), expected.get(name)
        if theirs is not None and ours is not None and theirs.shape[1:] == ours.shape[1:] and len(theirs) != len(ours):
            del kept[name]
    of_another_shape = [
        f"{name} is {_shape(tensor)} there and {_shape(expected[name])} in the network"
        for name, tensor in kept.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    unknown = [name for name in kept if name not in expected]
    # files from before torch counted batches lack these
    missing = [name for name in expected if name not in weights.tensors and not name.endswith(".num_batches_tracked")]
    for wrong, what in (
        (unknown, "holds tensors that the network has not"),
        (missing, "lacks tensors of the network"),
        (of_another_shape, "holds tensors of another shape"),
    ):
        if wrong:
            raise WeightsError(f"model.pretrained: {weights.origin} {what}: {_listed(wrong)}")
    network.load_state_dict(kept, strict=False)


def _read_published(model: Model) -> Weights:
    published = torchvision.models.get_model_weights(model.name)
    if "IMAGENET1K_V1" not in published.__members__:
        raise WeightsError(f"model.pretrained: torchvision has no weights IMAGENET1K_V1 of {model.name}; name a file")
    entry = published["IMAGENET1K_V1"]
    path = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(entry.url)
    if not path.is_file() and not model.download:
        raise WeightsError(
            f"model.pretrained: torchvision's weights of {model.name} are not in {path}; "
            "model.download: true fetches them, $TORCH_HOME names another folder"
        )
    try:
        network: nn.Module = torchvision.models.get_model(model.name, weights=entry)  # downloads what is missing
    except Exception as error:  # urllib's, torch's and the system's own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"model.pretrained: torchvision's weights of {model.name}: {reason}") from error
    return Weights(f"{path}", _fingerprint(path), network.state_dict())


def _fingerprint(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _state_dict(found: Any, path: Path) -> dict[str, torch.Tensor]:
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"model.pretrained: {path} holds {type(found).__name__}, not a state dict")
    others = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise WeightsError(
            f"model.pretrained: {path} is not a state dict: {_listed(others)} "
            "is not a tensor; save the network's state_dict() alone"
        )
    return {str(name): value for name, value in found.items()}


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
