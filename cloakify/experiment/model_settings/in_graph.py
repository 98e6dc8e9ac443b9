"""Preprocessing that is part of the graph: a model that scales pixels itself takes 0–255.

Keras' `Rescaling` is a product with 1/255 or 1/127.5, its `Normalization` a difference with a mean
of pixels; exporters of other frameworks write divisions.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.experiment.model_settings.found import FoundSettings
from cloakify.onnxfile import values_of

# What leaves pixels as they are.
_PASSED = {"Cast", "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Resize", "Pad"}
# Factors that bring 0–255 to a range of one or two.
_FACTORS = (1 / 255, 1 / 256, 1 / 127.5, 1 / 128)
# No mean of pixels in [0, 1] is larger, and none of 0–255 that a data set has is smaller.
_LEAST_MEAN = 8.0


def read_graph(model: ModelProto, name: str) -> FoundSettings | None:
    """Return that pixels are 0–255 where the first thing a graph does with them says so.

    Parameters
    ----------
    name
        The input's.
    """
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for tensor in set(node.input):
            readers.setdefault(tensor, []).append(node)
    seen = set()
    while len(readers.get(name, [])) == 1 and name not in seen:
        seen.add(name)
        (node,) = readers[name]
        if node.op_type in _PASSED and node.output:
            name = node.output[0]
            continue
        if _scales(model, node, name):
            return FoundSettings(f"{node.op_type} {node.name or node.output[0]!r}", scale=255.0)
        break
    return None


def _scales(model: ModelProto, node: NodeProto, name: str) -> bool:
    """Tell whether a node brings pixels of 0–255 to another range."""
    if len(node.input) != 2 or node.op_type not in ("Mul", "Div", "Sub", "Add"):
        return False
    other = node.input[1 - list(node.input).index(name)]
    values = _constant(model, other)
    if values is None or not values.size or not np.isfinite(values).all():
        return False
    if node.op_type in ("Sub", "Add"):
        mean = values if node.op_type == "Sub" else -values
        return bool((mean >= _LEAST_MEAN).all())
    if node.op_type == "Div":
        if node.input[0] != name or not values.all():
            return False
        values = 1 / values
    return any(np.allclose(values, factor, rtol=1e-3, atol=0) for factor in _FACTORS)


def _constant(model: ModelProto, name: str) -> np.ndarray | None:
    """Return a small constant of floats."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            here = tensor.data_location != TensorProto.EXTERNAL and np.prod(tensor.dims) <= 64
            return values_of(tensor).astype(float) if here else None
    for node in model.graph.node:
        if node.op_type == "Constant" and name in node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and np.prod(attribute.t.dims) <= 64:
                    return values_of(attribute.t).astype(float)
                if attribute.name == "value_float":
                    return np.array([attribute.f])
    return None
