"""Quantised models: the true integer forward pass, and a gradient like the float model's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.graph.attack_steps.build import GRADIENT, LABELS, LOGITS, GradientSpec, build_gradient
from cloakify.graph.lowering.run_once import run_once
from cloakify.runtime import CPU, Session
from tests.support.gradcheck import gradient_model

quantization = pytest.importorskip("onnxruntime.quantization")

SHAPE = (4, 3, 12, 12)
CLASSIFIER = """<ir_version: 8, opset_import: ["" : 17]>
f (float[N, 3, 12, 12] x) => (float[N, 5] z) {
    c1 = Conv<pads: ints = [1, 1, 1, 1]>(x, w1, b1)
    r1 = Relu(c1)
    p1 = MaxPool<kernel_shape: ints = [2, 2], strides: ints = [2, 2]>(r1)
    c2 = Conv<pads: ints = [1, 1, 1, 1], group: int = 2>(p1, w2, b2)
    s2 = Sigmoid(c2)
    m2 = Mul(c2, s2)
    a2 = Add(m2, p1)
    c3 = Conv<strides: ints = [2, 2]>(a2, w3)
    k3 = Concat<axis: int = 1>(c3, c3)
    l3 = LeakyRelu<alpha: float = 0.2>(k3)
    g3 = GlobalAveragePool(l3)
    f3 = Flatten(g3)
    h3 = MatMul(f3, w4)
    z = Gemm<transB: int = 1>(h3, w5, b5)
}"""


def _classifier() -> onnx.ModelProto:
    model = onnx.parser.parse_model(CLASSIFIER)
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 4, 3, 3), "b2": (8,), "w3": (6, 8, 2, 2)}
    shapes |= {"w4": (12, 16), "w5": (5, 16), "b5": (5,)}
    for name, shape in shapes.items():
        fan = int(np.prod(shape[1:])) or 1
        values = (
            rng.standard_normal(shape) * (2 / fan) ** 0.5 if len(shape) > 1 else rng.random(shape)
        )
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(values.astype(np.float32), name)
        )
    return model


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            np.random.default_rng(1).standard_normal((8, *SHAPE)).astype(np.float32)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch}


def _static(form: str, per_channel: bool, activation: str) -> onnx.ModelProto:
    import tempfile

    kinds = {"uint8": quantization.QuantType.QUInt8, "int8": quantization.QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(_classifier(), source)
        quantization.quantize_static(
            source,
            target,
            _Reader(),
            quant_format=getattr(quantization.QuantFormat, form),
            per_channel=per_channel,
            activation_type=kinds[activation],
            weight_type=quantization.QuantType.QInt8,
        )
        return onnx.load(target)


def _dynamic() -> onnx.ModelProto:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
        onnx.save(_classifier(), source)
        quantization.quantize_dynamic(source, target, weight_type=quantization.QuantType.QUInt8)
        return onnx.load(target)


def _gradient(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the outputs of the gradient graph, and its logits as it stands (``written``)."""
    built = build_gradient(model, {"x": x.shape}, GradientSpec("x", "z"))
    feeds = {"x": x, LABELS: np.arange(len(x)) % 5}
    names = [value.name for value in built.graph.output]
    written = dict(zip(names, run_once(built, feeds), strict=True))[LOGITS]
    return {**Session(built, CPU, both_ways=True).run(feeds), "written": written}


CASES = {
    "qdq": lambda: _static("QDQ", False, "uint8"),
    "qdq per channel": lambda: _static("QDQ", True, "int8"),
    "qoperator": lambda: _static("QOperator", False, "uint8"),
    "qoperator per channel": lambda: _static("QOperator", True, "uint8"),
    "dynamic": _dynamic,
}


@pytest.mark.parametrize("case", CASES)
def test_quantised_classifier(case: str) -> None:
    model = CASES[case]()
    assert any("Quantize" in node.op_type or "Integer" in node.op_type for node in model.graph.node)
    x = np.random.default_rng(2).standard_normal(SHAPE).astype(np.float32)
    found, exact = _gradient(model, x), _gradient(_classifier(), x)
    if not case.startswith("qoperator"):
        # Where nothing can be cut off; see the test of weights that become unsigned.
        np.testing.assert_array_equal(found["written"], run_once(model, {"x": x})[0])
    shipped = Session(model, CPU).run({"x": x})["z"]
    spread = exact[LOGITS].std()
    np.testing.assert_allclose(shipped, found[LOGITS], atol=0.1 * spread)
    for quantised, real in zip(found[GRADIENT], exact[GRADIENT], strict=True):
        cosine = np.sum(quantised * real) / np.linalg.norm(quantised) / np.linalg.norm(real)
        assert cosine > 0.9, (case, cosine)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_rounding_is_passed_and_clipping_is_not(axis: int | None) -> None:
    count = 1 if axis is None else (2, 3)[axis]
    text = f"""<ir_version: 8, opset_import: ["" : 18]> f (float[2, 3] x) => (float y)
    <float[{count}] s = {{{", ".join(["0.5", "0.25", "1"][:count])}}},
     uint8[{count}] o = {{{", ".join(["10"] * count)}}}> {{
        q = QuantizeLinear{"" if axis is None else f"<axis: int = {axis}>"}(x, s, o)
        y = DequantizeLinear{"" if axis is None else f"<axis: int = {axis}>"}(q, s, o)
    }}"""
    if axis is None:
        text = text.replace("[1] s", " s").replace("[1] o", " o")
    model = gradient_model(onnx.parser.parse_model(text), {"x": (2, 3)}, ["x"])
    x = np.array([[0.1, -1000, 0], [1000, 1.3, -1.2]], np.float32)
    seed = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    (found,) = run_once(model, {"x": x, "seed_y": seed})
    np.testing.assert_allclose(found, np.where(np.abs(x) < 500, seed, 0))
