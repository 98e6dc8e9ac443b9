"""`DeformConv` written out computes the same, and has right gradients."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import attributes, one_node, unknown


@given(
    st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.lists(st.integers(1, 2), min_size=2, max_size=2),
    st.lists(st.integers(1, 2), min_size=2, max_size=2),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_value_and_gradient(
    groups: tuple[int, int],
    kernel: tuple[int, int],
    strides: list[int],
    dilations: list[int],
    pads: list[int],
    biased: bool,
    masked: bool,
) -> None:
    group, offset_group = groups
    rng, size, taps = np.random.default_rng(0), (5, 6), kernel[0] * kernel[1]
    out = [
        (size[axis] + pads[axis] + pads[axis + 2] - dilations[axis] * (kernel[axis] - 1) - 1)
        // strides[axis]
        + 1
        for axis in range(2)
    ]
    feeds = {
        "x": rng.standard_normal((2, 4, *size)),
        "w": rng.standard_normal((2, 4 // group, *kernel)),
        # Well outside the image too.
        "o": rng.uniform(-4, 4, (2, offset_group * taps * 2, *out)),
    }
    inputs = ["x", "w", "o", "", ""]
    if biased:
        feeds["b"], inputs[3] = rng.standard_normal(2), "b"
    if masked:
        feeds["m"], inputs[4] = rng.standard_normal((2, offset_group * taps, *out)), "m"
    more = attributes(
        group=group, offset_group=offset_group, strides=strides, dilations=dilations, pads=pads
    )
    call = f"y = DeformConv{more}({', '.join(inputs).rstrip(', ')})"
    text = one_node(
        call, ", ".join(f"{unknown('double', v.ndim)} {n}" for n, v in feeds.items()), 19
    )
    shapes = {name: value.shape for name, value in feeds.items()}
    narrow = onnx.parser.parse_model(text.replace("double", "float"))
    given_ = {name: value.astype(np.float32) for name, value in feeds.items()}
    written = specialise(narrow, shapes, has_rule).export()
    assert "DeformConv" not in {node.op_type for node in written.graph.node}
    (found,), (expected,) = (run_once(model, given_) for model in (written, narrow))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Differences of what is written out, whose values are the runtime's: the reference evaluator
    # loops over single elements.
    wide = specialise(onnx.parser.parse_model(text), shapes, has_rule).export()
    check_gradient(wide, feeds, [name for name in feeds if name in "xom"])


def test_volumes_are_refused_by_name() -> None:
    text = one_node(
        "y = DeformConv(x, w, o)",
        "float[1, 1, 3, 3, 3] x, float[1, 1, 2, 2, 2] w, float[1, 24, 2, 2, 2] o",
        19,
    )
    model = onnx.parser.parse_model(text.replace("double", "float"))
    shapes = {"x": (1, 1, 3, 3, 3), "w": (1, 1, 2, 2, 2), "o": (1, 24, 2, 2, 2)}
    with pytest.raises(UnsupportedOperatorError, match=r"DeformConv 'y' reads no images; .*square"):
        gradient_model(model, shapes, ["x"])
