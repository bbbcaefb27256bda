from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_trials import trial

from specs import TrialSpec
from workers.augmentation import Augmenter, LossGuidedCopies, Pool
from workers.batches import Batch, Batches, Step, steps_together
from workers.data import ImageData
from workers.images import Normalizer
from workers.sources import MemorySource, open_source
from workers.views import Views

CPU = torch.device("cpu")
GUIDED = {"strong": [{"name": "loss_guided", "candidates": 3, "kept": 2, "cutout": 3}], "copies": 2}
CHAINS: dict[str, dict[str, Any]] = {
    "policy": {"strong": [{"name": "autoaugment", "policy": "svhn"}]},
    "nothing strong": {"strong": []},
    "highest": GUIDED,
    "proportional": {**GUIDED, "strong": [{**GUIDED["strong"][0], "sampling": "proportional"}]},
}
# two copies of each of ten ids, side by side as shuffling leaves them, in batches that cut some of them apart
VIEWS = Views(np.repeat(np.arange(3, 13), 3), np.tile([0, 1, 2], 10), np.arange(30, dtype=np.float32))
STEPS = [Step(7, np.arange(start, min(start + 7, 30)), False) for start in range(0, 28, 7)]
STEPS += [Step(2, np.array([28]), False), Step(2, np.array([28]), True)]


def mean_grey_level(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return images.float().mean((1, 2, 3)) + targets.argmax(1)


def batches(spec: TrialSpec, images: ImageData, together: int) -> Batches:
    source, labels = open_source(spec, images, CPU), images.train.labels
    assert isinstance(source, MemorySource)
    operation = spec.augmentation.loss_guided()
    guided = None
    if operation is not None:
        pool = Pool(np.arange(len(labels)), labels, 10, source.images.take)
        guided = LossGuidedCopies(operation, spec.augmentation.weak, pool, mean_grey_level)
    strong = Augmenter(() if operation else spec.augmentation.strong, start=len(spec.augmentation.weak))
    return Batches(source, labels, strong, guided, Normalizer.of(spec, images, CPU), together)


def of(spec: TrialSpec, images: ImageData, together: int) -> Iterator[Batch]:
    return batches(spec, images, together).of(VIEWS, STEPS, seed=2, epoch=5)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("together", [2, 4, 100])
def test_the_same_however_many_steps_are_augmented_at_once(chain: str, together: int, images: ImageData) -> None:
    spec = trial(augmentation=CHAINS[chain])
    for one, other in zip(of(spec, images, 1), of(spec, images, together), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.target, other.target)
        assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("together", [1, 3])
def test_labels_and_weights_are_the_views_own(together: int, images: ImageData) -> None:
    for step, batch in zip(STEPS, of(trial(), images, together), strict=True):
        assert batch.target.tolist() == images.train.labels[VIEWS.ids[step.rows]].tolist()
        assert batch.weights.tolist() == ([0.0] if step.idle else VIEWS.weights[step.rows].tolist())
        assert batch.weights.dtype == torch.float32


@pytest.mark.parametrize("together", [1, 3])
def test_copies_differ_from_their_originals_and_from_each_other(together: int, images: ImageData) -> None:
    spec = trial(augmentation={"weak": [], "strong": [{"name": "noise", "epsilon": 16}]})
    normalize = Normalizer.of(spec, images, CPU)
    inputs = torch.cat([batch.inputs for batch in of(spec, images, together)])[:27]  # nine ids
    plain = normalize(torch.from_numpy(images.train.images[VIEWS.ids[:27]]).permute(0, 3, 1, 2))
    same = (inputs == plain).flatten(1).all(1)
    assert same.tolist() == (VIEWS.copies[:27] == 0).tolist()
    assert not (inputs[1::3] == inputs[2::3]).flatten(1).all(1).any()


def test_losses_decide_when_a_batch_is_taken(images: ImageData) -> None:
    spec = trial(augmentation={**GUIDED, "weak": []})
    scored: list[int] = []
    made = batches(spec, images, 100)
    assert made.guided is not None
    made.guided.score = lambda candidates, targets: (
        scored.append(len(candidates)) or mean_grey_level(candidates, targets)
    )
    taken = made.of(VIEWS, STEPS, seed=0, epoch=0)
    next(taken)
    assert scored == [3 * 2]  # of the ids in the first batch that have copies there
    next(taken)
    assert scored == [3 * 2, 3 * 3]


def test_only_images_in_a_gpus_memory_are_augmented_ahead(images: ImageData) -> None:
    source = open_source(trial(), images, CPU)
    assert steps_together(source, CPU, 128) == 1
    assert steps_together(source, torch.device("cuda"), 128) == 16
    assert steps_together(source, torch.device("cuda"), 4096) == 1
