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
