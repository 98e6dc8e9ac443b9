"""Rules of ONNX Runtime's own operators: each has the gradient of the graph it stands for."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.support.gradcheck import gradient_model

PAIRS = {
    "Gelu": ("y = com.microsoft.Gelu(x)", "y = Gelu(x)"),
    "QuickGelu": (
        "y = com.microsoft.QuickGelu<alpha: float = 1.5>(x)",
        "k = Constant<value_float: float = 1.5>() u = Mul(x, k) t = Sigmoid(u) y = Mul(x, t)",
    ),
    "BiasGelu": ("y = com.microsoft.BiasGelu(x, b)", "t = Add(x, b) y = Gelu(t)"),
    "FastGelu": (
        "y = com.microsoft.FastGelu(x, b)",
        't = Add(x, b) y = Gelu<approximate = "tanh">(t)',
    ),
    "FastGelu without bias": (
        "t = Mul(x, b) y = com.microsoft.FastGelu(t)",
        't = Mul(x, b) y = Gelu<approximate = "tanh">(t)',
    ),
    "SkipLayerNormalization": (
        "y = com.microsoft.SkipLayerNormalization<epsilon: float = 0.001>(x, z, s, b)",
        "t = Add(x, z) y = LayerNormalization<epsilon: float = 0.001>(t, s, b)",
    ),
    "SkipLayerNormalization with its sum": (
        "n, m, d, t = com.microsoft.SkipLayerNormalization<epsilon: float = 0.001>(x, z, s, b, b)"
        " y = Add(n, t)",
        "u = Add(x, z) t = Add(u, b) n = LayerNormalization<epsilon: float = 0.001>(t, s, b)"
        " y = Add(n, t)",
    ),
    "SkipSimplifiedLayerNormalization": (
        "y = com.microsoft.SkipSimplifiedLayerNormalization<epsilon: float = 0.001>(x, z, s)",
        "t = Add(x, z) q = Mul(t, t) last = Constant<value_ints = [-1]>() m = ReduceMean(q, last)"
        " e = Constant<value_float: float = 0.001>() v = Add(m, e) r = Sqrt(v) n = Div(t, r)"
        " y = Mul(n, s)",
    ),
    "SimplifiedLayerNormalization": (
        "t = Add(x, z) y = SimplifiedLayerNormalization<epsilon: float = 0.001>(t, s)",
        "t = Add(x, z) q = Mul(t, t) last = Constant<value_ints = [-1]>() m = ReduceMean(q, last)"
        " e = Constant<value_float: float = 0.001>() v = Add(m, e) r = Sqrt(v) n = Div(t, r)"
        " y = Mul(n, s)",
    ),
}


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_as_the_standard_graph(name: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((2, 3, 4)).astype(np.float32),
        "z": rng.standard_normal((2, 3, 4)).astype(np.float32),
        "seed_y": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }
    found, expected = (gradients(body, feeds) for body in PAIRS[name])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def gradients(body: str, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return ∂/∂x, and ∂/∂z where the body reads z, by ONNX Runtime."""
    wanted = ["x", "z"] if ", z" in body else ["x"]
    text = f"""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        f (float[2, 3, 4] x, float[2, 3, 4] z) => (float[2, 3, 4] y)
        <float[4] s = {{1.5, -0.5, 2, 1}}, float[4] b = {{0.5, 1, -1, 2}}> {{ {body} }}"""
    model = gradient_model(onnx.parser.parse_model(text), {n: feeds[n].shape for n in "xz"}, wanted)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = session.run(None, feeds)
    return results
