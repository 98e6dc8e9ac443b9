"""The probabilities of an `SVMClassifier`, as nodes behind the decisions of its pairs.

ONNX Runtime couples what Platt's sigmoids say of each pair of classes as libsvm does (Wu, Lin &
Weng, Probability Estimates for Multi-class Classification by Pairwise Coupling, JMLR 5, 2004,
second method): with r_ij for class i against class j,

    Q_ii = Σ_{s≠i} r_si²,    Q_ij = −r_ji r_ij,    p minimises pᵀ Q p where Σ p = 1

It iterates until p changes by less than 0.005 / C. Here p is solved for: Q p = b 1 with a number b,
so (Q + 1 1ᵀ) p = (b + 1) 1, whose matrix is positive definite, so that elimination needs no
exchange of rows. All of it is in double, as classes that are all but excluded have probabilities
that are tiny, and logarithms; standard operators of any opset from 7 on do.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from cloakify.graph.model.rewrite import Writer
from cloakify.graph.model.support_vectors import SupportVectors

# Keeps what rounds to 0, or below, above it.
_LEAST = 1e-12


def add_coupled_probabilities(
    writer: Writer, read: SupportVectors, decisions: str, output: str
) -> None:
    """Write the probabilities [N, C] of a node that has Platt's numbers.

    Parameters
    ----------
    decisions
        What ONNX Runtime puts out without those: [N, P], or for two classes [−d, d].
    output
        What the probabilities are called.
    """
    assert read.platt is not None
    count = read.classes

    def constant(values: np.ndarray | float) -> str:
        return writer.constant(np.asarray(values, np.float64))

    decided = writer.op("Cast", decisions, to=TensorProto.DOUBLE)
    if count == 2:
        decided = writer.op("Gather", decided, writer.ints(1), axis=1)
    odds = writer.op("Mul", decided, constant(-read.platt[0]))
    odds = writer.op("Sub", odds, constant(read.platt[1]))
    for_first = writer.op("Sigmoid", odds)
    for_second = writer.op("Sigmoid", writer.op("Neg", odds))
    # [N, C]: of each class what its rivals have against it, squared.
    against = [
        writer.op("MatMul", writer.op("Mul", part, part), constant(read.signs == sign))
        for part, sign in ((for_second, 1), (for_first, -1))
    ]
    entries = writer.op(
        "Concat",
        writer.op("Add", *against),
        writer.op("Neg", writer.op("Mul", for_first, for_second)),
        axis=1,
    )
    matrix = writer.op("Gather", entries, writer.ints(*_places(read)), axis=1)
    matrix = writer.op("Reshape", matrix, writer.ints(-1, count, count))
    matrix = writer.op("Add", matrix, constant(1))
    solution = _solved(writer, matrix, count)
    positive = writer.op("Add", solution, constant(_LEAST))
    total = writer.op("MatMul", positive, constant(np.ones((count, count))))
    shares = writer.op("Div", positive, total)
    writer.op("Cast", shares, output=output, to=TensorProto.FLOAT)


def _places(read: SupportVectors) -> list[int]:
    """Return where each entry of the matrix stands: the diagonal first, then the pairs."""
    places = np.zeros((read.classes, read.classes), np.int64)
    np.fill_diagonal(places, np.arange(read.classes))
    for number, (first, second) in enumerate(read.pairs):
        places[first, second] = places[second, first] = read.classes + number
    return [int(place) for place in places.ravel()]


def _solved(writer: Writer, matrix: str, count: int) -> str:
    """Write the solution [N, C] of a positive definite matrix [N, C, C] for a column of ones.

    Column by column (Gauss–Jordan); those that are done with are dropped.
    """
    ones = writer.op("Gather", matrix, writer.ints(0), axis=2)
    ones = writer.op("Add", writer.op("Sub", ones, ones), writer.constant(np.ones(1)))
    left = writer.op("Concat", matrix, ones, axis=2)
    for place in range(count):
        column = writer.op("Gather", left, writer.ints(0), axis=2)
        left = writer.op("Gather", left, writer.ints(*range(1, count - place + 1)), axis=2)
        pivot = writer.op("Gather", column, writer.ints(place), axis=1)
        row = writer.op("Div", writer.op("Gather", left, writer.ints(place), axis=1), pivot)
        # The row itself is left divided by its pivot.
        unit = np.eye(count)[:, [place]]
        factors = writer.op("Sub", column, writer.constant(unit))
        left = writer.op("Sub", left, writer.op("Mul", factors, row))
    return writer.op("Reshape", left, writer.ints(-1, count))
