"""Quantised operators one by one: each has the gradient of the real one on the same numbers.

By torch's autograd, on what the integers stand for; where an output lies at an end of its range it
counts as clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloakify.graph.lowering.run_once import run_once
from tests.support.gradcheck import gradient_model

torch = pytest.importorskip("torch", reason="torch is the oracle here")
functional = torch.nn.functional

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Operator:
    """How an operator is called, on q (s, z) and constants w (t, u) for r (o, p), and what it is.

    ``channels`` is the axis of w along which its scale may vary.
    """

    call: str
    shape: tuple[int, ...]
    function: Function
    weights: tuple[int, ...] = (1,)
    channels: int | None = None


QUANTISED = "q, s, z, w, t, u, o, p"
TURNED = "w, t, u, q, s, z, o, p"


def leaky(slope: float) -> Function:
    return lambda x, w: torch.where(x < 0, slope * x, x)


OPERATORS = {
    "QLinearConv": Operator(
        f"QLinearConv<group = 2, pads = [1, 0, 0, 1], strides = [1, 2]>({QUANTISED})",
        (2, 4, 5, 6),
        lambda x, w: functional.conv2d(functional.pad(x, (0, 1, 1, 0)), w, stride=(1, 2), groups=2),
        (6, 2, 3, 2),
        channels=0,
    ),
    "QLinearMatMul": Operator(
        f"QLinearMatMul({QUANTISED})", (2, 3, 4), lambda x, w: x @ w, (4, 5), channels=1
    ),
    "QLinearMatMul, turned": Operator(
        f"QLinearMatMul({TURNED})", (2, 4, 5), lambda x, w: w @ x, (3, 4)
    ),
    "QLinearAdd": Operator(
        f"com.microsoft.QLinearAdd({QUANTISED})", (2, 3, 4), lambda x, w: x + w, (3, 1)
    ),
    "QLinearAdd, turned": Operator(
        f"com.microsoft.QLinearAdd({TURNED})", (3, 1), lambda x, w: x + w, (2, 3, 4)
    ),
    "QLinearMul": Operator(
        f"com.microsoft.QLinearMul({QUANTISED})", (3, 1), lambda x, w: x * w, (2, 3, 4)
    ),
    "QLinearMul, turned": Operator(
        f"com.microsoft.QLinearMul({TURNED})", (2, 3, 4), lambda x, w: x * w, (3, 1)
    ),
    "QLinearConcat": Operator(
        "com.microsoft.QLinearConcat<axis = 1>(o, p, w, t, u, q, s, z)",
        (2, 3, 4),
        lambda x, w: torch.cat([w, x], 1),
        (2, 2, 4),
    ),
    "QLinearLeakyRelu": Operator(
        "com.microsoft.QLinearLeakyRelu<alpha = 0.3>(q, s, z, o, p)", (2, 9), leaky(0.3)
    ),
    "QLinearLeakyRelu, as it is": Operator(
        "com.microsoft.QLinearLeakyRelu(q, s, z, o, p)", (2, 9), leaky(0.01)
    ),
    "QLinearSigmoid": Operator(
        "com.microsoft.QLinearSigmoid(q, s, z, o, p)", (2, 9), lambda x, w: torch.sigmoid(x)
    ),
    "QLinearGlobalAveragePool": Operator(
        "com.microsoft.QLinearGlobalAveragePool<channels_last = 0>(q, s, z, o, p)",
        (2, 3, 4, 5),
        lambda x, w: x.mean((2, 3), keepdim=True),
    ),
    "QLinearGlobalAveragePool, channels last": Operator(
        "com.microsoft.QLinearGlobalAveragePool<channels_last = 1>(q, s, z, o, p)",
        (2, 4, 5, 3),
        lambda x, w: x.mean((1, 2), keepdim=True),
    ),
    "QLinearAveragePool": Operator(
        "com.microsoft.QLinearAveragePool<kernel_shape = [2, 3], strides = [2, 1], "
        "pads = [1, 1, 1, 1], count_include_pad = 1>(q, s, z, o, p)",
        (2, 3, 4, 5),
        lambda x, w: functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1)), (2, 3), (2, 1)),
    ),
    "QGemm": Operator(
        "com.microsoft.QGemm<alpha = 0.5>(q, s, z, w, t, u, , o, p)",
        (3, 4),
        lambda x, w: 0.5 * x @ w,
        (4, 5),
        channels=1,
    ),
    "QGemm, transposed": Operator(
        "com.microsoft.QGemm<transA = 1, transB = 1>(q, s, z, w, t, u, , o, p)",
        (4, 3),
        lambda x, w: x.T @ w.T,
        (5, 4),
        channels=0,
    ),
}


@st.composite
def numbers(draw: st.DrawFn, operator: Operator) -> dict[str, np.ndarray]:
    """Return x, and all that a call names: integers, scales and zero points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = np.dtype(draw(st.sampled_from([np.uint8, np.int8])))
    middle = 128 if kind == np.uint8 else 0
    found = {
        "x": rng.standard_normal(operator.shape).astype(np.float32),
        # Nothing of x is clipped.
        "s": np.float32(draw(st.floats(0.05, 0.2))),
        "z": np.array(middle + draw(st.integers(-9, 9)), kind),
    }
    apart = operator.channels is not None and draw(st.booleans())
    count = operator.weights[operator.channels or 0] if apart else 1
    scales = rng.uniform(0.01, 0.05, count).astype(np.float32)
    # Of weights with a scale for each channel the zero points are 0, as the runtime wants them.
    held = np.dtype(np.int8) if apart else kind
    zero = 0 if apart else middle + draw(st.integers(-9, 9))
    found["w"] = rng.integers(0, 256, operator.weights).astype(np.uint8).view(held)
    found["t"] = scales if apart else scales[0]
    found["u"] = np.full(count, zero, held) if apart else np.array(zero, held)
    found["p"] = np.array(middle + draw(st.integers(-9, 9)), kind)
    return found


def real(integers: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int | None) -> Any:
    """Return what integers stand for, as torch's doubles."""
    wide = [1] * integers.ndim
    if np.size(scale) > 1:
        wide[axis or 0] = -1
    parts = (np.asarray(part, np.float64).reshape(wide) for part in (scale, zero))
    by, without = parts
    return torch.tensor((integers.astype(np.float64) - without) * by)


def parsed(body: str, x: np.ndarray, given: dict[str, np.ndarray], output: str) -> onnx.ModelProto:
    """Return a model of float x, with all else that is given as constants."""
    shape = ", ".join(map(str, x.shape))
    model = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        f (float[{shape}] x) => ({output}) {{ {body} }}"""
    )
    for name, values in given.items():
        if name in body.replace(",", " ").replace(")", " ").replace("(", " ").split():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    return model


# What puts out a float, or an integer that nothing is clipped of: whole bodies, from x to y.
UNCLIPPED = {
    "MatMulIntegerToFloat": Operator(
        "q = QuantizeLinear(x, s, z)  y = com.microsoft.MatMulIntegerToFloat(q, w, s, t, z, u)",
        (2, 3, 4),
        lambda x, w: x @ w,
        (4, 5),
        channels=1,
    ),
    "MatMulIntegerToFloat, turned": Operator(
        "q = QuantizeLinear(x, s, z)  y = com.microsoft.MatMulIntegerToFloat(w, q, t, s, u, z)",
        (4, 5),
        lambda x, w: w @ x,
        (3, 4),
    ),
    "DynamicQuantizeMatMul": Operator(
        "y = com.microsoft.DynamicQuantizeMatMul(x, w, t, u)",
        (2, 3, 4),
        lambda x, w: x @ w,
        (4, 5),
        channels=1,
    ),
    "MatMulInteger": Operator(
        "q = QuantizeLinear(x, s, z)  i = MatMulInteger(q, w, z, u)  f = Cast<to = 1>(i)  "
        "a = Mul(f, s)  y = Mul(a, t)",
        (2, 3, 4),
        lambda x, w: x @ w,
        (4, 5),
    ),
    "ConvInteger": Operator(
        "q = QuantizeLinear(x, s, z)  f = Mul(s, t)  "
        "i = ConvInteger<group = 2, pads = [1, 0, 0, 1], strides = [1, 2]>(q, w, z, u)  "
        "c = Cast<to = 1>(i)  y = Mul(c, f)",
        (2, 4, 5, 6),
        lambda x, w: functional.conv2d(functional.pad(x, (0, 1, 1, 0)), w, stride=(1, 2), groups=2),
        (6, 2, 3, 2),
    ),
}


@pytest.mark.parametrize("name", UNCLIPPED)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_what_is_not_clipped_has_all_of_it(name: str, data: st.DataObject) -> None:
    operator = UNCLIPPED[name]
    given_so = data.draw(numbers(operator))
    x = given_so.pop("x")
    tensor = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    weights = real(given_so["w"], given_so["t"], given_so["u"], operator.channels)
    y = operator.function(tensor, weights)
    seed = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    (expected,) = torch.autograd.grad(y, tensor, torch.tensor(seed, dtype=torch.float64))
    built = gradient_model(parsed(operator.call, x, given_so, "float y"), {"x": x.shape}, ["x"])
    asked = {value.name for value in built.graph.input}
    feeds = {name: values for name, values in {"x": x, "seed_y": seed}.items() if name in asked}
    (found,) = run_once(built, feeds)
    largest = float(expected.abs().max())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * largest)


@pytest.mark.parametrize("name", OPERATORS)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_the_gradient_is_that_of_real_numbers(name: str, data: st.DataObject) -> None:
    operator = OPERATORS[name]
    given_so = data.draw(numbers(operator))
    x, kind = given_so.pop("x"), given_so["p"].dtype
    limits = np.iinfo(kind)
    stored = np.clip(np.rint(x / given_so["s"]) + given_so["z"], limits.min, limits.max)
    tensor = real(stored, given_so["s"], given_so["z"], None).requires_grad_()
    weights = real(given_so["w"], given_so["t"], given_so["u"], operator.channels)
    y = operator.function(tensor, weights)
    # Some of what comes out may be clipped.
    largest = float(y.detach().abs().max())
    given_so["o"] = np.float32(max(largest, 1e-3) / data.draw(st.integers(80, 200)))
    # Of what is a limit by rounding alone, either may be said.
    exact = y.detach().numpy() / given_so["o"] + given_so["p"]
    assume(min(np.abs(exact - limit).min() for limit in (limits.min, limits.max)) > 0.51)
    body = f"q = QuantizeLinear(x, s, z)  r = {operator.call}"
    output = "uint8 r" if kind == np.uint8 else "int8 r"
    (integers,) = run_once(parsed(body, x, given_so, output), {"x": x})
    assert integers.shape == tuple(y.shape)
    within = (integers > limits.min) & (integers < limits.max)
    seed = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
    (expected,) = torch.autograd.grad(y, tensor, torch.tensor(seed * within, dtype=torch.float64))
    whole = parsed(f"{body}  y = DequantizeLinear(r, o, p)", x, given_so, "float y")
    (found,) = run_once(gradient_model(whole, {"x": x.shape}, ["x"]), {"x": x, "seed_y": seed})
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5 * largest)
