"""The Jacobian against other ways to the same numbers, and its chunks against the whole."""

import pytest
import torch
from torch import nn

from orchestrator.analysis.jacobian import Jacobian, MemoryBudgetError, Plan
from specs.model import Model
from workers.models import build_model

WHOLE = Plan(columns=10**6, examples=10**6)


def network(name: str = "small_cnn", width: int | None = 2, side: int = 6) -> nn.Module:
    """A small network with statistics that are not those of the start."""
    module = build_model(Model(name=name, width=width), 3, (side, side, 1), seed=1).double()
    torch.manual_seed(2)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.randn(layer.num_features, dtype=torch.float64) / 4
            layer.running_var = torch.rand(layer.num_features, dtype=torch.float64) + 0.5
    return module.eval()


def inputs(count: int = 5, side: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def whole(module: nn.Module, images: torch.Tensor, plan: Plan = WHOLE) -> torch.Tensor:
    return torch.cat(list(Jacobian(module).slabs(images, plan)), dim=1)


def test_a_row_is_one_output_of_one_example_and_columns_go_by_parameter() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double().eval()
    images = inputs(3, side=2)
    found = whole(module, images)
    assert found.shape == (6, 10)
    for example, pixels in enumerate(images.flatten(1)):
        for output in range(2):
            expected = torch.zeros(10, dtype=torch.float64)
            expected[4 * output : 4 * output + 4] = pixels
            expected[8 + output] = 1
            assert torch.equal(found[2 * example + output], expected)


@pytest.mark.parametrize(("name", "width", "side"), [("mlp", 4, 6), ("small_cnn", 2, 6), ("resnet8", None, 8)])
def test_equals_backward_passes_of_each_logit(name: str, width: int | None, side: int) -> None:
    module, images = network(name, width, side), inputs(2, side)
    rows = []
    for image in images:
        logits = module(image[None])[0]
        for logit in logits:
            gradients = torch.autograd.grad(logit, list(module.parameters()), retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    expected = torch.stack(rows)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(whole(module, images), expected, rtol=1e-11, atol=1e-12)


def test_equals_finite_differences() -> None:
    module, images = network(), inputs()
    found = whole(module, images)
    step, column = 1e-6, 0
    with torch.no_grad():
        for parameter in module.parameters():
            flat = parameter.view(-1)
            for entry in range(0, len(flat), 1 + len(flat) // 8):
                before = flat[entry].item()
                flat[entry] = before + step
                above = module(images).flatten()
                flat[entry] = before - step
                below = module(images).flatten()
                flat[entry] = before
                slope = (above - below) / (2 * step)
                torch.testing.assert_close(found[:, column + entry], slope, rtol=1e-6, atol=1e-7)
            column += len(flat)
    assert column == found.shape[1]


@pytest.mark.parametrize(("columns", "examples"), [(1, 2), (7, 1), (50, 3), (64, 5), (10**6, 2)])
def test_slabs_and_chunks_have_no_effect(columns: int, examples: int) -> None:
    module, images = network("mlp", 3), inputs()
    expected = whole(module, images)
    slabs = list(Jacobian(module).slabs(images, Plan(columns, examples)))
    assert all(slab.shape[1] == columns for slab in slabs[:-1])
    torch.testing.assert_close(torch.cat(slabs, dim=1), expected, rtol=1e-13, atol=1e-14)


def test_an_example_has_the_same_rows_in_any_company() -> None:
    module, images = network(), inputs()
    torch.testing.assert_close(whole(module, images)[6:9], whole(module, images[2:3]), rtol=1e-12, atol=1e-14)


def test_the_network_is_left_as_it_was() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    whole(module, inputs())
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_less_memory_means_smaller_pieces_down_to_a_least() -> None:
    jacobian, sample = Jacobian(network("mlp", 40)), inputs(1)
    assert jacobian.columns == 36 * 40 + 40 + 40 * 3 + 3
    ample, tight = (jacobian.plan(sample, 60, memory) for memory in (10**9, 500_000))
    assert ample.columns == jacobian.columns
    assert ample.examples > 100
    assert 15 <= tight.columns < jacobian.columns
    assert 1 <= tight.examples < ample.examples
    with pytest.raises(MemoryBudgetError, match=r"60 rows .* 1,603 columns needs at least .* GB; got 0\.0001 GB"):
        jacobian.plan(sample, 60, 100_000)


def test_a_plan_leaves_room_for_the_gradients_of_one_example() -> None:
    memory = 2_000_000
    plan = Jacobian(network("resnet8", None)).plan(inputs(1, side=6), 6, memory)
    assert plan.examples >= 1
    assert plan.examples * 3 * 2 * plan.columns * 8 <= memory / 4
