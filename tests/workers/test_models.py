"""Networks: shapes, sizes, seeded initialisation, and the last linear layer."""

import pytest
import torch
import torchvision
from torch import nn

from specs.model import OWN_MODELS, TORCHVISION_CLASSIFIERS, Model
from workers.models import build_model, check_model, last_linear

COLOUR, GREY = (32, 32, 3), (8, 8, 1)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_specs_know_torchvisions_classifiers() -> None:
    theirs = set(torchvision.models.list_models(module=torchvision.models))
    assert set(TORCHVISION_CLASSIFIERS) == theirs - {"inception_v3", "googlenet"}


@pytest.mark.parametrize("name", [*OWN_MODELS, "resnet18"])
@pytest.mark.parametrize("shape", [COLOUR, GREY], ids=["colour", "grey"])
def test_logits_and_gradients(name: str, shape: tuple[int, int, int]) -> None:
    module = build_model(Model(name=name), 7, shape, seed=0)
    images = torch.randn(3, shape[2], *shape[:2]).contiguous(memory_format=torch.channels_last)
    logits = module(images)
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "width", "shape", "count"),
    [
        ("resnet8", None, COLOUR, 75_290),
        ("resnet20", None, COLOUR, 269_722),  # "0.27M" (He et al., 2016, Table 6)
        ("resnet32", None, COLOUR, 464_154),  # "0.46M"
        ("wrn28_10", None, COLOUR, 36_479_194),  # "36.5M" (Zagoruyko and Komodakis, 2016, Table 4)
        ("mlp", None, GREY, 64 * 128 + 128 + 128 * 10 + 10),
        ("mlp", 5, COLOUR, 3072 * 5 + 5 + 5 * 10 + 10),
        ("small_cnn", 4, GREY, 9 * (4 + 4 * 8 + 8 * 16) + 2 * (4 + 8 + 16) + 16 * 10 + 10),
    ],
)
def test_size(name: str, width: int | None, shape: tuple[int, int, int], count: int) -> None:
    assert parameters(build_model(Model(name=name, width=width), 10, shape, seed=0)) == count


def test_the_shortcut_is_option_a() -> None:
    """With residuals of zero, a block that widens subsamples, and pads its channels with zeros on both sides."""
    module = build_model(Model(name="resnet8"), 10, COLOUR, seed=0)
    block = module.get_submodule("blocks.1").eval()
    nn.init.zeros_(block.get_parameter("norm2.weight"))
    features = torch.rand(2, 16, 8, 8)
    after = block(features)
    assert after.shape == (2, 32, 4, 4)
    assert torch.equal(after[:, 8:24], features[:, :, ::2, ::2])
    assert after[:, :8].abs().max() == after[:, 24:].abs().max() == 0


@pytest.mark.parametrize("name", [*OWN_MODELS, "resnet18"])
def test_initialisation_is_a_function_of_the_seed(name: str) -> None:
    def state(seed: int) -> torch.Tensor:
        return nn.utils.parameters_to_vector(build_model(Model(name=name), 10, COLOUR, seed).parameters())

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = state(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(state(0), first)
    assert not torch.equal(state(1), first)


def gives_logits(module: nn.Module, images: torch.Tensor) -> bool:
    """Whether the output of the last linear layer is the network's own."""
    seen: list[torch.Tensor] = []
    last_linear(module).register_forward_hook(lambda layer, inputs, output: seen.append(output))
    logits = module.eval()(images)
    return len(seen) == 1 and seen[0] is logits and logits.shape == (2, 7)


@pytest.mark.parametrize("name", [*OWN_MODELS, "resnet18", "regnet_y_400mf"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_last_linear_layer_gives_the_logits(name: str, channels: int) -> None:
    module = build_model(Model(name=name), 7, (32, 32, channels), seed=0)
    assert gives_logits(module, torch.randn(2, channels, 32, 32))


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "maxvit_t",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "swin_t",
        "swin_v2_t",
        "vgg11",
        "vgg11_bn",
        "vit_b_32",
        "wide_resnet50_2",
    ],
)
def test_so_it_does_in_every_family_of_torchvisions(name: str) -> None:
    with torch.device("meta"):  # shapes alone: no weights to draw, nothing to compute
        module = build_model(Model(name=name), 7, (224, 224, 3), seed=0)
        assert gives_logits(module, torch.zeros(2, 3, 224, 224))


def test_a_network_that_ends_otherwise_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end in a linear layer"):
        last_linear(build_model(Model(name="squeezenet1_1"), 7, COLOUR, seed=0))


class TestCheck:
    @pytest.mark.parametrize("name", [*OWN_MODELS, "resnet18"])
    @pytest.mark.parametrize("training", [True, False])
    def test_passes_and_leaves_everything_as_it_was(self, name: str, training: bool) -> None:
        module = build_model(Model(name=name), 10, GREY, seed=0).train(training)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        check_model(module, GREY)
        assert module.training is training
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())

    @pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_32", "maxvit_t"])
    def test_an_image_size_that_does_not_fit_is_refused(self, name: str) -> None:
        shape = (8, 8, 3)
        with torch.device("meta"):
            module = build_model(Model(name=name), 10, shape, seed=0)
        with pytest.raises(ValueError, match=r"cannot take images of 8x8 pixels with 3 channel.*image_size"):
            check_model(module, shape)
