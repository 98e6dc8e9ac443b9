"""Gradient rules of activations, against central differences, ONNX Runtime and torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import attributes, one_node
from tests.support.ortcheck import check_both

PLAIN = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "ThresholdedRelu",
    "Shrink",
    "HardSigmoid",
    "HardSwish",
    "Softsign",
    "Sigmoid",
    "Softplus",
    "Mish",
    "Gelu",
]
SETTINGS = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "Celu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "Shrink": ("lambd", "bias"),
    "HardSigmoid": ("alpha", "beta"),
}


def away_from_kinks(*kinks: float) -> np.ndarray:
    """Return points on either side of each kink, none within 0.01 of one."""
    x = np.linspace(-5, 5, 36)
    near = np.abs(x[:, None] - np.array([0.0, *kinks])[None]).min(axis=1) < 0.01
    return (x + 0.03 * near).reshape(6, 6)


@pytest.mark.parametrize("op_type", PLAIN)
def test_defaults(op_type: str) -> None:
    x = away_from_kinks(-3, 3, -2.5, 2.5, 0.5, -0.5, 1.0)
    check_both(one_node(f"y = {op_type}(x)", "double[?, ?] x", opset=20), {"x": x})


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([0.3, 0.5, 1.25, 2.0]), min_size=2, max_size=2))
@pytest.mark.parametrize("op_type", sorted(SETTINGS))
def test_settings(op_type: str, values: list[float]) -> None:
    given_values = dict(zip(SETTINGS[op_type], values, strict=False))
    a, b = values
    kinks = [a, -a, -b / a, (1 - b) / a]
    text = one_node(f"y = {op_type}{attributes(**given_values)}(x)", "double[?, ?] x", opset=20)
    check_both(text, {"x": away_from_kinks(*kinks)})


def test_gelu_by_tanh() -> None:
    text = one_node('y = Gelu<approximate = "tanh">(x)', "double[?, ?] x", opset=20)
    check_both(text, {"x": away_from_kinks()})


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish(alpha: float) -> None:
    # The runtime may lack the operator, which opset 24 brought.
    text = one_node(f"y = Swish<alpha: float = {alpha}>(x)", "double[?, ?] x", opset=24)
    check_gradient(text, {"x": away_from_kinks()})


@pytest.mark.parametrize("slope", [(1,), (3,), (3, 1), (2, 3, 4), (2, 1, 1)])
def test_prelu(slope: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.choice([-1, 1], (2, 3, 3)) * rng.uniform(0.1, 2, (2, 3, 3))
    if slope[-1] == 4:
        x = np.concatenate([x, x[..., :1]], axis=2)
    text = one_node(
        "y = PRelu(x, s)", f"double[?, ?, ?] x, double[{', '.join('?' * len(slope))}] s"
    )
    check_both(text, {"x": x, "s": rng.uniform(0.1, 0.5, slope)})


@pytest.mark.parametrize(
    ("op_type", "function"),
    [
        ("Relu", "relu"),
        ("HardSigmoid<alpha: float = 0.16666667>", "hardsigmoid"),
        ("HardSwish", "hardswish"),
        ("Elu", "elu"),
        ("Softplus", "softplus"),
        ("Mish", "mish"),
        ("Gelu", "gelu"),
    ],
)
def test_as_torch_far_out_and_at_zero(op_type: str, function: str) -> None:
    torch = pytest.importorskip("torch")
    x = np.array([-60.0, -20.0, 0.0, 20.0, 60.0])
    model = gradient_model(
        onnx.parser.parse_model(one_node(f"y = {op_type}(x)", opset=20)), {"x": x.shape}, ["x"]
    )
    found = ReferenceEvaluator(model).run(None, {"x": x, "seed_y": np.ones(5)})[0]
    tensor = torch.tensor(x, requires_grad=True)
    expected = torch.autograd.grad(getattr(torch.nn.functional, function)(tensor).sum(), tensor)[0]
    # At its kink a Relu6-like function may have either side's derivative.
    smooth = x != 0 if function in ("elu",) else np.full(5, True)
    np.testing.assert_allclose(found[smooth], expected.numpy()[smooth], atol=1e-6)
