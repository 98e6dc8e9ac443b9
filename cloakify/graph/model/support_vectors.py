"""What an `SVMClassifier` of ai.onnx.ml holds, and how ONNX Runtime scores with it.

With support vectors it has a decision for each pair of classes i < j, as libsvm has (Chang & Lin,
LIBSVM: A Library for Support Vector Machines, section 4):

    d_ij(x) = Σ_v α_v,ij k(x, v) + ρ_ij                 above 0 for class i

It puts out d itself; for two classes [−d, d], though the label is class 0 where d is above 0; and
with Platt's numbers a, b the probabilities that are coupled from 1 / (1 + exp(a d + b)). Without
support vectors it has a row of coefficients for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from onnx import NodeProto
from onnx.helper import get_attribute_value

from cloakify.graph.model.rewrite import attribute
from cloakify.numeric.arrays import Doubles

_NUMBERS = ("support_vectors", "coefficients", "rho", "prob_a", "prob_b")


@dataclass(frozen=True)
class SupportVectors:
    """The numbers of one.

    Attributes
    ----------
    kernel, gamma, offset, degree
        ``LINEAR`` u·v, ``POLY`` (γ u·v + offset)^degree, ``RBF`` exp(−γ‖u − v‖²), ``SIGMOID``
        tanh(γ u·v + offset).
    vectors
        [V, D].
    weights, bias
        [V, P] and [P]: of each pair of classes, in order.
    pairs
        The P pairs.
    platt
        a and b [P] each; ``None`` where there are none.
    classes
        C.
    """

    kernel: str
    gamma: float
    offset: float
    degree: float
    vectors: Doubles
    weights: Doubles
    bias: Doubles
    pairs: tuple[tuple[int, int], ...]
    platt: tuple[Doubles, Doubles] | None
    classes: int

    @property
    def signs(self) -> Doubles:
        """[P, C]: 1 for the class that a decision above 0 is for, −1 for the other."""
        signs = np.zeros((len(self.pairs), self.classes))
        for place, (first, second) in enumerate(self.pairs):
            signs[place, first], signs[place, second] = 1, -1
        return signs

    def linear_scores(self) -> tuple[Doubles, Doubles]:
        """Return W [D, C] and b [C] of class scores, for a linear kernel.

        A class's score is the sum of what its pairs say for it, in log-odds where Platt's numbers
        are known: an order that nearly is the one of coupled probabilities.
        """
        weight, bias = self.vectors.T @ self.weights, self.bias
        if self.platt is not None:
            weight, bias = weight * -self.platt[0], bias * -self.platt[0] - self.platt[1]
        return weight @ self.signs, bias @ self.signs


def support_vector_sizes(attributes: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many features and classes a node's attributes are of.

    ``None`` where there are no support vectors, or as many numbers as do not fit: ONNX Runtime
    takes some such nodes.
    """
    counts = attributes.get("vectors_per_class", ())
    classes, total = len(counts), sum(counts)
    if classes < 2 or min(counts) < 0 or not total:
        return None
    pairs = classes * (classes - 1) // 2
    lengths = {key: len(attributes.get(key, ())) for key in _NUMBERS}
    if (
        lengths["support_vectors"] % total
        or lengths["coefficients"] != (classes - 1) * total
        or lengths["rho"] != pairs
        or lengths["prob_a"] != lengths["prob_b"]
        or lengths["prob_a"] not in (0, pairs)
    ):
        return None
    return lengths["support_vectors"] // total, classes


def read_support_vectors(node: NodeProto) -> SupportVectors | None:
    """Read a node; ``None`` where it has no support vectors, or numbers that do not fit."""
    attributes = {held.name: get_attribute_value(held) for held in node.attribute}
    sizes = support_vector_sizes(attributes)
    if sizes is None:
        return None
    features, classes = sizes
    counts = attributes["vectors_per_class"]
    flat, duals, bias, *platt = (np.array(attributes.get(key, []), np.float64) for key in _NUMBERS)
    total = sum(counts)
    pairs = tuple(combinations(range(classes), 2))
    ends = np.cumsum([0, *counts])
    duals = duals.reshape(classes - 1, total)
    weights = np.zeros((total, len(pairs)))
    for place, (first, second) in enumerate(pairs):
        for own, other in ((first, second - 1), (second, first)):
            rows = slice(ends[own], ends[own + 1])
            weights[rows, place] = duals[other, rows]
    gamma, offset, degree = [*attribute(node, "kernel_params", []), 0.0, 0.0, 0.0][:3]
    return SupportVectors(
        kernel=attribute(node, "kernel_type", "LINEAR"),
        gamma=gamma,
        offset=offset,
        degree=degree,
        vectors=flat.reshape(total, features),
        weights=weights,
        bias=bias,
        pairs=pairs,
        platt=(platt[0], platt[1]) if platt[0].size else None,
        classes=classes,
    )
