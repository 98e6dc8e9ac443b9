"""The gradient rule of `AffineGrid`."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, constant, one_node, unknown


@given(st.integers(1, 3), st.lists(st.integers(1, 5), min_size=2, max_size=3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_gradient_is_the_transpose_of_what_the_runtime_computes(
    samples: int, places: list[int], aligned: bool
) -> None:
    """The grid is linear in θ: ⟨grid(θ), g⟩ = ⟨θ, ∂θ⟩ for all θ and g."""
    wanted = constant("int64", "s", [len(places) + 2], [samples, 3, *places])
    call = f"y = AffineGrid{attributes(align_corners=aligned)}(x, s)"
    model = onnx.parser.parse_model(one_node(call, f"{unknown('double', 3)} x", 20, wanted))
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((samples, len(places), len(places) + 1))
    (grid,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": theta})
    built = gradient_model(model, {"x": theta.shape}, ["x"])
    (seed,) = (value.name for value in built.graph.input if value.name != "x")
    g = rng.standard_normal(grid.shape)
    session = ort.InferenceSession(built.SerializeToString())
    fed = {"x": theta, seed: g}
    results = session.run(None, {value.name: fed[value.name] for value in session.get_inputs()})
    (gradient,) = (value for value in results if value.shape == theta.shape)
    assert (gradient * theta).sum() == pytest.approx((grid * g).sum())
