"""Gradient rules of products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.graph.attack_steps.build import GradientSpec, build_gradient
from tests.support.gradcheck import check_gradient


@given(st.booleans(), st.booleans(), st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
def test_gemm(trans_a: bool, trans_b: bool, alpha: float, beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    check_gradient(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (double[?, ?] a, double[?, ?] b, double[5] c) => (double[3, 5] y) {{
            y = Gemm<alpha: float = {alpha:.4f}, beta: float = {beta:.4f},
                     transA: int = {int(trans_a)}, transB: int = {int(trans_b)}>(a, b, c)
        }}""",
        {"a": a.T if trans_a else a, "b": b.T if trans_b else b, "c": rng.standard_normal(5)},
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((4,), (2, 4, 5)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    shapes = [", ".join("?" * len(shape)) for shape in (a, b)]
    check_gradient(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (double[{shapes[0]}] a, double[{shapes[1]}] b) => (double y) {{ y = MatMul(a, b) }}""",
        {"a": rng.standard_normal(a), "b": rng.standard_normal(b)},
    )


def test_weights_are_held_once(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[2, 3, 40] x) => (float[2, 10] z) {
            h = MatMul(x, w)
            r = Relu(h)
            axes = Constant<value = int64[1] {1}>()
            m = ReduceMean<keepdims = 0>(r, axes)
            z = MatMul(m, v)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (40, 60)), ("v", (60, 10))):
        weights = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    gradient = build_gradient(model, {"x": (2, 3, 40)}, GradientSpec("x", "z"))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(gradient.SerializeToString(), options, providers=["CPUExecutionProvider"])
    held = [
        tensor.dims
        for tensor in onnx.load(tmp_path / "optimised.onnx").graph.initializer
        if np.prod(tensor.dims) >= 600
    ]
    assert sorted(map(list, held)) == [[40, 60], [60, 10]]
