"""What a calibration can't be made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify import HardenSetting, harden
from cloakify.errors import DataError


@pytest.mark.parametrize("score", ["deepcloak", "auto"])
def test_features_that_overflow_under_attack_are_told(tmp_path: Path, score: str) -> None:
    """e^(200 (x - 1/2)) is a number on clean samples, and beyond float32 where x is moved up."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, 4] x) => (float[N, 2] y)
        <float half = {0.5}, float steep = {200},
         float[4, 2] w = {1, -1, 1, -1, -1, 1, -1, 1}, float[2] b = {0, 0}>
        {
            moved = Sub (x, half)
            scaled = Mul (moved, steep)
            f = Exp (scaled)
            y = Gemm (f, w, b)
        }"""
    )
    path, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    path.write_bytes(model.SerializeToString())
    y = np.arange(80) % 2
    x = 0.5 + 0.01 * np.stack([1 - 2 * y, 1 - 2 * y, 2 * y - 1, 2 * y - 1], axis=1)
    np.savez(data, x=(x + 1e-5 * np.arange(80)[:, None]).astype(np.float32), y=y)
    output = tmp_path / "h.onnx"
    setting = HardenSetting(eps=0.49, score=score, device="cpu", evaluation_steps=2)
    with pytest.raises(DataError, match="of 40 samples none has features and logits that are"):
        harden(path, data, output, setting)
    assert not output.exists()
