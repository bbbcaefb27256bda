"""The networks: small ones of our own, the ResNets for small images, and torchvision's classifiers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional

from selection.randomness import stream_seed
from specs.model import OWN_MODELS, Model
from workers.weights import Weights, start_from
from workers.wide_resnet import WideResNet


def build_model(
    model: Model, classes: int, image_shape: tuple[int, int, int], seed: int, weights: Weights | None = None
) -> nn.Module:
    """The network a spec asks for, on the CPU: (b, C, H, W) float images to (b, classes) logits.

    The initial weights are a function of `seed` alone; torch's global generator is left as it was.
    `image_shape`: height, width, channels. torchvision's networks see grey images as RGB with equal channels.
    `weights`: what `model.pretrained` names (`workers.weights.read_weights`), to start from instead of random ones;
    a last layer for another number of classes stays random. Raises WeightsError where they do not fit.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(stream_seed(seed, "initialisation"))
    try:
        network = _build(model, classes, image_shape)
    finally:
        generator.set_state(state)
    if weights is not None:
        linear = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
        start_from(network, linear[-1] if linear else None, weights)
    if model.name in OWN_MODELS or image_shape[2] == 3:
        return network
    return nn.Sequential(GreyToRGB(), network)


def _build(model: Model, classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    if model.name in OWN_MODELS:
        return _BUILDERS[model.name](model, classes, image_shape)
    network: nn.Module = torchvision.models.get_model(model.name, weights=None, num_classes=classes)
    if model.stem == "small":
        _shrink_stem(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size not in (1, (1, 1)):
            network.set_submodule(name, DeterministicPool(layer.output_size))  # VGG's 7x7, AlexNet's 6x6
    return network


def check_model(module: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """Try the network on two black images of this shape (height, width, channels).

    Raises ValueError where it cannot take them: where pooling shrinks them to nothing, say, or where the network
    is made for one size. Parameters, statistics and mode are left as they were.
    """
    height, width, channels = image_shape
    parameter = next(module.parameters())
    images = torch.zeros(2, channels, height, width, device=parameter.device, dtype=parameter.dtype)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            module(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"cannot take images of {width}x{height} pixels with {channels} channel(s): {error}; "
            "use another model, or set dataset.image_size"
        ) from error
    finally:
        module.train(training)


def takes_one(module: nn.Module, image: torch.Tensor) -> bool:
    """Whether a network can be trained on one image (1, C, H, W): batch norm needs two values a channel.

    One forward pass, where there is batch norm; statistics and random streams are left as they were. `module` may
    be under DDP: its other processes are not asked.
    """
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules()):
        return True
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        with torch.no_grad(), torch.random.fork_rng([image.device] if image.is_cuda else []):
            module(image)
    except ValueError:
        return False
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)
    return True


def last_linear(module: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits. Raises ValueError for networks that end otherwise (squeezenet)."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ValueError("the network does not end in a linear layer, which selection.proxy: last_layer needs")
    return linear[-1]


class LastInput:
    """Sees what the last linear layer is given in each forward pass, until it is closed.

    Only the latest is kept, without its graph: O(b D) memory beyond what the pass itself holds.
    """

    def __init__(self, module: nn.Module):
        self._latest: torch.Tensor | None = None
        self._hook = last_linear(module).register_forward_pre_hook(self._see)

    def _see(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._latest = arguments[0].detach()

    def take(self) -> torch.Tensor:
        """The latest forward pass's (b, D), as a copy: of a transformer it is a slice that would keep all tokens."""
        assert self._latest is not None, "the network was not run"
        latest, self._latest = self._latest.clone(), None
        return latest

    def close(self) -> None:
        """See no more."""
        self._hook.remove()


class GreyToRGB(nn.Module):
    """One channel to three equal ones."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.expand(-1, 3, -1, -1)


class DeterministicPool(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling as VGG and AlexNet have it, whose gradient torch has no deterministic GPU kernel for.

    Where only such kernels are to be used, it is two products with the matrices of the means.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if features.is_cuda and torch.are_deterministic_algorithms_enabled():
            return self.by_products(features)
        return super().forward(features)

    def by_products(self, features: torch.Tensor) -> torch.Tensor:
        """The means of (b, C, H, W), (b, C, *output_size): the same but for the order of summing."""
        assert isinstance(self.output_size, tuple)
        height, width = (size or 0 for size in self.output_size)
        rows, columns = _means(features.shape[2], height, features), _means(features.shape[3], width, features)
        return torch.matmul(torch.matmul(rows, features), columns.T)


def _means(size: int, windows: int, like: torch.Tensor) -> torch.Tensor:
    """(windows, size): in each row equal weights for window i, from floor(i s / w) to ceil((i + 1) s / w)."""
    weights = np.zeros((windows, size))
    for window in range(windows):
        start, end = window * size // windows, -(-(window + 1) * size // windows)
        weights[window, start:end] = 1 / (end - start)
    return torch.as_tensor(weights, dtype=like.dtype, device=like.device)


class CifarResNet(nn.Module):
    """ResNet of 6m+2 layers for small images (He et al., 2016, Section 4.2), with shortcuts of option A.

    m blocks at each of 16, 32 and 64 channels; Kaiming initialisation.
    """

    def __init__(self, blocks: int, channels: int, classes: int):
        super().__init__()
        widths = [16] * blocks + [32] * blocks + [64] * blocks
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*map(_ResidualBlock, [16, *widths], widths))
        self.classifier = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.blocks(functional.relu(self.norm(self.stem(images))))
        logits: torch.Tensor = self.classifier(features.mean((2, 3)))
        return logits


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters; more channels come with half the resolution."""

    def __init__(self, narrow: int, wide: int):
        super().__init__()
        self.stride = 2 if wide > narrow else 1
        self.padding = (wide - narrow) // 2
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        shortcut = features
        if self.stride > 1:
            strided = features[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(strided, (0, 0, 0, 0, self.padding, self.padding))
        residual = functional.relu(self.norm1(self.conv1(features)))
        return functional.relu(self.norm2(self.conv2(residual)) + shortcut)


def _shrink_stem(network: nn.Module) -> None:
    """A 3x3 convolution of stride 1 and no pooling, for small images (He et al., 2016, Section 4.2)."""
    wide: nn.Conv2d = network.get_submodule("conv1")  # type: ignore[assignment]
    small = nn.Conv2d(wide.in_channels, wide.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")  # as torchvision initialises its own
    network.set_submodule("conv1", small)
    network.set_submodule("maxpool", nn.Identity())


_Shape = tuple[int, int, int]


def _mlp(model: Model, classes: int, image_shape: _Shape) -> nn.Module:
    height, breadth, channels = image_shape
    hidden = model.width or 128
    return nn.Sequential(
        nn.Flatten(), nn.Linear(height * breadth * channels, hidden), nn.ReLU(), nn.Linear(hidden, classes)
    )


def _small_cnn(model: Model, classes: int, image_shape: _Shape) -> nn.Module:
    """Three blocks of convolution, batch norm and ReLU, the first two pooled: 8x8 images end as 2x2."""
    first = model.width or 16
    layers: list[nn.Module] = []
    channels = image_shape[2]
    for block, wide in enumerate((first, 2 * first, 4 * first)):
        layers += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        if block < 2:
            layers.append(nn.MaxPool2d(2))
        channels = wide
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _resnet(depth: int) -> Callable[[Model, int, _Shape], nn.Module]:
    return lambda _, classes, image_shape: CifarResNet((depth - 2) // 6, image_shape[2], classes)


def _wrn28_10(model: Model, classes: int, image_shape: _Shape) -> nn.Module:
    return WideResNet(28, 10, image_shape[2], classes, model.dropout)


_BUILDERS: dict[str, Callable[[Model, int, _Shape], nn.Module]] = {
    "mlp": _mlp,
    "small_cnn": _small_cnn,
    "resnet8": _resnet(8),
    "resnet20": _resnet(20),
    "resnet32": _resnet(32),
    "wrn28_10": _wrn28_10,
}
