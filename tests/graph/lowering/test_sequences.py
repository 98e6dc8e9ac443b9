"""Sequences whose course is known are written out; ONNX Runtime and NumPy say what they hold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.sequences import MAKERS, READERS
from cloakify.graph.lowering.specialise import specialise
from tests.support.gradcheck import gradient_model
from tests.support.ortcheck import check_both

HEAD = """<ir_version: 8, opset_import: ["" : 18]> f (double[N, 8] x) => (double[N, M] y)
<int64[3] sizes = {1, 3, 4}, int64 three = {3}, int64 zero = {0}, int64 one = {1},
 int64 last = {-1}, int64 before = {-2}> {"""
BODIES = {
    "sizes": "q = SplitToSequence <axis = 1> (x, sizes)  a = SequenceAt (q, zero) "
    "b = SequenceAt (q, last)  c = Tanh (b)  y = Concat <axis = -1> (c, a)",
    "chunks, the last one smaller": "q = SplitToSequence <axis = -1> (x, three) "
    "a = SequenceAt (q, last)  b = SequenceAt (q, one)  c = Sin (b)  "
    "y = Concat <axis = 1> (a, c)",
    "columns": "q = SplitToSequence <axis = 1, keepdims = 0> (x)  a = SequenceAt (q, one) "
    "b = SequenceAt (q, before)  c = Mul (a, b)  s = SequenceConstruct (c, a, b, a) "
    "y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
    "columns of one": "q = SplitToSequence <axis = 1> (x) y = ConcatFromSequence <axis = 0> (q)",
    "put in and taken out": "t = Tanh (x)  e = Exp (x)  s = SequenceConstruct (x, t) "
    "u = SequenceInsert (s, e, one)  v = SequenceInsert (u, t)  w = SequenceErase (v, zero) "
    "k = SequenceErase (w)  y = ConcatFromSequence <axis = 1> (k)",
    "counted": "s = SequenceConstruct (x, x, x)  n = SequenceLength (s)  c = CastLike (n, x) "
    "y = Mul (x, c)",
    "of a size that a run tells": "h = Shape (x)  d = Gather (h, one)  p = Sub (d, three) "
    "q = SplitToSequence <axis = 1> (x, p)  a = SequenceAt (q, zero)  y = Tanh (a)",
}
X = np.random.default_rng(0).standard_normal((2, 8))


def operators(text: str) -> set[str]:
    graph = specialise(onnx.parser.parse_model(text), {"x": X.shape}).graph
    return {node.op for node in graph.nodes}


@pytest.mark.parametrize("body", BODIES)
def test_what_is_known_is_written_out(body: str) -> None:
    text = f"{HEAD} {BODIES[body]} }}"
    assert not operators(text) & (MAKERS | READERS)
    check_both(text, {"x": X})


def test_an_empty_one_that_tensors_are_put_into() -> None:
    text = HEAD.replace("double", "float") + (
        " e = SequenceEmpty ()  t = Tanh (x)  s = SequenceInsert (e, t)  u = SequenceInsert (s, x) "
        "y = ConcatFromSequence <axis = 1> (u) }"
    )
    x = X.astype(np.float32)
    lowered = specialise(onnx.parser.parse_model(text), {"x": x.shape})
    assert not {node.op for node in lowered.graph.nodes} & (MAKERS | READERS)
    model = gradient_model(onnx.parser.parse_model(text), {"x": x.shape}, ["x"])
    g = np.random.default_rng(1).standard_normal((2, 16)).astype(np.float32)
    (seed,) = (value.name for value in model.graph.input if value.name != "x")
    gradient = run_once(model, {"x": x, seed: g})[-1]
    np.testing.assert_allclose(gradient, g[:, :8] * (1 - np.tanh(x) ** 2) + g[:, 8:], atol=1e-5)


def test_a_position_by_the_data_is_refused() -> None:
    text = f"""{HEAD} i = ArgMax <axis = 1> (x)  j = ReduceMax <keepdims = 0> (i)
        s = SequenceConstruct (x, x)  k = Mod (j, one)  y = SequenceAt (s, k) }}"""
    with pytest.raises(UnsupportedOperatorError, match="SequenceConstruct"):
        specialise(onnx.parser.parse_model(text), {"x": X.shape})
