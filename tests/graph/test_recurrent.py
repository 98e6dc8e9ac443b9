"""Recurrent operators written out: the same values, and gradients by central differences."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.evaluate import run_once
from cloakify.graph.gradient.engine import has_rule
from cloakify.graph.specialise import specialise
from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import attributes, constant

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, SAMPLES, WIDTH, HIDDEN = 3, 2, 3, 2


def _model(
    op_type: str, direction: str, bias: bool, initial: bool, **more: object
) -> tuple[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    sides = 2 if direction == "bidirectional" else 1
    rows = GATES[op_type] * HIDDEN
    shapes = {"w": (sides, rows, WIDTH), "r": (sides, rows, HIDDEN), "b": (sides, 2 * rows)}
    if not bias:
        del shapes["b"]
    constants = ", ".join(
        constant("double", name, shape, rng.standard_normal(shape).round(3).ravel())
        for name, shape in shapes.items()
    )
    feeds = {"x": rng.standard_normal((STEPS, SAMPLES, WIDTH))}
    inputs = ["x", "w", "r", "b" if bias else "", ""]
    if initial:
        names = ["h", "c"] if op_type == "LSTM" else ["h"]
        feeds |= {name: rng.standard_normal((sides, SAMPLES, HIDDEN)) for name in names}
        inputs += names
    outputs = ["y", "last", "cell"] if op_type == "LSTM" else ["y", "last"]
    call = attributes(hidden_size=HIDDEN, direction=direction, **more)
    heads = ", ".join(f"double[?, ?, ?] {name}" for name in feeds)
    text = (
        f'<ir_version: 8, opset_import: ["" : 14]> f ({heads}) '
        f"=> ({', '.join('double ' + name for name in outputs)}) <{constants}> "
        f"{{ {', '.join(outputs)} = {op_type}{call}({', '.join(inputs)}) }}"
    )
    return text, feeds


def _check(text: str, feeds: dict[str, np.ndarray]) -> None:
    """Assert values by ONNX Runtime, and gradients by differences of the written out graph.

    The reference evaluator knows the recurrent operators in part only.
    """
    model = onnx.parser.parse_model(text)
    shapes = {name: value.shape for name, value in feeds.items()}
    written = specialise(model, shapes, has_rule).export()
    assert not {node.op_type for node in written.graph.node} & set(GATES)
    check_gradient(written, feeds)
    narrow = onnx.parser.parse_model(text.replace("double", "float"))
    given = {name: value.astype(np.float32) for name, value in feeds.items()}
    expected = run_once(narrow, given)
    found = run_once(specialise(narrow, shapes, has_rule).export(), given)
    for value, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


@given(
    st.sampled_from(["RNN", "GRU", "LSTM"]),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_recurrent(
    op_type: str, direction: str, bias: bool, initial: bool, before_reset: bool
) -> None:
    more = {"linear_before_reset": int(before_reset)} if op_type == "GRU" else {}
    _check(*_model(op_type, direction, bias, initial, **more))


def test_other_activations() -> None:
    text, feeds = _model("RNN", "forward", True, False)
    _check(text.replace("hidden_size", 'activations: strings = ["Relu"], hidden_size'), feeds)


def test_clipped_gates() -> None:
    _check(*_model("LSTM", "forward", True, True, clip=0.5))


def test_coupled_gates_are_refused_by_name() -> None:
    text, feeds = _model("LSTM", "forward", True, False, input_forget=1)
    model = onnx.parser.parse_model(text.replace("double", "float"))
    with pytest.raises(UnsupportedOperatorError, match="LSTM"):
        gradient_model(model, {name: value.shape for name, value in feeds.items()}, ["x"])
