"""The head as numbers: logits of any mask from captured features, without the network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from cloakify.graph.analysis.head import WHOLE_CLASSIFIERS, Head
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.mask import features_type
from cloakify.graph.edit.taps import head_model, value_of_rank, with_parts
from cloakify.graph.model import rewrite
from cloakify.graph.model.support_vectors import read_support_vectors
from cloakify.numeric.arrays import AnyArray, Array, Doubles, as_rows, floats
from cloakify.onnxfile import values_of
from cloakify.runtime import CPU, Device, Session

# Numbers of features that a head is run on at once.
_AT_ONCE = 1 << 22

# Of a scale, to try a quantised head with: half of what eight bits hold to either side.
_STEPS = 64

# Length that features of a cosine have at least.
_SHORTEST = 1e-12

# Largest difference of logits that are the same, relative to the largest.
PICKED = 1e-3


@dataclass(frozen=True)
class LinearHead:
    """``logits = φ W + b``; over positions, their mean; of a vote, ``log Σ softmax(φ W_k + b_k)``.

    Attributes
    ----------
    weight
        float32 [D, C].
    bias
        float32 [C].
    cosine
        Whether features are brought to one length before, when they have been masked.
    votes
        Of a vote the layers that have a part in it. ``weight`` and ``bias`` are their mean then,
        by which features are ranked.
    shares
        How much each counts, float64 [K].
    """

    weight: Array
    bias: Array
    cosine: bool = False
    votes: tuple[LinearHead, ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of_votes(cls, votes: Sequence[LinearHead], shares: Sequence[float]) -> LinearHead:
        """Return the head of a vote among layers."""
        weight, bias = (
            floats(np.average(numbers, axis=0, weights=shares))
            for numbers in ([each.weight for each in votes], [each.bias for each in votes])
        )
        return cls(weight, bias, votes=tuple(votes), shares=tuple(shares))

    def logits(self, features: Array, mask: Array | None = None) -> Array:
        """Return the logits [n, C] of features [n, D] under a mask [D]."""
        if self.votes:
            scores = np.stack([vote.logits(features, mask) for vote in self.votes], axis=1)
            return floats(self.voted(scores))
        if self.cosine:
            features = self.prepared(features if mask is None else features * mask)
            mask = None
        weight: Array = self.weight if mask is None else self.weight * mask[:, None]
        return np.asarray(features @ weight + self.bias, np.float32)

    def voted(self, scores: NDArray[np.floating]) -> Doubles:
        """Return the logits [..., C] of the scores [..., K, C] of the layers of a vote."""
        logs = scores.astype(np.float64)
        logs -= logs.max(axis=-1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=-1, keepdims=True))
        logs += np.log(np.array(self.shares))[:, None]
        largest: Doubles = logs.max(axis=-2)
        return np.asarray(largest + np.log(np.exp(logs - largest[..., None, :]).sum(axis=-2)))

    def prepared(self, features: Array) -> Array:
        """Return features [..., D] as the layer takes them: where it is so, of length one.

        Of these, masked, the layer's logits are right but for a factor a sample.
        """
        if not self.cosine:
            return features
        length = np.linalg.norm(features, axis=-1, keepdims=True)
        return np.asarray(features / np.maximum(length, _SHORTEST), np.float32)

    def of_classes(self, scores: Scores) -> LinearHead:
        """Return the same with the logits that working copies have; see :class:`Scores`."""
        if scores.task is Task.SINGLE and scores.boundary.rising:
            return self
        sign = 1 if scores.boundary.rising else -1
        weight, bias = self.weight, self.bias
        differences = scores.differences()
        if differences is not None:
            weight, bias = floats(weight @ differences), floats(bias @ differences)
        weight = sign * weight
        bias = floats(sign * (bias - np.array(scores.boundary.logits)))
        if scores.task is Task.BINARY:
            weight = np.concatenate([np.zeros_like(weight), weight], axis=1)
            bias = np.concatenate([np.zeros_like(bias), bias])
        return LinearHead(weight, bias, self.cosine)


def read_head(model: ModelProto, head: Head, rank: int, host: Device = CPU) -> LinearHead:
    """Read W and b off the head by running it on unit vectors.

    So read they are right however the file stores them: transposed, cast, dequantised.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    rank
        Of its features, with the batch.
    host
        The CPU: where to run it.
    """
    if head.op_type in WHOLE_CLASSIFIERS:
        return _of_attributes(model, head)
    if head.votes:
        plain = replace(head, votes=(), shares=())
        own = [replace(plain, linear=name) for name in head.votes]
        read = [_of_softmax(model, each) or read_head(model, each, rank, host) for each in own]
        return LinearHead.of_votes(read, head.shares)
    stored = _of_constants(model, head)
    # Captured features are float32 whatever the model computes in; the head takes its own type.
    element_type = features_type(model, head)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    value = value_of_rank(head.features, element_type, rank)
    logits = head.linear
    if head.parts:
        model, logits = with_parts(model, head.parts)
    session = Session(head_model(model, value, logits), host)

    def run(rows: Array) -> Array:
        """Return the outputs for features that are [n, D] at every position."""
        (outputs,) = session.run({head.features: _spread(rows, head, rank, dtype)}).values()
        shape = [len(rows), head.num_classes, *(outputs.shape[2:] if head.window else ())]
        table: Array = _real(outputs.astype(np.float32).reshape(shape), model, head)
        # Where the kernel is not at a border.
        return table[(..., *(size // 2 for size in shape[2:]))]

    cosine = head.cosine
    # Nothing has no length to be divided by, and such a layer adds nothing.
    nothing = np.zeros((1, head.num_features), np.float32)
    bias = np.zeros(head.num_classes, np.float32) if cosine else run(nothing)[0]
    if stored is not None:
        return LinearHead(stored, bias)
    depth = head.num_features
    step = max(1, _AT_ONCE // (depth * _positions(head)))
    unit = _unit(model, head)
    # Unit vectors, some at a time: all of them would be a table of D × D.
    parts = [
        run(unit * np.eye(min(step, depth - start), depth, start, np.float32))
        for start in range(0, depth, step)
    ]
    return LinearHead(floats((np.concatenate(parts) - bias) / unit), bias, cosine)


def _unit(model: ModelProto, head: Head) -> np.float32:
    """Return a feature that a head neither rounds nor cuts off: 1 but where a scale is fixed."""
    readers = {name: node for node in model.graph.node for name in node.input}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] != head.features:
            continue
        reader = readers.get(node.output[0])
        scale, zero = (_stored(model, rewrite.given(node, place)) for place in (1, 2))
        if reader is None or "Integer" not in reader.op_type or scale is None or scale.size > 1:
            continue
        kind, middle = ("u1", 0) if zero is None else (zero.dtype.str, int(zero.reshape(-1)[0]))
        room = np.iinfo(kind).max - middle
        steps = _STEPS if room >= _STEPS else -_STEPS
        return np.float32(scale.reshape(-1)[0] * steps)
    return np.float32(1)


def _stored(model: ModelProto, name: str) -> AnyArray | None:
    """Return a constant's values, or ``None``."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return values_of(tensor)
    for node in model.graph.node:
        if name in node.output and node.op_type == "Constant":
            tensor = rewrite.attribute(node, "value")
            return None if tensor is None else values_of(tensor)
    return None


def _real(values: Array, model: ModelProto, head: Head) -> Array:
    """Return scores as they are meant, where they come as quantised numbers."""
    if head.scale is None:
        return values
    scale, zero = (_stored(model, name) for name in head.scale)
    assert scale is not None and zero is not None, "what describes the head has seen to that"
    return np.asarray((values - floats(zero)) * floats(scale), np.float32)


def _positions(head: Head) -> int:
    """Return how many positions a head is tried on."""
    return math.prod(head.summed or (2 * size + 1 for size in head.window))


def _spread(rows: Array, head: Head, rank: int, dtype: np.dtype[np.generic]) -> AnyArray:
    """Give rows [n, D] the form of the head's features, with the same at every position."""
    if head.kernel:
        return rows.reshape(-1, head.num_features // math.prod(head.kernel), *head.kernel).astype(
            dtype
        )
    ones = [1] * (rank - 2)
    if head.features_axis != 1:
        if head.features_axis == -2 and ones:
            return rows.reshape(-1, *ones[1:], head.num_features, 1).astype(dtype)
        rows = rows.reshape(-1, *ones, head.num_features).astype(dtype)
        around = head.summed or ones
        return np.ascontiguousarray(np.broadcast_to(rows, (len(rows), *around, rows.shape[-1])))
    around = head.summed or [2 * size + 1 for size in head.window] or ones
    spread = rows.reshape(-1, head.num_features, *ones).astype(dtype)
    return np.ascontiguousarray(np.broadcast_to(spread, (*spread.shape[:2], *around)))


def _of_constants(model: ModelProto, head: Head) -> Array | None:
    """Return the weights [D, C] of a quantised layer: what it puts out is too coarse to tell them.

    ``None`` where they are not stored as they are, or something stands between them and the scores
    that changes these.
    """
    if not head.product:
        return None
    node = next(node for node in model.graph.node if head.product in node.output)
    stored = [_stored(model, name) if name else np.zeros(1) for name in node.input[3:6]]
    if any(values is None for values in stored):
        return None
    weight, scale, zero = (np.asarray(values, np.float64) for values in stored)
    attributes = {entry.name: entry for entry in node.attribute}
    classes_first = node.op_type == "QLinearConv" or (
        "transB" in attributes and attributes["transB"].i == 1
    )
    matrix = weight.reshape(weight.shape[:2])
    matrix = matrix.T if classes_first else matrix
    real = (matrix - zero.reshape(-1)) * scale.reshape(-1)
    alpha = attributes["alpha"].f if "alpha" in attributes else 1.0
    return floats(real * alpha) if real.shape == (head.num_features, head.num_classes) else None


def _of_attributes(model: ModelProto, head: Head) -> LinearHead:
    """Read the numbers of a whole classifier: what it puts out may be no linear map of its input.

    Of support vectors for two classes, which come out the other way round, the signs are turned.
    """
    if head.parts:
        makers = {name: node for node in model.graph.node for name in node.output}
        numbers = [_coefficients(makers[name], head.num_features) for name in head.parts]
        chosen = [*zip(numbers, head.places, strict=True)]
        rows = [weights[place] for (weights, _), place in chosen]
        shifts = [biases[place] for (_, biases), place in chosen]
        return LinearHead(np.stack(rows, axis=1), np.array(shifts, np.float32))
    (node,) = (node for node in model.graph.node if head.linear in node.output)
    if node.op_type == "SVMClassifier":
        read = read_support_vectors(node)
        assert read is not None, "what describes the head has seen to that"
        weights, bias = read.linear_scores()
        sign = -1 if read.platt is None and read.classes == 2 else 1
        return LinearHead(floats(sign * weights), floats(sign * bias))
    coefficients, intercepts = _coefficients(node, head.num_features)
    return LinearHead(np.ascontiguousarray(coefficients.T), intercepts)


def _of_softmax(model: ModelProto, head: Head) -> LinearHead | None:
    """Read what a classifier in one node makes a softmax of; ``None`` where it is none."""
    (node,) = (node for node in model.graph.node if head.linear in node.output)
    if node.op_type not in WHOLE_CLASSIFIERS:
        return None
    scores = _of_attributes(model, head)
    transform = rewrite.attribute(node, "post_transform", "NONE")
    # Sigmoids of z and −z are a softmax of half of these.
    half = np.float32(0.5 if transform == "LOGISTIC" else 1)
    return LinearHead(half * scores.weight, half * scores.bias)


def _coefficients(node: NodeProto, features: int) -> tuple[Array, Array]:
    """Return the weights [C, D] and biases [C] of a `LinearClassifier`."""
    numbers = {entry.name: np.array(entry.floats, np.float32) for entry in node.attribute}
    return numbers["coefficients"].reshape(-1, features), numbers["intercepts"]


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
        return as_rows(features)
    axis = head.features_axis % features.ndim
    moved = np.moveaxis(features, axis, -1)
    positions = math.prod(moved.shape[1:]) // head.num_features
    flat = moved.reshape(len(features), positions, head.num_features)
    return flat[:, 0] if flat.shape[1] == 1 else flat
