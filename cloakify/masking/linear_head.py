"""The head as numbers: logits of any mask from captured features, without the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.mask import features_type
from cloakify.graph.edit.taps import head_model, value_of_rank
from cloakify.numeric.arrays import Array, floats
from cloakify.runtime import CPU, Device, Session

# Largest difference of logits that are the same, relative to the largest.
PICKED = 1e-3


@dataclass(frozen=True)
class LinearHead:
    """``logits = φ W + b``; over positions, their mean.

    Attributes
    ----------
    weight
        float32 [D, C].
    bias
        float32 [C].
    """

    weight: Array
    bias: Array

    def logits(self, features: Array, mask: Array | None = None) -> Array:
        """Return the logits [n, C] of features [n, D] under a mask [D]."""
        weight: Array = self.weight if mask is None else self.weight * mask[:, None]
        return np.asarray(features @ weight + self.bias, np.float32)

    def of_classes(self, scores: Scores) -> LinearHead:
        """Return the same with the logits that working copies have; see :class:`Scores`."""
        if scores.task is Task.SINGLE:
            return self
        sign = 1 if scores.boundary.rising else -1
        weight = sign * self.weight
        bias = floats(sign * (self.bias - np.array(scores.boundary.bounds)))
        if scores.task is Task.BINARY:
            weight = np.concatenate([np.zeros_like(weight), weight], axis=1)
            bias = np.concatenate([np.zeros_like(bias), bias])
        return LinearHead(weight, bias)


def read_head(model: ModelProto, head: Head, features: Array, host: Device = CPU) -> LinearHead:
    """Read W and b off the head by running it on unit vectors.

    So read they are right however the file stores them: transposed, cast, dequantised.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    features
        Some captured features, for their rank.
    host
        The CPU: where to run it.
    """
    if head.gives_probabilities:
        return _of_attributes(model, head)
    # Unit vectors along the features, one position.
    units = np.zeros((head.num_features + 1, head.num_features), np.float32)
    np.fill_diagonal(units[1:], 1.0)
    positions = [1] * (features.ndim - 2)
    if head.kernel:
        shape = [-1, head.num_features // math.prod(head.kernel), *head.kernel]
    elif head.op_type == "Conv":
        shape = [-1, head.num_features, *positions]
    else:
        shape = [-1, *positions, head.num_features]
    # Captured features are float32 whatever the model computes in; the head takes its own type.
    element_type = features_type(model, head)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    value = value_of_rank(head.features, element_type, features.ndim)
    session = Session(head_model(model, value, head.linear), host)
    (outputs,) = session.run({head.features: units.reshape(shape).astype(dtype)}).values()
    table = outputs.astype(np.float32).reshape(head.num_features + 1, head.num_classes)
    return LinearHead(table[1:] - table[0], table[0])


def _of_attributes(model: ModelProto, head: Head) -> LinearHead:
    """Read a `LinearClassifier`'s numbers: what it puts out may be no linear map of its input."""
    (node,) = (node for node in model.graph.node if head.linear in node.output)
    numbers = {entry.name: np.array(entry.floats, np.float32) for entry in node.attribute}
    weight = numbers["coefficients"].reshape(head.num_classes, head.num_features)
    return LinearHead(np.ascontiguousarray(weight.T), numbers["intercepts"])


def at_answer(
    features: Array, logits: Array, head: LinearHead, mask: Array | None = None
) -> NDArray[np.int64] | None:
    """Return the one position of each sample that its logits are read from, or ``None``.

    Models that answer at a sequence's last token turn every position into scores and pick one.

    Parameters
    ----------
    features
        [n, P, D].
    logits
        [n, C], as the model gives them.
    mask
        The mask [D] between the two.
    """
    n, positions, depth = features.shape
    scores = head.logits(features.reshape(-1, depth), mask).reshape(n, positions, -1)
    gap = np.abs(scores - logits[:, None]).max(axis=2)
    places: NDArray[np.int64] = gap.argmin(axis=1)
    largest = max(1.0, float(np.abs(logits).max(initial=0.0)))
    is_near = gap[np.arange(n), places].max(initial=0.0) <= PICKED * largest
    return places if is_near else None


def by_feature(features: Array, head: Head) -> Array:
    """Return features as [n, D], or [n, P, D] where there are P > 1 positions."""
    if head.kernel:
        return features.reshape(len(features), -1)
    axis = 1 if head.op_type == "Conv" else features.ndim + head.features_axis
    moved = np.moveaxis(features, axis, -1)
    flat = moved.reshape(len(features), -1, head.num_features)
    return flat[:, 0] if flat.shape[1] == 1 else flat
