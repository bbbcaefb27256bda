"""Networks: shapes, sizes, seeded initialisation, and the last linear layer."""

import pytest
import torch
import torchvision
from torch import nn

from specs.model import OWN_MODELS, RESNETS, TORCHVISION_CLASSIFIERS, Model
from workers.models import DeterministicPool, LastInput, build_model, check_model, last_linear
from workers.wide_resnet import WideResNet

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


@pytest.mark.parametrize(
    ("name", "stem", "count"),
    [
        ("resnet18", "standard", 11_689_512),  # torchvision's documentation of its weights
        ("resnet50", "standard", 25_557_032),
        ("resnet18", "small", 11_689_512 - 64 * 3 * (49 - 9)),
    ],
)
def test_size_of_torchvisions(name: str, stem: str, count: int) -> None:
    with torch.device("meta"):
        module = build_model(Model(name=name, stem=stem), 1000, (64, 64, 3), seed=0)  # type: ignore[arg-type]
    assert parameters(module) == count


@pytest.mark.parametrize("name", RESNETS)
@pytest.mark.parametrize(("stem", "size"), [("standard", 2), ("small", 8)])
def test_a_small_stem_keeps_the_resolution(name: str, stem: str, size: int) -> None:
    with torch.device("meta"):
        module = build_model(Model(name=name, stem=stem), 7, (64, 64, 3), seed=0)  # type: ignore[arg-type]
        seen: list[torch.Size] = []
        module.get_submodule("avgpool").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
        assert module(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert [tuple(shape[2:]) for shape in seen] == [(size, size)]


def test_a_small_stem_is_initialised_from_the_seed() -> None:
    stems = [build_model(Model(name="resnet18", stem="small"), 7, COLOUR, seed).conv1.weight for seed in (0, 0, 1)]
    assert torch.equal(stems[0], stems[1])  # type: ignore[arg-type]
    assert not torch.equal(stems[0], stems[2])  # type: ignore[arg-type]


class TestWideResNet:
    def test_groups_have_the_papers_shapes(self) -> None:
        with torch.device("meta"):
            module = build_model(Model(name="wrn28_10"), 10, COLOUR, seed=0)
            seen: list[tuple[int, ...]] = []
            for block in module.get_submodule("blocks").children():
                block.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[1:])))
            module(torch.zeros(2, 3, 32, 32))
        assert seen == [(160, 32, 32)] * 4 + [(320, 16, 16)] * 4 + [(640, 8, 8)] * 4
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        shortcuts = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)]
        assert (len(layers) - len(shortcuts), len(shortcuts)) == (
            1 + 2 * 12 + 1,
            3,
        )  # the paper's 28 counts the 1x1 too

    def test_a_block_without_residual_passes_its_input_on(self) -> None:
        block = WideResNet(16, 1, 3, 10).get_submodule("blocks.0").eval()
        features = torch.randn(2, 16, 4, 4)
        nn.init.zeros_(block.get_parameter("conv2.weight"))
        assert torch.equal(block(features), features)

    def test_dropout_acts_in_training_alone(self) -> None:
        images = torch.randn(2, 3, 8, 8)
        plain, dropping = (WideResNet(10, 1, 3, 10, dropout) for dropout in (0.0, 0.5))
        dropping.load_state_dict(plain.state_dict())
        assert torch.equal(plain.eval()(images), dropping.eval()(images))
        assert torch.equal(plain.train()(images), plain(images))
        assert not torch.equal(dropping.train()(images), dropping(images))


def gives_logits(module: nn.Module, images: torch.Tensor) -> bool:
    """Whether the output of the last linear layer is the network's own, and its input is kept without all else."""
    seen: list[torch.Tensor] = []
    layer = last_linear(module)
    hook = layer.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    last = LastInput(module)
    logits = module.eval()(images)
    hook.remove()
    last.close()
    embeddings = last.take()
    bytes_kept = embeddings.untyped_storage().nbytes()
    alone = embeddings.grad_fn is None and bytes_kept == embeddings.numel() * embeddings.element_size()
    free = not any(layer._forward_pre_hooks for layer in module.modules())
    shapes = logits.shape == (2, 7) and embeddings.shape == (2, layer.in_features)
    return len(seen) == 1 and seen[0] is logits and shapes and alone and free


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


@pytest.mark.parametrize("name", ["vgg11", "alexnet"])
def test_pooling_that_torch_cannot_do_deterministically_on_a_gpu_is_ours(name: str) -> None:
    with torch.device("meta"):
        module = build_model(Model(name=name), 10, COLOUR, seed=0)
    pools = [layer for layer in module.modules() if isinstance(layer, torch.nn.AdaptiveAvgPool2d)]
    assert [type(pool) for pool in pools] == [DeterministicPool]


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (2, 9), (10, 20)])
def test_pooling_by_products_is_pooling(size: tuple[int, int]) -> None:
    features = torch.rand(2, 3, *size, dtype=torch.float64, requires_grad=True)
    pool, weights = DeterministicPool((7, 6)), torch.rand(2, 3, 7, 6, dtype=torch.float64)
    given = [torch.autograd.grad((way(features) * weights).sum(), features)[0] for way in (pool, pool.by_products)]
    torch.testing.assert_close(pool.by_products(features), pool(features))
    torch.testing.assert_close(*given)


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
