"""Scores at positions that are picked, pooled and turned: found where the model reads its answer.

Every chain ends in scores [n, C], which a Softmax follows; what is found must hold them, run by
ONNX's reference evaluator.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.taps import tap

# What follows scores [n, T, C], and what follows scores [n, C, T].
TOKENS_FIRST = {
    "mean": "s = ReduceMean <axes = [1], keepdims = 0> (l)",
    "mean by a negative axis": "s = ReduceMean <axes = [-2], keepdims = 0> (l)",
    "kept axis": "t = ReduceMax <axes = [1]> (l)  s = Flatten (t)",
    "highest": "s = ReduceMax <axes = [1], keepdims = 0> (l)",
    "first": "s = Gather <axis = 1> (l, zero)",
    "last, as a slice": "t = Slice (l, minus, far, one)  s = Squeeze (t, one)",
    "turned, then pooled": "t = Transpose <perm = [0, 2, 1]> (l)  "
    "s = ReduceMean <axes = [2], keepdims = 0> (t)",
    "turned, then pooled as a map": "t = Transpose <perm = [0, 2, 1]> (l)  "
    "p = GlobalAveragePool (t)  s = Squeeze (p, two)",
    "turned, then picked": "t = Transpose <perm = [1, 0, 2]> (l)  s = Gather <axis = 0> (t, zero)",
}
CLASSES_FIRST = {
    "mean": "s = ReduceMean <axes = [2], keepdims = 0> (l)",
    "pooled as a map": "p = GlobalAveragePool (l)  s = Flatten (p)",
    "last": "s = Gather <axis = 2> (l, minus0)",
    "turned, then first": "t = Transpose <perm = [0, 2, 1]> (l)  s = Gather <axis = 1> (t, zero)",
}


def model(body: str, x: str, layer: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[{x}] x) => (float[N, C] y)
        <float[2, 3] w = {{1, -2, 0.5, 3, 1, -1}}, float[3, 2] v = {{1, 3, -2, 1, 0.5, -1}},
        int64 zero = {{0}}, int64 minus0 = {{-1}}, int64[1] minus = {{-1}}, int64[1] far = {{99}},
        int64[1] one = {{1}}, int64[1] two = {{2}}>
        {{ h = Tanh (x)  l = MatMul ({layer})  {body}  y = Softmax <axis = 1> (s) }}"""
    )


@pytest.mark.parametrize("moved", ["Reshape (z, flat)", "Squeeze (z, first)"])
def test_scores_of_one_sample_that_leave_its_axis_out_are_those_before(moved: str):
    """Models that were exported for one sample often put its scores out alone."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[1, 3] x) => (float[4] y) <int64[1] flat = {{-1}}, int64[1] first = {{0}}>
        {{ h = Tanh (x)  z = Gemm (h, w)  y = {moved} }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 4), np.float32), "w"))
    assert find_head(model).head.logits == "z"


@pytest.mark.parametrize("positions", ["5", "T"])
@pytest.mark.parametrize(
    ("body", "x", "layer"),
    [
        *((body, "N, {}, 2", "h, w") for body in TOKENS_FIRST.values()),
        *((body, "N, 2, {}", "v, h") for body in CLASSES_FIRST.values()),
    ],
    ids=[
        *(f"[n, T, C], {name}" for name in TOKENS_FIRST),
        *(f"[n, C, T], {n}" for n in CLASSES_FIRST),
    ],
)
def test_the_scores_are_those_that_the_answer_is_read_from(body, x, layer, positions):
    built = model(body, x.format(positions), layer)
    found = find_classifier(built).scores
    sample = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    sample = sample if layer == "h, w" else sample.transpose(0, 2, 1)
    scores, logits = ReferenceEvaluator(tap(built, ["s", found.shipped])).run(
        ["s", found.shipped], {"x": sample}
    )
    assert scores.shape == (4, 3)
    np.testing.assert_array_equal(logits.reshape(4, -1), scores)


@pytest.mark.parametrize(
    "body",
    [
        # The classes are pooled, not the positions; a segmenter's answer.
        "m = ReduceMean <axes = [1], keepdims = 0> (l)  s = Identity (m)",
        # One class is picked at all positions.
        "s = Gather <axis = 1> (l, zero)",
    ],
)
def test_what_becomes_of_the_classes_is_no_pooling_of_positions(body):
    with pytest.raises(HeadError, match=r"at 5 positions|answers with 5 numbers"):
        find_classifier(model(body, "N, 2, 5", "v, h"))
