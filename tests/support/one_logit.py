"""A small network with one logit in every form that exporters give it, and its twin with two."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

Array = NDArray[np.float32]

FEATURES, WIDTH = 10, 16

# From the column z of logits to outputs: names, types, nodes.
ENDINGS = {
    "logit": ("float[N, 1] y", "y = Identity (z)"),
    "squeezed logit": ("float[N] y", "y = Squeeze (z, one)"),
    "sigmoid": ("float[N, 1] y", "y = Sigmoid (z)"),
    "squeezed sigmoid": ("float[N] y", "p = Sigmoid (z)  y = Squeeze (p, one)"),
    "sigmoid of the squeezed": ("float[N] y", "s = Squeeze (z, one)  y = Sigmoid (s)"),
    "map": ("float[N, 1, 1, 1] y", "p = Sigmoid (z)  y = Unsqueeze (p, last)"),
    "answer": (
        "bool[N, 1] y, float[N, 1] p",
        "p = Sigmoid (z)  y = Greater (p, half)",
    ),
    "answer of the logit": (
        "int64[N, 1] y",
        "g = Greater (z, zero)  y = Cast <to = 7> (g)",
    ),
    "both": (
        "float[N, 2] y",
        "p = Sigmoid (z)  q = Sub (unit, p)  y = Concat <axis = 1> (q, p)",
    ),
    "answer of the other class": (
        "bool[N, 1] y",
        "p = Sigmoid (z)  q = Sub (unit, p)  y = Less (q, half)",
    ),
    "chosen": (
        "int64[N, 1] k",
        "p = Sigmoid (z)  q = Sub (unit, p)  y = Concat <axis = 1> (q, p)"
        "  k = ArgMax <axis = 1> (y)",
    ),
    "beside zeros": (
        "float[N, 2] y",
        "n = Sub (z, z)  l = Concat <axis = 1> (n, z)  y = Softmax (l)",
    ),
    "written out": (
        "float[N, 1] y",
        "m = Neg (z)  e = Exp (m)  s = Add (e, unit)  y = Reciprocal (s)",
    ),
}


class OneLogit:
    """An MLP x [N, 10] -> z [N, 1] with random weights, half of the samples on either side of 0."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.first = (rng.standard_normal((FEATURES, WIDTH)) * 2).astype(np.float32)
        self.shift = (-self.first.sum(axis=0) / 2).astype(np.float32)
        self.second = rng.standard_normal((WIDTH, 1)).astype(np.float32)
        middle = np.median(self.features(rng.random((500, FEATURES))) @ self.second)
        self.bias = np.array([-middle], np.float32)

    def features(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the features in double."""
        return np.tanh(x @ self.first.astype(np.float64) + self.shift)

    def logit(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return z [n] in double."""
        found: NDArray[np.float64] = (self.features(x) @ self.second + self.bias)[:, 0]
        return found

    def slope(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return ∂z/∂x [n, 10] in double."""
        inner = (1 - self.features(x) ** 2) * self.second[:, 0]
        found: NDArray[np.float64] = inner @ self.first.T.astype(np.float64)
        return found

    def model(self, ending: str = "sigmoid", threshold: float = 0.5) -> ModelProto:
        """Return the network with that ending; ``threshold`` is what an answer compares with."""
        outputs, nodes = ENDINGS[ending]
        half = f"float half = {{{threshold!r}}}, float zero = {{0}}, float unit = {{1}}"
        return self._with(
            outputs,
            nodes,
            half,
            self.second,
            self.bias,
            "int64[2] last = {2, 3}, int64[1] one = {1}",
        )

    def twin(self) -> ModelProto:
        """Return the same network with the logits 0 and z."""
        second = np.concatenate([np.zeros_like(self.second), self.second], axis=1)
        bias = np.array([0, self.bias[0]], np.float32)
        return self._with("float[N, 2] z", "", "float zero = {0}", second, bias, "float unit = {1}")

    def _with(
        self, outputs: str, nodes: str, constants: str, second: Array, bias: Array, more: str
    ) -> ModelProto:
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 18]>
            f (float[N, {FEATURES}] x) => ({outputs}) <{constants}, {more}>
            {{ a = Gemm (x, w1, b1)  h = Tanh (a)  z = Gemm (h, w2, b2)  {nodes} }}"""
        )
        weights = {"w1": self.first, "b1": self.shift, "w2": second, "b2": bias}
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in weights.items()
        )
        return model
