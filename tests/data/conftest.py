"""Small inputs, image folders and arrays that the tests of the data package share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloakify.graph.analysis.inputs import InputSpec


@pytest.fixture(scope="session")
def spec() -> Callable[..., InputSpec]:
    """`spec(1, 8, 8)` is an NCHW input named ``input``, unless told otherwise."""

    def make(
        *sample: int | None, channel_axis: int | None = 1, dtype: str = "float32"
    ) -> InputSpec:
        return InputSpec("input", (None, *sample), np.dtype(dtype), channel_axis)

    return make


@pytest.fixture(scope="session")
def pixels() -> Callable[..., np.ndarray]:
    """`pixels(n, h, w)` or `pixels(n, h, w, 3)`: random uint8 images, the same at every call."""

    def make(*shape: int) -> np.ndarray:
        return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)

    return make


@pytest.fixture
def class_folder(tmp_path: Path) -> Callable[..., Path]:
    """`class_folder({"cat": images, "dog": images})` writes PNG files in class folders."""

    def make(classes: dict[str, np.ndarray], name: str = "calib") -> Path:
        for label, images in classes.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(folder / f"{number:03}.png")
        return tmp_path / name

    return make
