"""Import torchvision beside a torch that its compiled operators do not load with.

A torchvision built for CUDA finds no library to load beside torch's CPU wheel, and its Python part
then fails on import: it registers shapes for operators that do not exist. No classifier uses them,
so their names are declared here, without an implementation.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import pytest

_MISSING = ("nms", "qnms")
# Declarations live as long as the object that made them.
_declared: list[Any] = []


def torchvision() -> ModuleType:
    """Return torchvision, or skip where there is none."""
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        pytest.skip(f"torchvision is not installed: {error}")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _MISSING:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")
