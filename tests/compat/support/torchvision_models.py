"""Every classifier of torchvision, smallest first, at the smallest input that it takes."""

from __future__ import annotations

from typing import Any

import torch

from tests.compat.support.oracle import randomise, seed_of
from tests.compat.support.torchvision_ops import torchvision

# By the start of the name. Fixed grids of windows or positions, and poolings that must divide.
_SIZES = {
    "alexnet": 224,
    "inception_v3": 96,
    "maxvit": 224,
    "vgg": 224,
    "vit_b_16": 32,
    "vit_l_16": 32,
    "vit_h_14": 28,
}
_DEFAULT_SIZE = 64

# Both of PyTorch's exporters write these; one of each kind of block.
BY_DYNAMO = (
    "squeezenet1_1",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "regnet_y_400mf",
    "googlenet",
    "densenet121",
    "resnet18",
    "resnext50_32x4d",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
)


def names() -> list[str]:
    """Return all classifiers of the installed torchvision, fewest parameters first."""
    models = torchvision().models
    return sorted(
        models.list_models(module=models),
        key=lambda name: models.get_model_weights(name).DEFAULT.meta["num_params"],
    )


def parameters(name: str) -> int:
    """Return how many parameters the model has, without making it."""
    return torchvision().models.get_model_weights(name).DEFAULT.meta["num_params"]


def make(name: str) -> tuple[Any, int]:
    """Return a model with random weights, and the side of its input."""
    size = next((s for start, s in _SIZES.items() if name.startswith(start)), _DEFAULT_SIZE)
    options: dict[str, Any] = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        # Their own initialisation draws from a truncated normal by way of scipy, in minutes.
        options = {"init_weights": False}
    torch.manual_seed(seed_of(name))
    model = torchvision().models.get_model(name, weights=None, **options)
    return randomise(model, seed_of(name)), size
