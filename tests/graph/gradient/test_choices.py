"""Straight through choices, against a softmax that torch differentiates."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.errors import NoGradientError
from cloakify.graph.attack_steps.build import GRADIENT, GradientSpec, build_gradient
from cloakify.runtime import Device, Session

torch = pytest.importorskip("torch", reason="torch's gradients are the oracle")

# From x [N, 4, 3] to y [N, 3, 4]: for each of three columns, the row of a table (one-hot or other).
CHOICES = {
    "hardmax": "h = Hardmax <axis = 1> (x) y = Transpose <perm = [0, 2, 1]> (h)",
    "one-hot": "k = ArgMax <axis = 1, keepdims = 0> (x) y = OneHot <axis = -1> (k, four, ends)",
    "one-hot, in front": "k = ArgMax <axis = 1, keepdims = 1> (x) s = Squeeze (k, middle) "
    "h = OneHot <axis = 1> (s, four, ends) y = Transpose <perm = [0, 2, 1]> (h)",
    "one-hot, smallest": "k = ArgMin <axis = 1, keepdims = 0> (x) "
    "y = OneHot <axis = -1> (k, four, ends)",
    "table": "k = ArgMax <axis = 1, keepdims = 0> (x) y = Gather (table, k)",
}
TABLE = np.random.default_rng(1).standard_normal((4, 4)).astype(np.float32)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", CHOICES)
def test_choices_are_shared_out(name: str, seed: int) -> None:
    off, on = (0.0, 1.0) if name == "hardmax" else (-1.0, 2.0)
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 4, 3] x) => (float[N, 12] z)
        <int64 four = {{4}}, float[2] ends = {{-1.0, 2.0}}, int64[1] middle = {{1}}>
        {{ {CHOICES[name]} z = Flatten (y) }}
    """)
    model.graph.initializer.append(onnx.numpy_helper.from_array(TABLE, "table"))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((5, 4, 3)).astype(np.float32)
    seeds = rng.standard_normal((5, 12)).astype(np.float32)
    spec = GradientSpec("x", "z", loss=None, straight_through=True)
    session = Session(build_gradient(model, {"x": x.shape}, spec), Device("cpu"))
    (found,) = session.run({"x": x, "cloakify_logits_gradient": seeds}, [GRADIENT]).values()
    given = torch.tensor(x, requires_grad=True)
    # A change of the deviation is no change of the choice.
    deviation = given.detach().std(1, correction=0, keepdim=True)
    signed = -given if name.endswith("smallest") else given
    shares = torch.softmax(signed / deviation, 1).transpose(1, 2)
    rows = shares @ torch.tensor(TABLE) if name == "table" else off + (on - off) * shares
    (rows.flatten(1) * torch.tensor(seeds)).sum().backward()
    np.testing.assert_allclose(found, given.grad.numpy(), rtol=1e-3, atol=1e-5)
    with pytest.raises(NoGradientError):
        build_gradient(model, {"x": x.shape}, GradientSpec("x", "z", loss=None))
