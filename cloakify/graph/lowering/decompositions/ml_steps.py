"""Steps of pipelines (domain ``ai.onnx.ml``), written out as standard operators.

As the operators' specification has them, in float32, whatever they read:

    Scaler(x)       (x − offset) · scale
    Imputer(x)      imputed where x is the value to replace, which may be NaN; x elsewhere
    Normalizer(x)   x / max x,  x / Σ|x|  or  x / √Σx², along the last axis; x where that is 0
    LinearRegressor(x)              x Cᵀ + intercepts
    ArrayFeatureExtractor(x, k)     the columns k of x
    FeatureVectorizer(x₁, x₂, …)    all columns, one after the other
    LinearClassifier(x)             x Cᵀ + intercepts

Of `LinearClassifier` that is the scores before their transformation to probabilities, under the
name of these: what a loss is of, and in the same order. There is its label as well, where labels
are numbers.

The maximum of `Normalizer` is ONNX Runtime's, of the numbers as they are and not of their sizes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute

OPERATORS = (
    "Scaler",
    "Imputer",
    "Normalizer",
    "LinearClassifier",
    "LinearRegressor",
    "ArrayFeatureExtractor",
    "FeatureVectorizer",
)

_FLOATS = {TensorProto.FLOAT, TensorProto.DOUBLE}


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a node can't be written out; ``None`` if it can."""
    if any(name not in shapes for name in node.input):
        return "reads a tensor of unknown shape"
    if node.op_type == "LinearRegressor":
        if attribute(node, "post_transform", "NONE") != "NONE":
            return f"has the post_transform {attribute(node, 'post_transform')!r}"
        if len(shapes[node.input[0]]) != 2:
            return "reads no matrix"
    if node.op_type == "LinearClassifier" and not _is_plain(node, shapes):
        return "has one score for two classes, or reads no matrix"
    if node.op_type == "Imputer" and not attribute(node, "imputed_value_floats"):
        return "imputes no floats"
    return None


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a node out; :func:`unsupported_reason` must have had nothing against it."""
    output = node.output[0]
    if node.op_type == "FeatureVectorizer":
        parts = [_float(writer, name, types) for name in node.input]
        writer.op("Concat", *parts, output=output, axis=-1)
    elif node.op_type == "ArrayFeatureExtractor":
        writer.op("Gather", node.input[0], _flat(writer, node.input[1]), output=output, axis=-1)
    elif node.op_type == "Scaler":
        _scale(writer, node, _float(writer, node.input[0], types))
    elif node.op_type == "Imputer":
        _impute(writer, node, types)
    elif node.op_type == "Normalizer":
        _normalise(writer, node, _float(writer, node.input[0], types))
    elif node.op_type == "LinearRegressor":
        targets = attribute(node, "targets", 1)
        _product(writer, node, _float(writer, node.input[0], types), targets, output)
    else:
        classes = len(attribute(node, "intercepts"))
        _product(writer, node, _float(writer, node.input[0], types), classes, node.output[1])
        _label(writer, node)


def _float(writer: Writer, name: str, types: Mapping[str, int]) -> str:
    if types.get(name) == TensorProto.FLOAT:
        return name
    return writer.op("Cast", name, to=TensorProto.FLOAT)


def _flat(writer: Writer, name: str) -> str:
    return writer.op("Reshape", name, writer.ints(-1))


def _numbers(node: NodeProto, name: str) -> np.ndarray:
    return np.array(attribute(node, name, []), np.float32)


def _scale(writer: Writer, node: NodeProto, x: str) -> None:
    offset, scale = _numbers(node, "offset"), _numbers(node, "scale")
    if offset.size:
        x = writer.op("Sub", x, writer.constant(offset))
    if not scale.size:
        scale = np.ones(1, np.float32)
    writer.op("Mul", x, writer.constant(scale), output=node.output[0])


def _impute(writer: Writer, node: NodeProto, types: Mapping[str, int]) -> None:
    x = node.input[0]
    kind = types.get(x, TensorProto.FLOAT)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind if kind in _FLOATS else TensorProto.FLOAT)
    replaced = np.array(attribute(node, "replaced_value_float", 0.0), dtype)
    imputed = writer.constant(_numbers(node, "imputed_value_floats").astype(dtype))
    if np.isnan(replaced):
        missing = writer.op("IsNaN", x)
    else:
        missing = writer.op("Equal", x, writer.constant(replaced))
    writer.op("Where", missing, imputed, x, output=node.output[0])


def _normalise(writer: Writer, node: NodeProto, x: str) -> None:
    reduce = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}
    norm = attribute(node, "norm", "MAX")
    size = writer.op(reduce[norm], x, writer.ints(-1), keepdims=1)
    zero = writer.constant(np.zeros(1, np.float32))
    one = writer.constant(np.ones(1, np.float32))
    size = writer.op("Where", writer.op("Equal", size, zero), one, size)
    writer.op("Div", x, size, output=node.output[0])


def _is_plain(node: NodeProto, shapes: Shapes) -> bool:
    """Tell whether a classifier has as many rows of coefficients as classes."""
    classes = len(attribute(node, "intercepts", []))
    shape = shapes[node.input[0]]
    rows = len(attribute(node, "coefficients", [])) == classes * shape[-1]
    return classes > 1 and len(shape) == 2 and rows and len(node.output) == 2


def _label(writer: Writer, node: NodeProto) -> None:
    """Write the label out, which votes are counted of: the class with the largest score."""
    labels = attribute(node, "classlabels_ints") or attribute(node, "classlabels_int64s")
    if labels and node.output[0]:
        largest = writer.op("ArgMax", node.output[1], axis=1, keepdims=0)
        writer.op("Gather", writer.ints(*labels), largest, output=node.output[0], axis=0)


def _product(writer: Writer, node: NodeProto, x: str, rows: int, output: str) -> None:
    inputs = [x, writer.constant(_numbers(node, "coefficients").reshape(rows, -1))]
    bias = _numbers(node, "intercepts")
    if bias.size:
        inputs.append(writer.constant(bias))
    writer.op("Gemm", *inputs, output=output, transB=1)
