"""Everything about a trial that can be found wrong before it starts, once the data is there."""

from typing import TYPE_CHECKING

from selection.budgets import BudgetError, divide, subset_size
from specs import TrialSpec
from workers.data import ImageData, StreamedSet, TrainingSet, corrupt
from workers.memory import memory_here
from workers.views import BYTES

if TYPE_CHECKING:  # imports torch
    from workers.weights import Weights


class TrialCheckError(ValueError):
    """A trial that cannot run: names the field, its value and what is allowed."""


def check_data(spec: TrialSpec, images: ImageData) -> TrainingSet:
    """Check corruption and budgets against the data. Imports no torch. Raises DataError and TrialCheckError."""
    examples = corrupt(spec.dataset, images, spec.seed)
    chosen = spec.selection
    if spec.needs_size() and chosen.tolerance is None:
        name, value = ("budget", chosen.budget) if chosen.fraction is None else ("fraction", chosen.fraction)
        try:
            size = subset_size(len(examples.ids), fraction=chosen.fraction, budget=chosen.budget)
            if chosen.strategy == "coreset":
                sizes = {label: int((examples.labels == label).sum()) for label in range(len(images.classes))}
                divide(size, sizes, chosen.per_class)
        except BudgetError as error:
            raise TrialCheckError(f"selection.{name} = {value}: {error}") from error
    _check_memory(spec, len(examples.ids))
    if spec.normalization() == "imagenet" and images.image_shape[2] != 3:
        raise TrialCheckError(
            "dataset.normalization = imagenet: needs images of 3 channels; these have "
            f"{images.image_shape[2]}: set dataset.normalization: data"
        )
    return examples


def _check_memory(spec: TrialSpec, n: int) -> None:
    """Refuse more copies than memory holds: their ids and weights, since their images are made batch by batch."""
    chosen, copies = spec.selection, spec.augmentation.copies
    if chosen.strategy == "none":
        return
    known = spec.needs_size() and chosen.tolerance is None and chosen.strategy != "full"
    k = subset_size(n, fraction=chosen.fraction, budget=chosen.budget) if known else n
    needed, there = BYTES * (n + k * copies), memory_here()
    if needed > there:
        raise TrialCheckError(
            f"augmentation.copies = {copies}: {copies:,} copies of {k:,} examples are {k * copies:,} views an epoch, "
            f"whose ids and weights take {_gib(needed)} of memory; there are {_gib(there)}; "
            f"allowed: at most {(there // BYTES - n) // k:,}"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"


def check_model(spec: TrialSpec, images: ImageData, weights: "Weights | None" = None) -> None:
    """Check that model and augmentation can take the images, and the model its pretrained weights.

    Imports torch. Raises TrialCheckError and WeightsError.
    """
    import torch

    from workers.augmentation import check_augmentation
    from workers.models import build_model, check_model, last_linear, takes_one
    from workers.streaming import check_reading
    from workers.weights import WeightsError

    try:
        check_reading(spec.augmentation, streamed=isinstance(images.train, StreamedSet))
        shape = check_augmentation(spec.augmentation, images.image_shape)
    except ValueError as error:
        raise TrialCheckError(f"augmentation.{error}") from error
    try:
        model = build_model(spec.model, len(images.classes), shape, spec.seed, weights)
        check_model(model, shape)
        if spec.selection.strategy == "coreset" and spec.selection.proxy == "last_layer":
            last_linear(model)
    except WeightsError:
        raise
    except ValueError as error:
        raise TrialCheckError(f"model.name = {spec.model.name!r}: {error}") from error
    size, workers = spec.training.batch_size, spec.resources.workers
    height, width, channels = shape
    if size < 2 * workers and not takes_one(model, torch.zeros(1, channels, height, width)):
        raise TrialCheckError(
            f"training.batch_size = {size}: leaves a worker one image, of which batch norm of model.name = "
            f"{spec.model.name!r} sees one value a channel; allowed: at least 2 x resources.workers = {2 * workers}"
        )
