"""The pooled sample model as a target, and a few of its samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cloakify.attacks import Target
from cloakify.onnxfile import open_model
from tests.support.classifiers import target_of

Samples = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]


@pytest.fixture(scope="session")
def pooled(samples: Path) -> Target:
    return target_of(open_model(samples / "fashion_pooled.onnx").load_weights(), batch_size=16)


@pytest.fixture(scope="session")
def few(samples: Path) -> Samples:
    """x, y and index of samples from all over the test set."""
    with np.load(samples / "test.npz", allow_pickle=False) as arrays:
        index = np.arange(0, 2000, 170)
        return arrays["x"][index], arrays["y"][index], index
