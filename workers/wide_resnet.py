"""WideResNet for small images (Zagoruyko and Komodakis, 2016)."""

import torch
from torch import nn
from torch.nn import functional


class WideResNet(nn.Module):
    """WRN-`depth`-`factor`: three groups of (depth - 4) / 6 blocks at 16, 32 and 64 times `factor` channels.

    The later two groups halve the resolution. Convolutions have no biases; Kaiming initialisation.
    """

    def __init__(self, depth: int, factor: int, channels: int, classes: int, dropout: float = 0.0):
        super().__init__()
        each = (depth - 4) // 6
        widths = [width * factor for width in (16, 32, 64) for _ in range(each)]
        strides = [2 if block in (each, 2 * each) else 1 for block in range(3 * each)]
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        shapes = zip([16, *widths[:-1]], widths, strides, strict=True)
        self.blocks = nn.Sequential(*(_Block(narrow, wide, stride, dropout) for narrow, wide, stride in shapes))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = functional.relu(self.norm(self.blocks(self.stem(images))))
        logits: torch.Tensor = self.classifier(features.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Norm and ReLU before each of two 3x3 convolutions; where the shape changes, the shortcut is a 1x1 convolution."""

    def __init__(self, narrow: int, wide: int, stride: int, dropout: float):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(narrow)
        self.conv1 = nn.Conv2d(narrow, wide, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(wide)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        same = narrow == wide and stride == 1
        self.shortcut = None if same else nn.Conv2d(narrow, wide, 1, stride=stride, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        active = functional.relu(self.norm1(features))
        shortcut = features if self.shortcut is None else self.shortcut(active)
        residual = self.dropout(functional.relu(self.norm2(self.conv1(active))))
        return shortcut + self.conv2(residual)
