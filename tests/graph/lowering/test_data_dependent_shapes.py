"""Shapes that depend on the data's values are refused; those that only look so are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.gradient.coverage import gradient_coverage
from tests.support.gradcheck import check_gradient, gradient_model

MOVING = {
    "NonZero": "i = NonZero(x) t = Transpose<perm = [1, 0]>(i) y = GatherND(x, t)",
    "Unique": "y = Unique(x)",
    "Compress": "f = Reshape(x, flat) z = Cast<to = 9>(f) y = Compress(f, z)",
    "Tile": "r = Concat<axis = 0>(count, one) y = Tile(x, r)",
    "Slice": "y = Slice(x, zero, count)",
    "Range": "s = Squeeze(count) i = Range(none, s, step) y = Gather(x, i)",
    "ConstantOfShape": "z = ConstantOfShape(count) s = ReduceSum(z) y = Mul(x, s)",
    "NonMaxSuppression": "s = Reshape(x, boxed) i = NonMaxSuppression(boxes, s)"
    " f = Cast<to = 1>(i) t = ReduceSum(f) y = Mul(x, t)",
    "Loop": "s = Squeeze(count) y = Loop(s, yes, x) <body = b (int64 i, bool c, float[4, 3] v) =>"
    " (bool d, float[?, 3] w) { d = Identity(c) w = Concat<axis = 0>(v, v) }>",
}
CONSTANTS = (
    "int64[1] flat = {-1}, int64[1] one = {1}, int64[1] zero = {0}, int64 none = {0}, "
    "int64 step = {1}, bool yes = {1}, int64[3] boxed = {1, 3, 4}, "
    "float[1, 4, 4] boxes = {0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 2, 2, 1, 1, 3, 3}"
)
COUNT = "m = ReduceMax<keepdims = 0>(x) c = Cast<to = 7>(m) count = Unsqueeze(c, zero)"


def parse(body: str, kind: str = "float") -> onnx.ModelProto:
    count = COUNT if "count" in body else ""
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> f ({kind}[4, 3] x) => ({kind} y)'
        f"<{CONSTANTS}> {{ {count} {body} }}"
    )


@pytest.mark.parametrize("op_type", MOVING)
def test_refused_by_name(op_type: str) -> None:
    model = parse(MOVING[op_type])
    node = next(node for node in model.graph.node if node.op_type == op_type)
    node.name = "it"
    expected = f"^{op_type} 'it' makes a tensor whose shape depends .* --attack square"
    with pytest.raises(UnsupportedOperatorError, match=expected) as caught:
        gradient_model(model, {"x": (4, 3)}, ["x"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op_type", MOVING)
def test_named_in_the_coverage(op_type: str) -> None:
    assert f"{op_type} ()" in gradient_coverage(parse(MOVING[op_type]), "x", "y").missing


def test_what_does_not_lead_to_the_logits_is_not() -> None:
    model = parse("i = NonZero(x) y = Relu(x)")
    assert not gradient_coverage(model, "x", "y").missing


def test_sequences_that_data_pick_from_are_refused_by_name() -> None:
    model = parse(
        "s = SplitToSequence(x) c = ReduceMax<keepdims = 0>(x) p = Cast<to = 7>(c) "
        "y = SequenceAt(s, p)"
    )
    model.graph.node[0].name = "it"
    with pytest.raises(UnsupportedOperatorError, match=r"^SplitToSequence 'it' .*--attack square"):
        gradient_model(model, {"x": (4, 3)}, ["x"])


@pytest.mark.parametrize(
    "body",
    [
        # Of constants, and of shapes.
        "z = NonZero(boxed) f = Cast<to = 11>(z) s = ReduceSum(f) y = Mul(x, s)",
        "s = Shape(x) z = ConstantOfShape(s) i = NonZero(z) n = Shape(i) "
        "r = ReduceProd(n) o = Max(r, one) v = Concat<axis = 0>(o, o) y = Tile(x, v)",
        # Values that move, in a shape that does not.
        "p = Range(none, step, step) q = Cast<to = 7>(x) b = Unsqueeze(q, zero) y = Gather(x, p)",
    ],
)
def test_fixed_shapes_pass(body: str) -> None:
    check_gradient(parse(body, "double"), {"x": np.random.default_rng(0).standard_normal((4, 3))})
