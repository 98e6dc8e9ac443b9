"""One classifier for each family (module) of timm: its smallest, at the smallest input it takes."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from tests.compat.support.oracle import randomise, seed_of
from tests.compat.support.torchvision_ops import torchvision

_DEFAULT_SIZE = 64

FAMILIES: dict[str, tuple[str, int]] = {}


def timm() -> ModuleType:
    """Return timm, or skip where there is none."""
    torchvision()
    return pytest.importorskip("timm", reason="timm is not installed")


def families() -> list[str]:
    """Return all families of the installed timm."""
    return timm().list_modules()


def make(family: str) -> tuple[Any, int]:
    """Return a model with random weights, and the side of its input."""
    if family not in FAMILIES:
        pytest.skip("no model of this family is listed")
    name, size = FAMILIES[family]
    torch.manual_seed(seed_of(name))
    try:
        model = timm().create_model(name, img_size=size)
    except TypeError:
        # Convolutional families take every size, and no argument for it.
        model = timm().create_model(name)
    return randomise(model, seed_of(name)), size
