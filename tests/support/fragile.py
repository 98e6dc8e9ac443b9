"""A classifier that leans on a fragile sign, and data in which a firmer one is there to be used.

Of eight values in [0, 1], the first tells the class by ±0.3 but lies in one sample of ten; the
others tell it by ±0.03 and never lie. The source listens to the others, so that a budget of 0.06
turns every answer; one gate for each value is enough to mend that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

EPS = 0.06


def fragile_model() -> ModelProto:
    """x [N, 8] -> hidden [N, 8] (gated) -> logits [N, 2]."""
    toward = np.array([6.0, *[10.0] * 7], np.float32)
    head = np.stack([-toward, toward], axis=1)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,8] x) => (float[N,2] logits)
        {
            hidden = Gemm (x, w1, b1)
            active = Tanh (hidden)
            logits = Gemm (active, w2, b2)
        }"""
    )
    constants = {"w1": np.eye(8), "b1": np.full(8, -0.5), "w2": head, "b2": np.zeros(2)}
    for name, values in constants.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    return model


def fragile_images(size: str = "1, 2, 4") -> ModelProto:
    """Return the same for values that are the positions of an image: one channel holds them all."""
    values = fragile_model()
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, {size}] x) => (float[N,2] logits)
        <float[1, 1, 1, 1] w1 = {{1.0}}, float[1] b1 = {{-0.5}}>
        {{
            hidden = Conv (x, w1, b1)
            active = Tanh (hidden)
            features = Flatten (active)
            logits = Gemm (features, w2, b2)
        }}"""
    )
    model.graph.initializer.extend(values.graph.initializer[2:])
    return model


def write_fragile(
    folder: Path, samples: int = 240, seed: int = 0, *, images: bool = False
) -> tuple[Path, Path]:
    """Write model and data; return their paths."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % 2
    sign = 2.0 * y[:, None] - 1
    lies = np.where(rng.random((samples, 1)) < 0.1, -1, 1)
    x = np.concatenate([0.5 + 0.3 * sign * lies, 0.5 + 0.03 * sign.repeat(7, axis=1)], axis=1)
    x += rng.uniform(-0.005, 0.005, x.shape)
    model, data = folder / "fragile.onnx", folder / "data.npz"
    made = fragile_images() if images else fragile_model()
    model.write_bytes(made.SerializeToString())
    x = x.reshape(-1, 1, 2, 4) if images else x
    np.savez(data, x=x.astype(np.float32), y=y.astype(np.int64))
    return model, data
