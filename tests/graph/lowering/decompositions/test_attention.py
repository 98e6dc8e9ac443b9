"""ONNX Runtime's attention operators written out: its own values, and right gradients."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.decompositions.attention import unsupported_reason
from cloakify.graph.lowering.decompositions.catalogue import write_out
from cloakify.graph.lowering.fold_shapes import known_values
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import specialise
from tests.support.gradcheck import check_gradient, gradient_model

SAMPLES, HEADS, WIDTH = 2, 2, 3
HIDDEN = HEADS * WIDTH
Feeds = dict[str, np.ndarray]


def parse(op_type: str, feeds: Feeds, inputs: str, wide: bool = False, **more: object):
    """Return a model of one node, in float or in double."""
    real = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    values = []
    for name, value in feeds.items():
        kind = real if value.dtype == np.float64 else TensorProto.INT32
        values.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    given = {name: value for name, value in more.items() if value is not None}
    node = onnx.helper.make_node(
        op_type, inputs.split(" "), ["y"], domain="com.microsoft", num_heads=HEADS, **given
    )
    y = onnx.helper.make_tensor_value_info("y", real, None)
    graph = onnx.helper.make_graph([node], "attention", values, [y])
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("com.microsoft", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def check(op_type: str, feeds: Feeds, inputs: str, **more: object) -> None:
    """Assert the runtime's own values, and gradients by central differences in double.

    The latter of what is written out, for the runtime has the operators in float only.
    """
    shapes = {name: value.shape for name, value in feeds.items()}
    narrow = parse(op_type, feeds, inputs, **more)
    given = {n: v.astype(np.float32) if v.dtype == np.float64 else v for n, v in feeds.items()}
    (expected,) = run_once(narrow, given)
    written = specialise(narrow, shapes, has_rule).export()
    assert not {node.domain for node in written.graph.node} - {"", "ai.onnx"}
    (found,) = run_once(written, given)
    # Where all keys are masked, each score is rounded as a number of some -10000 is.
    tolerance = 1e-5 if more.get("mask_filter_value") or "m" not in feeds else 5e-3
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=tolerance)
    wide = parse(op_type, feeds, inputs, True, **more)
    assert write_out(wide, *known_values(wide))
    check_gradient(wide, feeds)


@st.composite
def masks(draw: st.DrawFn, queries: int, keys: int, starts: bool) -> np.ndarray | None:
    kinds = [None, (SAMPLES,), (SAMPLES, keys), (SAMPLES, queries, keys)]
    if starts:
        kinds.append((2 * SAMPLES,))
    shape = draw(st.sampled_from(kinds))
    if shape is None:
        return None
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if len(shape) > 1:
        return rng.integers(0, 2, shape).astype(np.int32)
    ends = rng.integers(1, keys + 1, SAMPLES)
    begins = rng.integers(0, ends)
    return np.concatenate([ends, begins])[: shape[0]].astype(np.int32)


SETTINGS = {
    "unidirectional": st.sampled_from([None, 0, 1]),
    "scale": st.sampled_from([None, 0.3]),
    "mask_filter_value": st.sampled_from([None, -3.0]),
}


@given(st.fixed_dictionaries(SETTINGS), st.booleans(), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_attention(
    more: dict[str, object], added: bool, narrow_values: bool, data: st.DataObject
) -> None:
    rng, length, wide = np.random.default_rng(0), 3, 4
    sizes = [HIDDEN, HIDDEN, HEADS if narrow_values else HIDDEN]
    feeds = {
        "x": rng.standard_normal((SAMPLES, length, wide)),
        "w": rng.standard_normal((wide, sum(sizes))),
        "b": rng.standard_normal(sum(sizes)),
    }
    mask = data.draw(masks(length, length, True))
    inputs = ["x", "w", "b", "", "", ""]
    if mask is not None:
        feeds["m"], inputs[3] = mask, "m"
    if added:
        rows = data.draw(st.tuples(st.sampled_from([1, SAMPLES]), st.sampled_from([1, HEADS])))
        feeds["a"], inputs[5] = rng.standard_normal((*rows, length, length)), "a"
    more["qkv_hidden_sizes"] = sizes if narrow_values else None
    check("Attention", feeds, " ".join(inputs).rstrip(), **more)


@given(st.fixed_dictionaries(SETTINGS), st.booleans(), st.booleans(), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_multi_head_attention(
    more: dict[str, object], biased: bool, added: bool, split: bool, data: st.DataObject
) -> None:
    rng, queries = np.random.default_rng(0), 3
    keys = data.draw(st.sampled_from([3] if more["unidirectional"] else [2, 3, 4]))
    others = (SAMPLES, HEADS, keys, WIDTH) if split else (SAMPLES, keys, HIDDEN)
    feeds = {
        "q": rng.standard_normal((SAMPLES, queries, HIDDEN)),
        "k": rng.standard_normal(others),
        "v": rng.standard_normal(others),
    }
    inputs = ["q", "k", "v", "", "", ""]
    if biased:
        feeds["b"], inputs[3] = rng.standard_normal(3 * HIDDEN), "b"
    mask = data.draw(masks(queries, keys, False))
    if mask is not None:
        feeds["m"], inputs[4] = mask, "m"
    if added:
        rows = data.draw(st.tuples(st.sampled_from([1, SAMPLES]), st.sampled_from([1, HEADS])))
        feeds["a"], inputs[5] = rng.standard_normal((*rows, queries, keys)), "a"
    if split and biased:
        # To keys and values in this form the runtime adds no bias.
        feeds["b"][HIDDEN:] = 0
    check("MultiHeadAttention", feeds, " ".join(inputs).rstrip(), **more)


def test_as_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    torch.manual_seed(0)
    q, k, v = (torch.randn(SAMPLES, 4, HIDDEN, requires_grad=True) for _ in range(3))
    heads = [t.reshape(SAMPLES, 4, HEADS, WIDTH).transpose(1, 2) for t in (q, k, v)]
    y = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=True)
    seed = torch.randn(SAMPLES, 4, HIDDEN)
    (y.transpose(1, 2).reshape(seed.shape) * seed).sum().backward()
    values = {name: t.detach().numpy() for name, t in zip("qkv", (q, k, v), strict=True)}
    wide = {name: value.astype(np.float64) for name, value in values.items()}
    model = parse("MultiHeadAttention", wide, "q k v", unidirectional=1)
    backward = gradient_model(model, {n: t.shape for n, t in values.items()}, list("qkv"))
    found = run_once(backward, {**values, "seed_y": seed.numpy()})
    for value, tensor in zip(found, (q, k, v), strict=True):
        np.testing.assert_allclose(value, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


REFUSED = {
    "keeps keys and values of earlier calls": (
        "Attention",
        {"x": (2, 3, 4), "w": (4, 18), "b": (18,), "p": (2, 2, 2, 1, 3)},
        "x w b  p",
        {},
    ),
    "rotates its queries and keys": (
        "Attention",
        {"x": (2, 3, 4), "w": (4, 18), "b": (18,)},
        "x w b",
        {"do_rotary": 1},
    ),
    "looks back only, with 3 queries to 2 keys": (
        "MultiHeadAttention",
        {"x": (2, 3, 6), "k": (2, 2, 6), "v": (2, 2, 6)},
        "x k v",
        {"unidirectional": 1},
    ),
    "reads queries, keys and values packed into one another": (
        "MultiHeadAttention",
        {"x": (2, 3, 2, 3, 3)},
        "x",
        {},
    ),
    "has a mask of shape 2×1": (
        "Attention",
        {"x": (2, 3, 4), "w": (4, 18), "b": (18,), "m": (2, 1)},
        "x w b m",
        {},
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_why_the_rest_is_refused(reason: str) -> None:
    op_type, shapes, inputs, more = REFUSED[reason]
    feeds = {name: np.ones(shape) for name, shape in shapes.items()}
    model = parse(op_type, feeds, inputs, **more)
    assert unsupported_reason(model.graph.node[0], shapes) == reason
    assert not write_out(model, *known_values(model))


def test_the_rest_is_refused_by_name() -> None:
    shapes = {"x": (2, 3, 6), "k": (2, 2, 6), "v": (2, 2, 6)}
    feeds = {name: np.ones(shape) for name, shape in shapes.items()}
    model = parse("MultiHeadAttention", feeds, "x k v", unidirectional=1)
    with pytest.raises(UnsupportedOperatorError, match=r"MultiHeadAttention 'y' looks .*square"):
        gradient_model(model, shapes, ["x"])
