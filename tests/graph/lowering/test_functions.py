"""Function operators written out by their bodies, and differentiated through them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.graph.lowering.functions import expand_functions
from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, one_node


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def runtime_gradient(
    text: str, feeds: dict[str, np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the gradients of Σ seed·y by ONNX Runtime, and the seed."""
    shapes = {name: value.shape for name, value in feeds.items()}
    model = gradient_model(onnx.parser.parse_model(text), shapes, list(feeds))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    shape = next(value.shape for value in session.get_inputs() if value.name == "seed_y")
    seed = normal(*shape, seed=9).astype(np.float32)
    return session.run(None, {**feeds, "seed_y": seed}), seed


def operators(text: str, *kept: str) -> set[str]:
    model = expand_functions(onnx.parser.parse_model(text), lambda _, op_type: op_type in kept)
    return {node.op_type for node in model.graph.node}


def test_an_operator_that_is_kept_stays() -> None:
    assert operators(one_node("y = Gelu(x)", opset=20), "Gelu") == {"Gelu"}


def test_an_operator_without_a_body_stays() -> None:
    text = one_node("y = Foo(x)").replace('"" : 18', '"" : 18, "other" : 1')
    assert operators(text.replace("Foo", "other.Foo")) == {"Foo"}


def test_any_other_is_written_out() -> None:
    text = one_node("z = Relu(x) y = CastLike(z, x)", opset=20)
    assert operators(text, "Relu") == {"Relu", "Cast"}


def test_a_body_is_written_out_in_its_turn() -> None:
    text = one_node("y = Mish(x)", opset=18)
    assert not operators(text) & {"Mish", "Softplus"}


ATTENTION = """<ir_version: 10, opset_import: ["" : 23]>
    f (float[2, ?, ?, ?] q, float[2, ?, ?, ?] k, float[2, ?, ?, ?] v) => (float y) {{
        moved = Identity(q)
        y = Attention{}(moved, k, v)
    }}"""


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [2, 4])
def test_attention_as_torch(causal: bool, heads: int) -> None:
    torch = pytest.importorskip("torch")
    q, k, v = normal(2, 4, 5, 8), normal(2, heads, 5, 8, seed=1), normal(2, heads, 5, 6, seed=2)
    feeds = {name: value.astype(np.float32) for name, value in zip("qkv", (q, k, v), strict=True)}
    text = ATTENTION.format(attributes(is_causal=causal))
    found, seed = runtime_gradient(text, feeds)
    tensors = [torch.tensor(value, requires_grad=True) for value in feeds.values()]
    # Each head of keys and values serves as many of queries.
    shared = [tensor.repeat_interleave(4 // tensor.shape[1], 1) for tensor in tensors]
    y = torch.nn.functional.scaled_dot_product_attention(*shared, is_causal=causal)
    expected = torch.autograd.grad(y, tensors, torch.tensor(seed))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_rotary_embedding_keeps_lengths() -> None:
    # A rotation's transposed Jacobian is its inverse: the gradient is as long as the seed.
    angles = normal(5, 4, seed=1)
    constants = ", ".join(
        f"float[5, 4] {name} = {{{', '.join(f'{value:.6f}' for value in values.ravel())}}}"
        for name, values in (("cosine", np.cos(angles)), ("sine", np.sin(angles)))
    )
    text = one_node(
        "y = RotaryEmbedding(x, cosine, sine, place)",
        "float[2, 3, 5, 8] x",
        opset=23,
        constants=f"{constants}, int64[2, 5] place = {{0, 1, 2, 3, 4, 0, 1, 2, 3, 4}}",
    ).replace("double y", "float y")
    found, seed = runtime_gradient(text, {"x": normal(2, 3, 5, 8).astype(np.float32)})
    np.testing.assert_allclose(
        np.linalg.norm(found[0], axis=-1), np.linalg.norm(seed, axis=-1), rtol=1e-4
    )


def test_attention_keeps_its_softmax() -> None:
    text = one_node(
        "y = Attention(q, k, v)",
        "float[1, 2, 3, 4] q, float[1, 2, 3, 4] k, float[1, 2, 3, 4] v",
        opset=23,
    )
    model = expand_functions(
        onnx.parser.parse_model(text), lambda _, op_type: op_type not in ("Attention",)
    )
    assert "Softmax" in {node.op_type for node in model.graph.node}


def test_rows_that_attention_masks_whole_leave_the_gradient_finite() -> None:
    """A query that may look at nothing: torch gives NaN there, onnx defines 0."""
    text = one_node(
        "y = Attention(q, q, q, mask)",
        "float[1, 1, 3, 4] q",
        opset=25,
        constants="bool[3, 3] mask = {1, 0, 1, 0, 0, 0, 1, 1, 1}",
    )
    (gradient,), _ = runtime_gradient(text, {"q": normal(1, 1, 3, 4).astype(np.float32)})
    assert np.isfinite(gradient).all()
    assert gradient.any()


@pytest.mark.parametrize("opset", [-(1 << 40), -1, 0, 6, 19])
def test_operators_that_are_newer_than_the_opset_have_no_body(opset: int) -> None:
    """`Gelu` is of opset 20: onnx knows it, and not in this version."""
    model = onnx.parser.parse_model(one_node("y = Gelu(x)", "float[3] x", opset=20))
    model.opset_import[0].version = opset
    expanded = expand_functions(model, lambda _, op_type: op_type != "Gelu")
    assert [node.op_type for node in expanded.graph.node] == ["Gelu"]


def test_a_constant_without_a_value_is_let_be() -> None:
    """Bodies have such, of attributes that a node leaves out."""
    model = onnx.parser.parse_model(one_node("y = Gelu(x)", "float[3] x", opset=20))
    model.graph.node.add(op_type="Constant", output=["c"])
    expanded = expand_functions(model, lambda _, op_type: op_type != "Gelu")
    assert {node.op_type for node in expanded.graph.node} >= {"Constant", "Mul"}


@pytest.mark.parametrize("window", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("periodic", [None, 0, 1])
def test_defaults_of_attributes_reach_the_body(window: str, periodic: int | None) -> None:
    call = f"w = {window}{attributes(periodic=periodic)} (n) y = Mul(x, w)"
    text = one_node(call, inputs="float[8] x", opset=18).replace("double y", "float y")
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(8), "n"))
    x = normal(8).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    written = expand_functions(model, lambda _, op_type: op_type == "Mul")
    assert window not in {node.op_type for node in written.graph.node}
    session = ort.InferenceSession(written.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x})
    assert np.allclose(found, expected, atol=1e-6)
