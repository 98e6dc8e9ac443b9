"""Recurrent operators written out: the same values, and gradients by central differences."""

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
from tests.support.onnxtext import attributes, constant

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, SAMPLES, WIDTH, HIDDEN = 3, 2, 3, 2


def _model(
    op_type: str,
    direction: str = "forward",
    bias: bool = True,
    initial: bool = False,
    peepholes: bool = False,
    lengths: bool = False,
    **more: object,
) -> tuple[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    sides = 2 if direction == "bidirectional" else 1
    rows = GATES[op_type] * HIDDEN
    shapes = {"w": (sides, rows, WIDTH), "r": (sides, rows, HIDDEN)}
    if bias:
        shapes["b"] = (sides, 2 * rows)
    if peepholes:
        shapes["p"] = (sides, 3 * HIDDEN)
    constants = ", ".join(
        constant("double", name, shape, rng.standard_normal(shape).round(3).ravel())
        for name, shape in shapes.items()
    )
    first = more.get("layout") == 1
    feeds = {"x": rng.standard_normal((STEPS, SAMPLES, WIDTH))}
    states = {"h": (5, initial), "c": (6, initial and op_type == "LSTM")}
    inputs = ["x", "w", "r", "b" if bias else "", "l" if lengths else "", "", "", ""]
    for name, (place, there) in states.items():
        if there:
            feeds[name] = rng.standard_normal((sides, SAMPLES, HIDDEN))
            inputs[place] = name
    if first:
        feeds = {name: np.swapaxes(value, 0, 1) for name, value in feeds.items()}
    inputs[7] = "p" if peepholes else ""
    while not inputs[-1]:
        inputs.pop()
    outputs = ["y", "last", "cell"] if op_type == "LSTM" else ["y", "last"]
    call = attributes(hidden_size=HIDDEN, direction=direction, **more)
    heads = ", ".join(f"double[?, ?, ?] {name}" for name in feeds)
    if lengths:
        feeds["l"] = np.array([STEPS, STEPS - 1], np.int32)
        heads += ", int32[?] l"
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
    given = {
        name: value.astype(np.float32) if value.dtype == np.float64 else value
        for name, value in feeds.items()
    }
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


@given(
    st.sampled_from(["RNN", "GRU", "LSTM"]),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
    st.lists(st.integers(0, STEPS), min_size=SAMPLES, max_size=SAMPLES),
)
@settings(max_examples=15, deadline=None)
def test_sequences_of_several_lengths(
    op_type: str, direction: str, initial: bool, lengths: list[int]
) -> None:
    text, feeds = _model(op_type, direction, initial=initial, lengths=True)
    _check(text, feeds | {"l": np.array(lengths, np.int32)})


@pytest.mark.parametrize("lengths", [[STEPS, STEPS], [STEPS, 1]])
def test_constant_lengths(lengths: list[int]) -> None:
    text, feeds = _model("GRU", lengths=True)
    del feeds["l"]
    text = text.replace(", int32[?] l", "")
    text = text.replace("<double", f"<{constant('int32', 'l', [SAMPLES], lengths)}, double", 1)
    _check(text, feeds)
    written = specialise(onnx.parser.parse_model(text), {"x": feeds["x"].shape}, has_rule)
    assert "Greater" not in {node.op for node in written.graph.nodes}


@given(
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0.5]),
)
@settings(max_examples=15, deadline=None)
def test_peepholes_coupled_and_clipped_gates(
    direction: str, initial: bool, peepholes: bool, coupled: bool, clip: float | None
) -> None:
    more: dict[str, object] = {"clip": clip, "input_forget": int(coupled)}
    _check(*_model("LSTM", direction, initial=initial, peepholes=peepholes, **more))


@pytest.mark.parametrize("op_type", GATES)
def test_batch_first(op_type: str) -> None:
    """ONNX Runtime refuses it: held to the same layer with the sequence first."""
    more = {"direction": "bidirectional", "initial": True, "lengths": True}
    text, feeds = _model(op_type, layout=1, **more)
    shapes = {name: value.shape for name, value in feeds.items()}
    written = specialise(onnx.parser.parse_model(text), shapes, has_rule).export()
    check_gradient(written, feeds)
    plain_text, plain = _model(op_type, **more)
    shapes = {name: value.shape for name, value in plain.items()}
    expected = run_once(
        specialise(onnx.parser.parse_model(plain_text), shapes, has_rule).export(), plain
    )
    y, *states = run_once(written, feeds)
    np.testing.assert_allclose(y, expected[0].transpose(2, 0, 1, 3))
    for state, wanted in zip(states, expected[1:], strict=True):
        np.testing.assert_allclose(state, wanted.transpose(1, 0, 2))


ACTIVATIONS = ["Affine", "Elu", "HardSigmoid", "LeakyRelu", "ScaledTanh", "Softplus", "Softsign"]


@given(
    st.sampled_from(["RNN", "GRU", "LSTM"]),
    st.sampled_from(["forward", "bidirectional"]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=25, deadline=None)
def test_other_activations(
    op_type: str, direction: str, parameters: bool, data: st.DataObject
) -> None:
    count = {"RNN": 1, "GRU": 2, "LSTM": 3}[op_type] * (1 + (direction == "bidirectional"))
    kinds = [*ACTIVATIONS, "Relu", "ThresholdedRelu", "Sigmoid", "Tanh"]
    chosen = data.draw(st.lists(st.sampled_from(kinds), min_size=count, max_size=count))
    text, feeds = _model(op_type, direction)
    names = ", ".join(f'"{name}"' for name in chosen)
    more = f"activations: strings = [{names}], "
    if parameters:
        values = np.random.default_rng(1).uniform(0.2, 0.8, (2, count)).round(2).tolist()
        more += f"activation_alpha: floats = {values[0]}, activation_beta: floats = {values[1]}, "
    _check(text.replace("hidden_size", f"{more}hidden_size"), feeds)


def test_an_unknown_activation_is_refused_by_name() -> None:
    text, feeds = _model("LSTM")
    text = text.replace("double", "float").replace(
        "hidden_size", 'activations: strings = ["Sigmoid", "Tanh", "Sin"], hidden_size'
    )
    with pytest.raises(UnsupportedOperatorError, match=r"LSTM 'y' has the activation 'Sin'; .*"):
        gradient_model(onnx.parser.parse_model(text), {"x": feeds["x"].shape}, ["x"])


def test_long_sequences_are_refused_by_name() -> None:
    text, _ = _model("GRU", "bidirectional")
    model = onnx.parser.parse_model(text.replace("double", "float"))
    with pytest.raises(UnsupportedOperatorError, match=r"GRU 'y' takes 101 steps, more .* 100"):
        gradient_model(model, {"x": (101, SAMPLES, WIDTH)}, ["x"])
