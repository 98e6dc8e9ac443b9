"""Attributes that are left out: a rule takes the standard's values for them.

The reference evaluator has its own, and the numbers are such that every one of them shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import check_gradient, gradient_model
from tests.support.onnxtext import one_node


@dataclass(frozen=True)
class Call:
    """A node with no attribute that it can be without.

    ``inputs`` are doubles besides x, ``scale`` is the size of x's numbers.
    """

    text: str
    shape: tuple[int, ...]
    scale: float = 1.0
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: str = ""
    opset: int = 18
    wanted: tuple[str, ...] | None = None


IMAGE, MATRIX = (2, 4, 5, 6), (3, 4)
AXES = "int64[1] axes = {1}"
CALLS = [
    Call("Celu(x)", MATRIX),
    Call("Elu(x)", MATRIX),
    Call("Gelu(x)", MATRIX, opset=20),
    Call("HardSigmoid(x)", MATRIX),
    Call("LeakyRelu(x)", MATRIX),
    Call("Selu(x)", MATRIX),
    Call("Shrink(x)", MATRIX),
    Call("ThresholdedRelu(x)", MATRIX, 2.0),
    Call("LogSoftmax(x)", (2, 3, 4)),
    Call("Softmax(x)", (2, 3, 4)),
    Call("Gemm(x, b, c)", MATRIX, inputs={"b": (4, 5), "c": (5,)}),
    Call("Conv(x, w)", IMAGE, inputs={"w": (3, 4, 2, 3)}, wanted=("x",)),
    Call("ConvTranspose(x, w)", IMAGE, inputs={"w": (4, 3, 2, 3)}, wanted=("x",)),
    Call("MaxPool<kernel_shape = [2, 3]>(x)", IMAGE),
    Call("AveragePool<kernel_shape = [2, 3], pads = [1, 1, 0, 1]>(x)", IMAGE),
    Call("LpPool<kernel_shape = [2, 3]>(x)", IMAGE),
    Call("GlobalLpPool(x)", IMAGE),
    Call(
        "Col2Im(x, image, block)",
        (2, 8, 9),
        constants="int64[2] image = {4, 4}, int64[2] block = {2, 2}",
    ),
    # The numbers are small, so that what is added to a variance counts beside it.
    Call("LayerNormalization(x, s)", (2, 3, 4), 0.01, {"s": (4,)}),
    Call("InstanceNormalization(x, s, b)", IMAGE, 0.01, {"s": (4,), "b": (4,)}, wanted=("x",)),
    Call("BatchNormalization(x, s, s, s, v)", IMAGE, 0.01, {"s": (4,)}, wanted=("x",),
         constants="double[4] v = {0.00001, 0.0001, 0.00002, 0.001}"),
    Call("GroupNormalization<num_groups = 2>(x, s, s)", IMAGE, 0.01, {"s": (4,)}, opset=21,
         wanted=("x",)),
    Call("LpNormalization(x)", (2, 3, 4)),
    # And here they are large, for a factor of 0.0001.
    Call("LRN<size = 3>(x)", IMAGE, 100.0),
    Call("Transpose(x)", (2, 3, 4)),
    Call("DepthToSpace<blocksize = 2>(x)", (2, 8, 3, 4)),
    Call("SpaceToDepth<blocksize = 2>(x)", (2, 3, 4, 6)),
    Call("Pad(x, pads)", MATRIX, constants="int64[4] pads = {1, 0, 2, 3}"),
    Call("Concat<axis = 1>(x, b)", MATRIX, inputs={"b": (3, 2)}),
    Call("Gather(x, i)", MATRIX, constants="int64[4] i = {2, 0, 2, 1}"),
    Call("GatherElements(x, i)", MATRIX, constants="int64[2, 2] i = {2, 0, 1, 1}"),
    Call("GatherND(x, i)", MATRIX, constants="int64[2, 2] i = {2, 0, 1, 3}"),
    Call("Compress(x, c)", MATRIX, constants="bool[9] c = {1, 0, 0, 1, 1, 0, 0, 1, 1}"),
    Call("ScatterElements(x, i, u)", MATRIX, inputs={"u": (2, 2)},
         constants="int64[2, 2] i = {2, 0, 1, 1}"),
    Call("ScatterND(x, i, u)", MATRIX, inputs={"u": (2, 4)}, constants="int64[2, 1] i = {2, 0}"),
    Call("Trilu(x)", (2, 3, 4)),
    Call("ReverseSequence(x, n)", (4, 3, 2), constants="int64[3] n = {1, 3, 4}"),
    Call("CumSum(x, a)", MATRIX, constants="int64 a = {1}"),
    *(
        Call(f"Reduce{kind}(x, axes)", (2, 3, 4), constants=AXES)
        for kind in ("Max", "Mean", "Prod", "Sum", "SumSquare", "L1", "L2", "LogSumExp")
    ),
    Call("ReduceSum(x)", (2, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.text)
def test_what_is_left_out_is_as_the_standard_has_it(call: Call) -> None:
    rng = np.random.default_rng(0)
    feeds = {"x": call.scale * rng.standard_normal(call.shape)}
    feeds |= {name: rng.standard_normal(shape) for name, shape in call.inputs.items()}
    kinds = [f"double[{', '.join(map(str, values.shape))}] {n}" for n, values in feeds.items()]
    if call.wanted is not None:
        # What has no gradient is given as a constant.
        constants = [n for n in feeds if n not in call.wanted]
        kinds = kinds[:1]
        initial = {n: feeds.pop(n) for n in constants}
    else:
        initial = {}
    text = one_node(f"y = {call.text}", ", ".join(kinds), call.opset, call.constants)
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, n) for n, values in initial.items()
    )
    step = 1e-6 * min(1.0, call.scale)
    check_gradient(model, feeds, call.wanted, step=step)


@pytest.mark.parametrize("quantise", [False, True])
@pytest.mark.parametrize("rank", [2, 3])
def test_scales_go_with_the_second_axis(rank: int, quantise: bool) -> None:
    """Of numbers on the way, and of weights; by NumPy, with another scale for each position."""
    rng = np.random.default_rng(rank)
    shape = (2, 3, 4)[:rank]
    scale = np.array([0.5, 0.25, 0.125], np.float32)
    zero = np.array([3, -7, 0], np.int8)
    stored = rng.integers(-100, 100, shape).astype(np.int8)
    body = "w = DequantizeLinear(i, s, z)  y = Mul(x, w)"
    if quantise:
        body = "q = QuantizeLinear(x, s, z)  w = DequantizeLinear(q, s, z)  y = Mul(w, h)"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (float[{", ".join(map(str, shape))}] x) => (float y) {{ {body} }}"""
    )
    wide = (3, *[1] * (rank - 2))
    half = rng.standard_normal(shape).astype(np.float32)
    constants = {"s": scale, "z": zero, "i": stored, "h": half}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, n)
        for n, values in constants.items()
        if n in ("s", "z", "h" if quantise else "i")
    )
    # Some of it beyond what eight bits hold, by the scale of its own position.
    x = (scale.reshape(wide) * rng.uniform(-200, 200, shape)).astype(np.float32)
    seed = rng.standard_normal(shape).astype(np.float32)
    built = gradient_model(model, {"x": shape}, ["x"])
    names = {value.name for value in built.graph.input}
    feeds = {n: v for n, v in {"x": x, "seed_y": seed}.items() if n in names}
    (found,) = ReferenceEvaluator(built).run(None, feeds)
    if quantise:
        steps = x / scale.reshape(wide) + zero.reshape(wide)
        expected = np.where((steps >= -128.5) & (steps <= 127.5), seed * half, 0)
    else:
        real = (stored.astype(np.float32) - zero.reshape(wide)) * scale.reshape(wide)
        expected = seed * real
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
