"""Everything about a trial that can be found wrong before it starts, once the data is there."""

from typing import TYPE_CHECKING

from selection.budgets import BudgetError, divide, subset_size
from specs import TrialSpec
from workers.data import ImageData, TrainingSet, corrupt

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
    return examples


def check_model(spec: TrialSpec, images: ImageData, weights: "Weights | None" = None) -> None:
    """Check that model and augmentation can take the images, and the model its pretrained weights.

    Imports torch. Raises TrialCheckError and WeightsError.
    """
    from workers.augmentation import check_operations
    from workers.models import build_model, check_model, last_linear
    from workers.weights import WeightsError

    shape = images.image_shape
    for name, operations in (("weak", spec.augmentation.weak), ("strong", spec.augmentation.strong)):
        try:
            check_operations(operations, shape)
        except ValueError as error:
            raise TrialCheckError(f"augmentation.{name}: {error}") from error
    try:
        model = build_model(spec.model, len(images.classes), shape, spec.seed, weights)
        check_model(model, shape)
        if spec.selection.strategy == "coreset" and spec.selection.proxy == "last_layer":
            last_linear(model)
    except WeightsError:
        raise
    except ValueError as error:
        raise TrialCheckError(f"model.name = {spec.model.name!r}: {error}") from error
