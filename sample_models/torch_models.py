"""The residual network behind the PyTorch sample models, and its weights without pickle.

``fashion_pooled`` averages the last 64 channels over the image and has 64 features;
``fashion_wide`` flattens them and has 64 x 7 x 7 = 3,136. The convolutions have 224 output channels
in all and take 7.3 million multiplications a sample.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

Features = Literal["pooled", "wide"]


class ConvNorm(nn.Sequential):
    """A 3x3 convolution without bias, then batch normalisation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
        )


class Stage(nn.Module):
    """Change width and resolution, then add a residual: h = relu(f(x)), out = relu(h + g(h))."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.enter = ConvNorm(channels_in, channels_out, stride)
        self.residual = ConvNorm(channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.enter(x))
        return torch.relu(h + self.residual(h))


class FashionNet(nn.Module):
    """Three stages, at 28x28, 14x14 and 7x7, then one linear layer.

    Takes float32 [batch, 1, 28, 28] in [0, 1]; gives logits [batch, 10].
    """

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.stage1 = Stage(1, 16, stride=1)
        self.stage2 = Stage(16, 32, stride=2)
        self.stage3 = Stage(32, 64, stride=2)
        self.pooled = features == "pooled"
        self.head = nn.Linear(64 if self.pooled else 64 * 7 * 7, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stage3(self.stage2(self.stage1(x)))
        return self.head(h.mean((2, 3)) if self.pooled else h.flatten(1))


def save_weights(model: nn.Module, path: Path) -> None:
    """Write every parameter and running statistic to an ``.npz``, keyed by its torch name."""
    np.savez_compressed(path, **{name: t.numpy() for name, t in model.state_dict().items()})


def load_model(path: Path, features: Features) -> FashionNet:
    """Rebuild a trained network, in evaluation mode, from what `save_weights` wrote."""
    model = FashionNet(features)
    with np.load(path, allow_pickle=False) as weights:
        model.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    return model.eval()
