"""A head inside an `If` that always goes one way: masked there, run and taken out again.

What comes out is compared with NumPy: tanh(x) ∘ m, times the weights of the branch that is taken.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import find_mask, insert_mask, strip_mask
from cloakify.graph.edit.taps import head_model, tap, value_of_rank
from cloakify.graph.model.branches import write_out_branches

WEIGHT = np.array([[1, -2, 0.5], [3, 1, -1]], np.float32)
MASK = np.array([0, 1])
X = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)


def branch(name: str, body: str) -> str:
    return f"{name} () => (float[N, 3] {name}_y) {{ {body} }}"


def model(before: str, then: str, other: str) -> onnx.ModelProto:
    """An `If` on ``c`` with features ``f`` before it; W is the weight, V another."""
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> agraph (float[N, 2] x) => (float[N, 3] y)
        <float[2, 3] W = {{1, -2, 0.5, 3, 1, -1}}, float[2, 3] V = {{9, 9, 9, 9, 9, 9}},
         int64[2] sizes = {{4, 5}}, int64 first = {{0}}, int64 four = {{4}}, bool yes = {{1}}>
        {{ f = Tanh (x)  {before}
           [choice] y = If (c) <then_branch: graph = {branch("t", then)},
                                else_branch: graph = {branch("e", other)}> }}"""
    )


HEAD = "[head] {0}_y = MatMul (f, W)"
WRONG = "[wrong] {0}_y = MatMul (f, V)"
INSIDE = "f2 = Identity (f)  [head] {0}_l = MatMul (f2, W)  {0}_y = Identity ({0}_l)"
NESTED = (
    "{0}_y = If (yes) <then_branch: graph = in () => (float[N, 3] in_y) { [head] in_y = "
    "MatMul (f, W) }, else_branch: graph = out () => (float[N, 3] out_y) { out_y = MatMul (f, V) }>"
)


def text(body: str, name: str) -> str:
    return body.replace("{0}", name)


CASES = {
    "initializer": ("c = Identity (yes)", HEAD, WRONG),
    "the other one": ("c = Not (yes)", WRONG, HEAD),
    "a constant node": ("c = Constant <value = bool {1}> ()", HEAD, WRONG),
    "computed": ("s = Gather (sizes, first)  c = Equal (s, four)", HEAD, WRONG),
    "features inside": ("c = Identity (yes)", INSIDE, WRONG),
    "nested": ("c = Identity (yes)", NESTED, WRONG),
    "nested in the other one": ("c = Not (yes)", WRONG, NESTED),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_mask_goes_into_the_branch_that_is_taken(case):
    before, then, other = case
    source = model(before, text(then, "t"), text(other, "e"))
    head = find_head(source).head
    assert (head.node, head.num_features, head.num_classes) == ("head", 2, 3)
    hardened = insert_mask(source, head, MASK, {"mask.sha256": "…"})
    onnx.checker.check_model(hardened, full_check=True)
    (y,) = ReferenceEvaluator(hardened).run(None, {"x": X})
    np.testing.assert_allclose(y, (np.tanh(X) * MASK) @ WEIGHT, rtol=1e-5)
    installed = find_mask(hardened)
    assert installed is not None
    assert installed.values.tolist() == MASK.tolist()
    assert strip_mask(hardened).SerializeToString(deterministic=True) == source.SerializeToString(
        deterministic=True
    )
    assert find_head(hardened).head.node == "head"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_inside_are_those_of_the_model(case):
    before, then, other = case
    source = model(before, text(then, "t"), text(other, "e"))
    head = find_head(source).head
    features, linear = ReferenceEvaluator(tap(source, [head.features, head.linear])).run(
        None, {"x": X}
    )
    np.testing.assert_allclose(features, np.tanh(X), rtol=1e-5)
    np.testing.assert_allclose(linear, np.tanh(X) @ WEIGHT, rtol=1e-5)
    part = head_model(source, value_of_rank(head.features, 1, 2), head.linear)
    (alone,) = ReferenceEvaluator(part).run(None, {head.features: X})
    np.testing.assert_allclose(alone, X @ WEIGHT, rtol=1e-5)
    written = write_out_branches(source)
    assert "If" not in {node.op_type for node in written.graph.node}
    for one, two in zip(
        ReferenceEvaluator(source).run(None, {"x": X}),
        ReferenceEvaluator(written).run(None, {"x": X}),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


DATA = "r = ReduceSum <keepdims = 0> (x)  z = Sub (r, r)  c = Greater (r, z)"


def test_where_the_data_decide_a_mask_has_no_place_and_scores_do():
    source = model(DATA, text(HEAD, "t"), text(WRONG, "e"))
    assert write_out_branches(source) is source
    with pytest.raises(HeadError, match=r"inside If 'choice', whose course the data decide"):
        find_head(source)
    assert find_classifier(source, needs_head=False).scores.shipped == "y"


def test_branches_that_share_names_with_the_rest_stay_where_they_are():
    source = model("c = Identity (yes)", "g = Relu (f)  t_y = MatMul (g, W)", text(WRONG, "e"))
    twice = onnx.ModelProto()
    twice.CopyFrom(source)
    again = twice.graph.node.add()
    again.CopyFrom(source.graph.node[-1])
    again.name, again.output[0] = "again", "z"
    output = twice.graph.output.add()
    output.CopyFrom(source.graph.output[0])
    output.name = "z"
    written = write_out_branches(twice)
    assert [node.op_type for node in written.graph.node].count("If") == 2
    assert [node.op_type for node in write_out_branches(source).graph.node].count("If") == 0


def test_an_input_that_is_only_constant_by_default_decides_nothing():
    source = model("c = Identity (flag)", text(HEAD, "t"), text(WRONG, "e"))
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "flag"))
    assert find_head(source).head.node == "head"
    source.graph.input.append(onnx.helper.make_tensor_value_info("flag", 9, []))
    with pytest.raises(HeadError, match="the data decide"):
        find_head(source)


@pytest.mark.parametrize(
    "before",
    [
        # Each is well formed as far as a file can tell, and makes no sense.
        "c = Equal (sizes, three)",
        "k = Gather (sizes, four)  c = Equal (k, four)",
        "k = Reshape (sizes, seven)  c = Equal (k, k)",
        "k = Div (four, first)  c = Equal (k, k)",
        "k = Slice (sizes, none, none)  c = Cast <to = 9> (k)",
    ],
)
def test_conditions_that_make_no_sense_decide_nothing(before):
    source = model(before, text(HEAD, "t"), text(WRONG, "e"))
    for name, values in {"three": [1, 2, 3], "seven": [7], "none": [0]}.items():
        source.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    assert write_out_branches(source) is source
    with pytest.raises(HeadError, match="inside If"):
        find_head(source)
