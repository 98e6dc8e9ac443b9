"""Small operators of ONNX Runtime, written out: against its own, and gradients in NumPy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.graph.gradient.coverage import gradient_coverage
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from tests.support.gradcheck import gradient_model

RNG = np.random.default_rng(3)
X = RNG.normal(size=(4, 5)).astype(np.float32)
CENTRES = RNG.normal(size=(3, 5)).astype(np.float32)


def model_of(node: str, result: str) -> ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> '
        f"f (float[N, 5] x) => (float[{result}] y) "
        f"<int32 first = {{1}}, int32 last = {{-1}}> {{ y = com.microsoft.{node} }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(CENTRES, "c"))
    return model


def gradient_of(model: ModelProto, g: np.ndarray) -> np.ndarray:
    graph = gradient_model(model, {"x": X.shape}, ["x"])
    (seed,) = (value.name for value in graph.graph.input if value.name != "x")
    return run_once(graph, {"x": X, seed: g})[-1]


@pytest.mark.parametrize("place", ["first", "last"])
def test_expanded_axes(place: str) -> None:
    model = model_of(f"ExpandDims (x, {place})", "A, B, C")
    (own,) = run_once(model, {"x": X})
    lowered = specialise(model, {"x": X.shape}, has_rule).export()
    assert not any(node.domain for node in lowered.graph.node)
    np.testing.assert_array_equal(run_once(lowered, {"x": X})[0], own)
    g = RNG.normal(size=own.shape).astype(np.float32)
    np.testing.assert_array_equal(gradient_of(model, g), g.reshape(X.shape))
    assert gradient_coverage(model, "x", "y").missing == ()


@pytest.mark.parametrize("metric", ["", 'metric = "euclidean"', 'metric = "sqeuclidean"'])
def test_distances(metric: str) -> None:
    attributes = f"<{metric}>" if metric else ""
    model = model_of(f"CDist {attributes} (x, c)", "N, 3")
    lowered = specialise(model, {"x": X.shape}, has_rule).export()
    (own,), (found,) = run_once(model, {"x": X}), run_once(lowered, {"x": X})
    np.testing.assert_allclose(found, own, rtol=1e-5)
    apart = X[:, None] - CENTRES
    slopes = 2 * apart
    if '"euclidean' in metric:
        slopes = apart / np.linalg.norm(apart, axis=2, keepdims=True)
    g = RNG.normal(size=own.shape).astype(np.float32)
    wanted = (g[:, :, None] * slopes).sum(axis=1)
    np.testing.assert_allclose(gradient_of(model, g), wanted, rtol=1e-4, atol=1e-5)
    assert gradient_coverage(model, "x", "y").missing == ()
