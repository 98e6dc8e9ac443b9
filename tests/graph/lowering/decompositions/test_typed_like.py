"""`CastLike` as a `Cast`: what gives the type is no source of the value."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.graph.attack_steps.hidden_slopes import build_hidden_slopes
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.specialise import specialise

# As the body of the standard's Attention guards its softmax: a number of the type of a row.
TEXT = """<ir_version: 8, opset_import: ["" : 20]>
    net (float[N, 2, 3] x) => (float[N, 4] y) <float[1] zero = {0.0}> {
        p = Softmax (x)
        none = CastLike (zero, p)
        wrong = IsNaN (p)
        q = Where (wrong, none, p)
        f = Flatten (q)
        y = MatMul (f, w)
    }"""


def model() -> onnx.ModelProto:
    made = onnx.parser.parse_model(TEXT)
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    return made


def test_hidden_slopes_behind_it_can_be_looked_for() -> None:
    """What it takes the type of may have more axes than what it casts."""
    build_hidden_slopes(model(), {"x": (5, 2, 3)}, "x", "y")


@pytest.mark.parametrize("source, target", [(1, 11), (11, 1), (7, 1), (1, 7)])
def test_values_are_cast(source: int, target: int) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 20]> net (float[3] x) => (y) {{
        a = Cast <to = {source}> (x)  like = Cast <to = {target}> (x)  y = CastLike (a, like) }}"""
    parsed = onnx.parser.parse_model(text)
    x = np.array([0.4, -1.6, 2.5], np.float32)
    working = specialise(parsed, {"x": (3,)}, has_rule)
    made = working.finish([("cast", working.tensor("y"))])
    assert "CastLike" not in {node.op_type for node in made.graph.node}
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["cast"], {"x": x})
    (expected,) = map(np.asarray, ReferenceEvaluator(parsed).run(None, {"x": x}))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
