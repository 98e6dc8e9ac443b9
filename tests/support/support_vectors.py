"""Small `SVMClassifier` models with random numbers, and what libsvm's formulas make of them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

DIMENSIONS = 4


class Machine:
    """Support vectors of some classes, with a kernel and perhaps Platt's numbers."""

    def __init__(self, classes: int, kernel: str, *, platt: bool, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.classes, self.kernel, self.platt = classes, kernel, platt
        self.counts = [2 + place % 2 for place in range(classes)]
        self.owner = np.repeat(np.arange(classes), self.counts)
        self.vectors = rng.normal(size=(len(self.owner), DIMENSIONS)).astype(np.float32)
        self.duals = rng.normal(size=(classes - 1, len(self.owner))).astype(np.float32)
        self.pairs = list(combinations(range(classes), 2))
        self.rho = rng.normal(size=len(self.pairs)).astype(np.float32)
        self.a = -rng.uniform(0.5, 1.5, len(self.pairs)).astype(np.float32)
        self.b = rng.normal(size=len(self.pairs)).astype(np.float32) / 4
        self.parameters = [0.4, 0.3, 3.0]

    def model(self) -> onnx.ModelProto:
        more = {"prob_a": self.a, "prob_b": self.b} if self.platt else {}
        machine = helper.make_node(
            "SVMClassifier",
            ["f"],
            ["label", "scores"],
            "machine",
            domain="ai.onnx.ml",
            classlabels_ints=range(self.classes),
            coefficients=self.duals.ravel(),
            kernel_params=self.parameters,
            kernel_type=self.kernel,
            rho=self.rho,
            support_vectors=self.vectors.ravel(),
            vectors_per_class=self.counts,
            **more,
        )
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["f"]), machine],
            "machine",
            [helper.make_tensor_value_info("x", 1, ["N", DIMENSIONS])],
            [
                helper.make_tensor_value_info("label", 7, ["N"]),
                helper.make_tensor_value_info("scores", 1, ["N", self.columns]),
            ],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    @property
    def columns(self) -> int:
        """How many numbers come out for a sample."""
        return self.classes if self.platt or self.classes == 2 else len(self.pairs)

    def decisions(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [n, P], pair by pair and vector by vector."""
        gamma, offset, degree = self.parameters
        inner = x @ self.vectors.T.astype(float)
        apart = ((x[:, None] - self.vectors) ** 2).sum(axis=2)
        kernel = {
            "LINEAR": inner,
            "POLY": (gamma * inner + offset) ** degree,
            "RBF": np.exp(-gamma * apart),
            "SIGMOID": np.tanh(gamma * inner + offset),
        }[self.kernel]
        columns = []
        for place, (first, second) in enumerate(self.pairs):
            sums = np.full(len(x), float(self.rho[place]))
            for vector, owner in enumerate(self.owner):
                if owner == first:
                    sums += kernel[:, vector] * self.duals[second - 1, vector]
                elif owner == second:
                    sums += kernel[:, vector] * self.duals[first, vector]
            columns.append(sums)
        return np.stack(columns, axis=1)

    def probabilities(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return [n, C] by the iteration of Wu, Lin & Weng (algorithm 2), to its fixed point."""
        first = 1 / (1 + np.exp(self.a * self.decisions(x) + self.b))
        found = np.empty((len(x), self.classes))
        for row, shares in enumerate(first):
            r = np.zeros((self.classes, self.classes))
            for share, (i, j) in zip(shares, self.pairs, strict=True):
                r[i, j], r[j, i] = share, 1 - share
            q = -r.T * r
            np.fill_diagonal(q, (r**2).sum(axis=0))
            p = np.full(self.classes, 1 / self.classes)
            for _ in range(10_000):
                before = p.copy()
                for i in range(self.classes):
                    p[i] = (p @ q @ p - q[i] @ p + q[i, i] * p[i]) / q[i, i]
                    p /= p.sum()
                if np.abs(p - before).max() < 1e-14:
                    break
            found[row] = p
        return found

    def log_scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return for each class the sum of the logarithms of its pairs' probabilities; [n, C]."""
        found = np.zeros((len(x), self.classes))
        against = self.a * self.decisions(x) + self.b
        for place, (first, second) in enumerate(self.pairs):
            found[:, first] -= np.logaddexp(0, against[:, place])
            found[:, second] -= np.logaddexp(0, -against[:, place])
        return found
