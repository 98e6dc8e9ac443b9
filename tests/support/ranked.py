"""DeepCloak's own ranking, computed anew in NumPy, against what `harden` masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.data import split
from cloakify.graph.edit.mask import InstalledMask, find_mask
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

Doubles = NDArray[np.float64]


def hardened_by_ranking(
    source: Path,
    features: Callable[[Doubles], Doubles],
    slope: Callable[[Doubles, NDArray[np.int64]], Doubles],
    eps: float,
) -> tuple[ModelProto, InstalledMask]:
    """Harden a model beside its ``data.npz``; assert that FGSM's ranking is masked, and proven.

    Parameters
    ----------
    features, slope
        What the head reads of samples, and the gradient of the loss with their labels.
    """
    setting = HardenSetting(
        eps=eps, mask_ratio=0.3, score="deepcloak", device="cpu", evaluation_steps=2,
        accept_accuracy=True,
    )  # fmt: skip
    out = source.with_name("hardened.onnx")
    result = harden(source, source.with_name("data.npz"), out, setting)
    with np.load(source.with_name("data.npz")) as data:
        x, y = data["x"].astype(np.float64), data["y"]
    fit = split(len(y), y, 0).fit
    attacked = np.clip(x[fit] + eps * np.sign(slope(x[fit], y[fit])), 0, 1)
    shift = np.abs(features(attacked) - features(x[fit])).sum(axis=0)
    expected = sorted(np.argsort(-shift, kind="stable")[: int(0.3 * len(shift))].tolist())
    assert sorted(result.report.mask.indices) == expected
    hardened = onnx.load(out)
    installed = find_mask(hardened)
    assert installed is not None
    assert np.flatnonzero(installed.values == 0).tolist() == expected
    assert verify(out, source, "cpu").faults == ()
    return hardened, installed
