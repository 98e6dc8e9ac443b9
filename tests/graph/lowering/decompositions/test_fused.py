"""Fused products taken apart give what ONNX Runtime's kernels give, and have gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.errors import UnsupportedOperatorError
from tests.support.gradcheck import gradient_model

CASES = {
    "matmul": ((2, 3, 4), (2, 4, 5), "FusedMatMul <alpha = 0.3> (x, w)", "Mul(p, k)"),
    "turned": (
        (2, 4, 3),
        (2, 5, 4),
        "FusedMatMul <alpha = 0.3, transA = 1, transB = 1> (x, w)",
        "Mul(p, k)",
    ),
    "gemm": (
        (3, 4),
        (5, 4),
        'FusedGemm <transB = 1, activation = "LeakyRelu", activation_alpha = 0.2> (x, w, b)',
        "LeakyRelu <alpha = 0.2> (p)",
    ),
    "conv": (
        (1, 2, 5, 5),
        (5, 2, 3, 3),
        'FusedConv <activation = "Relu", pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)',
        "Relu (p)",
    ),
    "clipped conv": (
        (1, 2, 5, 5),
        (5, 2, 3, 3),
        'FusedConv <activation = "Clip", activation_params = [-0.5, 0.5]> (x, w, b)',
        "Clip (p, low, high)",
    ),
    "conv with a sum": (
        (1, 2, 5, 5),
        (5, 2, 3, 3),
        'FusedConv <activation = "Relu"> (x, w, b, z)',
        "Relu (s)",
    ),
}
PLAIN = {
    "matmul": "p = MatMul (x, w)",
    "turned": "t = Transpose <perm = [0, 2, 1]> (x) v = Transpose <perm = [0, 2, 1]> (w) "
    "p = MatMul (t, v)",
    "gemm": "p = Gemm <transB = 1> (x, w, b)",
    "conv": "p = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)",
    "clipped conv": "p = Conv (x, w, b)",
    "conv with a sum": "p = Conv (x, w, b) s = Add (p, z)",
}


def parse(body: str, rank: int, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 21, "com.microsoft" : 1]> '
        f"f (float[{', '.join('?' * rank)}] x) => (float[{', '.join('?' * rank)}] y) {{ {body} }}"
    )
    for name, values in constants.items():
        if name not in body.replace("(", " ").replace(")", " ").replace(",", " ").split():
            continue
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return model


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """Open a model as it is laid out: blocked channels lose the sum in ONNX Runtime 1.26."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return ort.InferenceSession(model.SerializeToString(), options)


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_of_the_parts(name: str):
    shape, weight, fused, end = CASES[name]
    random = np.random.default_rng(0)
    constants = {
        "w": random.standard_normal(weight).astype(np.float32),
        "b": random.standard_normal(5).astype(np.float32),
        "z": random.standard_normal((1, 5, 3, 3)).astype(np.float32),
        "k": np.array(0.3, np.float32),
        "low": np.array(-0.5, np.float32),
        "high": np.array(0.5, np.float32),
    }
    texts = (
        f"y = com.microsoft.{fused}",
        f"{PLAIN[name]} y = {end}",
    )
    models = [parse(text, len(shape), constants) for text in texts]
    x = random.standard_normal(shape).astype(np.float32)
    (y,), (expected,) = (session(model).run(None, {"x": x}) for model in models)
    np.testing.assert_allclose(y, expected, atol=1e-5)
    seed = random.standard_normal(y.shape).astype(np.float32)
    found, exact = (
        session(gradient_model(model, {"x": shape}, ["x"])).run(None, {"x": x, "seed_y": seed})[0]
        for model in models
    )
    np.testing.assert_allclose(found, exact, atol=1e-5)
    assert np.abs(found).max() > 0.1


def test_what_can_not_be_taken_apart_is_refused():
    constants = {"w": np.ones((2, 4, 5), np.float32)}
    model = parse("y = com.microsoft.FusedMatMul <transBatchA = 1> (x, w)", 3, constants)
    with pytest.raises(UnsupportedOperatorError, match=r"FusedMatMul 'y' moves .*square"):
        gradient_model(model, {"x": (3, 2, 4)}, ["x"])
