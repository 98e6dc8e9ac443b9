"""`SVMClassifier` of ai.onnx.ml, written out as standard operators, in float32.

See :mod:`cloakify.graph.model.support_vectors` for what it computes. Where it puts out coupled
probabilities, class scores take their place, under the same name: the sums of the logarithms of
what each pair of classes says, which are what a loss is of. For two classes their softmax is the
probabilities; for more their order nearly is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute
from cloakify.graph.model.support_vectors import SupportVectors, read_support_vectors

OPERATORS = ("SVMClassifier",)


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a node can't be written out; ``None`` if it can."""
    if any(name not in shapes for name in node.input):
        return "reads a tensor of unknown shape"
    read = read_support_vectors(node)
    if read is None:
        return "has no support vectors, or numbers that do not fit"
    if len(shapes[node.input[0]]) != 2 or len(node.output) != 2:
        return "reads no matrix"
    transform = attribute(node, "post_transform", "NONE")
    return f"has the post_transform {transform!r}" if transform != "NONE" else None


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a node out; :func:`unsupported_reason` must have had nothing against it."""
    read = read_support_vectors(node)
    assert read is not None
    x = node.input[0]
    if types.get(x) != TensorProto.FLOAT:
        x = writer.op("Cast", x, to=TensorProto.FLOAT)
    kernel = _kernel(writer, read, x)
    decisions = _affine(writer, kernel, read.weights, read.bias)
    output = node.output[1]
    if read.platt is not None:
        _class_scores(writer, read, decisions, output)
    elif read.classes == 2:
        writer.op("MatMul", decisions, _constant(writer, -read.signs), output=output)
    else:
        writer.op("Identity", decisions, output=output)


def _kernel(writer: Writer, read: SupportVectors, x: str) -> str:
    """Write the kernel of the samples with each support vector; [N, V]."""
    product = writer.op("MatMul", x, _constant(writer, read.vectors.T))
    if read.kernel == "LINEAR":
        return product
    if read.kernel == "RBF":
        # ‖x − v‖² = ‖x‖² − 2 x·v + ‖v‖²
        size = writer.op("ReduceSumSquare", x, writer.ints(1), keepdims=1)
        across = _affine(writer, product, -2.0, (read.vectors**2).sum(axis=1))
        distance = writer.op("Add", size, across)
        return writer.op("Exp", writer.op("Mul", distance, _constant(writer, -read.gamma)))
    inner = _affine(writer, product, read.gamma, read.offset)
    if read.kernel == "SIGMOID":
        return writer.op("Tanh", inner)
    return writer.op("Pow", inner, _constant(writer, read.degree))


def _class_scores(writer: Writer, read: SupportVectors, decisions: str, output: str) -> None:
    """Write Σ_j log r_ij for each class i, r being what Platt's sigmoid makes of a decision."""
    assert read.platt is not None
    odds = _affine(writer, decisions, -read.platt[0], -read.platt[1])
    # log σ(t) = −softplus(−t), and log(1 − σ(t)) = −softplus(t).
    for_first = writer.op("Softplus", writer.op("Neg", odds))
    for_second = writer.op("Softplus", odds)
    parts = [
        writer.op("MatMul", part, _constant(writer, -(read.signs == sign).astype(np.float64)))
        for part, sign in ((for_first, 1), (for_second, -1))
    ]
    writer.op("Add", *parts, output=output)


def _affine(writer: Writer, x: str, factor: np.ndarray | float, offset: np.ndarray | float) -> str:
    """Write x times a factor, or a matrix, plus an offset."""
    op = "MatMul" if np.ndim(factor) == 2 else "Mul"
    return writer.op("Add", writer.op(op, x, _constant(writer, factor)), _constant(writer, offset))


def _constant(writer: Writer, values: np.ndarray | float) -> str:
    return writer.constant(np.asarray(values, np.float32))
