"""A small network with K independent labels, and the same in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.numeric.arrays import Labels
from tests.support.fragile import fragile_model, write_fragile

FEATURES, WIDTH, LABELS = 10, 16, 4

Doubles = NDArray[np.float64]

# From logits [N, K] to outputs: types and nodes.
ENDINGS = {
    "sigmoid": (f"float[N, {LABELS}] y", "y = Sigmoid (z)"),
    "logits": (f"float[N, {LABELS}] y", "y = Identity (z)"),
    "answers": (f"bool[N, {LABELS}] y", "p = Sigmoid (z)  y = Greater (p, half)"),
    "answers by label": (f"bool[N, {LABELS}] y", "p = Sigmoid (z)  y = Greater (p, halves)"),
}


class Labelled:
    """An MLP x [N, 10] -> z [N, K] with random weights, half of the samples on either side of 0."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.first = (rng.standard_normal((FEATURES, WIDTH)) * 2).astype(np.float32)
        self.shift = (-self.first.sum(axis=0) / 2).astype(np.float32)
        self.second = rng.standard_normal((WIDTH, LABELS)).astype(np.float32)
        middle = np.median(self.features(rng.random((500, FEATURES))) @ self.second, axis=0)
        self.bias = (-middle).astype(np.float32)

    def features(self, x: NDArray[np.floating]) -> Doubles:
        """Return the features in double."""
        return np.tanh(x @ self.first.astype(np.float64) + self.shift)

    def logits(self, x: NDArray[np.floating]) -> Doubles:
        """Return z [n, K] in double."""
        found: Doubles = self.features(x) @ self.second.astype(np.float64) + self.bias
        return found

    def labels(self, x: NDArray[np.floating]) -> Labels:
        """Return what the network answers, int64 [n, K]."""
        return (self.logits(x) > 0).astype(np.int64)

    def pulled_back(self, x: NDArray[np.floating], slope: Doubles) -> Doubles:
        """Return ∂loss/∂x [n, 10] from ∂loss/∂z [n, K]."""
        inner = (1 - self.features(x) ** 2) * (slope @ self.second.T.astype(np.float64))
        found: Doubles = inner @ self.first.T.astype(np.float64)
        return found

    def model(self, ending: str = "sigmoid", half: tuple[float, ...] = (0.5,)) -> ModelProto:
        """Return the network with that ending; ``half`` are the probabilities compared with."""
        outputs, nodes = ENDINGS[ending]
        bounds = ", ".join(map(repr, half if len(half) > 1 else half * LABELS))
        model = onnx.parser.parse_model(
            f"""<ir_version: 8, opset_import: ["" : 18]>
            f (float[N, {FEATURES}] x) => ({outputs})
            <float half = {{{half[0]!r}}}, float[{LABELS}] halves = {{{bounds}}}>
            {{ a = Gemm (x, w1, b1)  h = Tanh (a)  z = Gemm (h, w2, b2)  {nodes} }}"""
        )
        weights = {"w1": self.first, "b1": self.shift, "w2": self.second, "b2": self.bias}
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in weights.items()
        )
        return model


def write_labelled_fragile(folder: Path) -> tuple[Path, Path]:
    """Write the fragile classifier with two labels in place of two classes; return both paths.

    The first label is the class, the second its opposite, each with a sigmoid.
    """
    source, data = write_fragile(folder)
    model = fragile_model()
    model.graph.node[-1].output[0] = "z"
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["z"], ["logits"]))
    onnx.save(model, source)
    with np.load(data) as file:
        x, y = file["x"], file["y"]
    np.savez(data, x=x, y=np.stack([1 - y, y], axis=1))
    return source, data
