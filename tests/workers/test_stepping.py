from pathlib import Path

import pytest
import torch
from small_trials import left_behind, run, trial
from torch import nn

from workers.batches import Batch
from workers.data import ImageData
from workers.stepping import Stepper
from workers.storage import LocalStorage


def test_gradients_are_of_the_scaled_weighted_sum() -> None:
    model = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    batch = Batch(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    model.weight.grad = torch.full((2, 2), 7.0)  # of the step before
    logits, loss = Stepper(model)(batch, 0.5)
    assert logits.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert loss.item() == pytest.approx(4 * 0.693147, rel=1e-6)
    assert (logits.requires_grad, loss.requires_grad) == (False, False)
    # residuals -+ 1/2 times weight 1 and 3 times the inputs, halved
    assert model.weight.grad.tolist() == [[0.25 * (9 - 1), 0.25 * (12 - 2)], [0.25 * (1 - 9), 0.25 * (2 - 12)]]


def normalizing() -> nn.Sequential:
    """Batch norm and dropout over images of one channel."""
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(3, 2))


def stepped(model: nn.Sequential, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Logits, loss, and what the step leaves: gradients and running statistics."""
    torch.manual_seed(2)
    logits, loss = Stepper(model)(batch, 0.5)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return logits, loss, gradients + [buffer.clone() for buffer in model.buffers()]


def test_one_view_that_batch_norm_refuses_is_put_in_twice() -> None:
    """With half the weight each: of two equal views a mean is the one's."""
    one = Batch(torch.tensor([[[[2.0]]]]), torch.tensor([1]), torch.tensor([3.0]))
    two = Batch(torch.full((2, 1, 1, 1), 2.0), torch.tensor([1, 1]), torch.tensor([1.5, 1.5]))
    alone, doubled = stepped(normalizing(), one), stepped(normalizing(), two)
    assert alone[0].shape == (1, 2)
    assert torch.equal(alone[0], doubled[0][:1])
    assert torch.equal(alone[1], doubled[1])
    assert len(alone[2]) == 9
    assert all(torch.equal(a, b) for a, b in zip(alone[2], doubled[2], strict=True))


def test_one_view_that_batch_norm_takes_is_put_in_once() -> None:
    one = Batch(torch.tensor([[[[2.0], [5.0]]]]), torch.tensor([1]), torch.tensor([3.0]))
    model, by_hand = normalizing(), normalizing()
    _, loss, left = stepped(model, one)
    torch.manual_seed(2)
    expected = 3 * nn.functional.cross_entropy(by_hand(one.inputs), one.target)
    (expected / 2).backward()
    assert torch.equal(loss, expected.detach())
    kept = [*(parameter.grad for parameter in by_hand.parameters()), *by_hand.buffers()]
    assert all(a is not None and torch.equal(a, b) for a, b in zip(kept, left, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("soft", [False, True])
def test_graphs_change_no_result(soft: bool, tmp_path: Path, images: ImageData) -> None:
    copies = {"strong": [{"name": "loss_guided", "candidates": 3, "kept": 2, "cutout": 3}], "copies": 2}
    left = []
    for graphs in (False, True):
        spec = trial(
            model={"name": "small_cnn", "width": 8},
            training={"regime": "full+augmented", "epochs": 3, "batch_size": 16},
            checkpoints={"keep": [2, 3]},
            resources={"gpus": 1, "cuda_graphs": graphs},
            **({"augmentation": copies} if soft else {}),
        )
        storage = LocalStorage(tmp_path / str(graphs))
        run(spec, storage, images, device=torch.device("cuda"))
        left.append({key: data for key, data in left_behind(storage).items() if "result.json" not in key})
    assert left[0] == left[1]
