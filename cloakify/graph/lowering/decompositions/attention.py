"""Attention as ONNX Runtime's transformer optimiser writes it, taken apart into standard operators.

Domain ``com.microsoft``, with N heads of width d, and ⊕ for the sum by broadcasting:

    MultiHeadAttention(Q, K, V)   concat over heads of  softmax(Q Kᵀ / √d ⊕ mask ⊕ bias) V
    Attention(x, W, b)            MultiHeadAttention of the parts of x W + b

The mask is 0 where a key may be looked at and ``mask_filter_value`` where not; given as 0 and 1 for
each key, or each query and key, or as the place where the keys of a sample end (and those where
they start). Gradient rules then follow from those of the parts. What keeps keys for later calls,
rotates them, or packs samples into one another stays as it is (and has no gradient rule).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import NodeProto

from cloakify.graph.model.rewrite import Shapes, Writer, attribute, given
from cloakify.printable import shape_text

_FILTER = -10000.0
# Axes of keys and values that are split into heads: [B, N, T, d].
_SPLIT = 4

# Places of inputs: of the mask, of what is added to the scores, and of what earlier calls left.
_MASK = {"Attention": 3, "MultiHeadAttention": 4}
_BIAS = 5
_PAST = {"Attention": (4, 6), "MultiHeadAttention": (6, 7, 8, 9)}


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write an attention node out; :func:`unsupported_reason` must have had nothing against it."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(types[node.input[0]])
    parts = _project if node.op_type == "Attention" else _biased
    _Heads(writer, node, shapes, dtype).write(*parts(writer, node, shapes))


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why an attention node can't be written out; ``None`` if it can."""
    if any(given(node, place) for place in _PAST[node.op_type]) or any(node.output[1:]):
        return "keeps keys and values of earlier calls"
    if attribute(node, "do_rotary", 0):
        return "rotates its queries and keys"
    read = [name for name in node.input if name]
    if any(name not in shapes for name in read):
        return "reads a tensor of unknown shape"
    if node.op_type == "MultiHeadAttention":
        ranks = [len(shapes[name]) for name in node.input[:3] if name]
        if ranks not in ([3, 3, 3], [3, _SPLIT, _SPLIT]):
            return "reads queries, keys and values packed into one another"
    samples, queries, keys = _extent(node, shapes)
    # With more keys than queries the runtime's answers are those of no mask that we know.
    if attribute(node, "unidirectional", 0) and keys != queries:
        return f"looks back only, with {queries} queries to {keys} keys"
    mask = given(node, _MASK[node.op_type])
    if mask:
        known = {(samples,), (2 * samples,), (samples, keys), (samples, queries, keys)}
        if shapes[mask] not in known:
            return f"has a mask of shape {shape_text(shapes[mask])}"
    return None


def _extent(node: NodeProto, shapes: Shapes) -> tuple[int, int, int]:
    """Return how many samples, queries and keys there are."""
    samples, queries, _ = shapes[node.input[0]]
    if node.op_type == "Attention":
        return samples, queries, queries
    return samples, queries, shapes[node.input[1]][-2]


def _project(writer: Writer, node: NodeProto, shapes: Shapes) -> list[str]:
    """Return queries, keys and values [B, S, N · d] of an `Attention`."""
    projected = writer.op("MatMul", node.input[0], node.input[1])
    if given(node, 2):
        projected = writer.op("Add", projected, node.input[2])
    sizes = attribute(node, "qkv_hidden_sizes") or [shapes[node.input[1]][1] // 3] * 3
    return writer.split(projected, sizes, axis=2)


def _biased(writer: Writer, node: NodeProto, shapes: Shapes) -> list[str]:
    """Return queries, keys and values of a `MultiHeadAttention`, its bias added.

    To keys and values that are split into heads ONNX Runtime adds none.
    """
    parts, bias = list(node.input[:3]), given(node, 3)
    if not bias:
        return parts
    sizes = [shapes[name][-1] for name in parts]
    if len(shapes[parts[1]]) == _SPLIT:
        own, _ = writer.split(bias, [sizes[0], shapes[bias][0] - sizes[0]], axis=0)
        return [writer.op("Add", parts[0], own), *parts[1:]]
    biases = writer.split(bias, sizes, axis=0)
    return [writer.op("Add", part, own) for part, own in zip(parts, biases, strict=True)]


class _Heads:
    """Writes the part that both operators share."""

    def __init__(self, writer: Writer, node: NodeProto, shapes: Shapes, dtype: np.dtype) -> None:
        self.writer, self.node, self.shapes, self.dtype = writer, node, shapes, dtype
        self.heads = attribute(node, "num_heads")

    def write(self, query: str, key: str, value: str) -> None:
        write, node = self.writer, self.node
        samples, queries, keys = _extent(node, self.shapes)
        width, split = self.shapes[node.input[0]][2], len(self.shapes[node.input[1]]) == _SPLIT
        if node.op_type == "Attention":
            sizes = attribute(node, "qkv_hidden_sizes")
            width = sizes[0] if sizes else self.shapes[node.input[1]][1] // 3
        scale = attribute(node, "scale", 0.0) or 1 / math.sqrt(width // self.heads)
        query = write.op("Mul", self._split(query, [0, 2, 1, 3]), self._number(scale))
        if split:
            key = write.op("Transpose", key, perm=[0, 1, 3, 2])
        else:
            key = self._split(key, [0, 2, 3, 1])
            value = self._split(value, [0, 2, 1, 3])
        scores = write.op("MatMul", query, key)
        for added in self._added(samples, queries, keys):
            scores = write.op("Add", scores, added)
        result = write.op("MatMul", write.op("Softmax", scores, axis=-1), value)
        result = write.op("Transpose", result, perm=[0, 2, 1, 3])
        write.op("Reshape", result, write.ints(samples, queries, -1), output=node.output[0])

    def _split(self, tensor: str, perm: list[int]) -> str:
        """Return [B, S, N · d] as [B, S, N, d], its axes in another order."""
        apart = self.writer.op("Reshape", tensor, self.writer.ints(0, 0, self.heads, -1))
        return self.writer.op("Transpose", apart, perm=perm)

    def _added(self, samples: int, queries: int, keys: int) -> list[str]:
        """Return what is added to the scores [B, N, S, T]."""
        write, added = self.writer, []
        mask = given(self.node, _MASK[self.node.op_type])
        if mask:
            filtered = self._number(attribute(self.node, "mask_filter_value", _FILTER))
            shown = self._shown(mask, samples, keys)
            added.append(write.op("Where", shown, self._number(0), filtered))
        if attribute(self.node, "unidirectional", 0):
            later = np.triu(np.ones((queries, keys), bool), 1)
            lowest = np.finfo(np.float32).min
            added.append(write.constant(np.where(later, lowest, 0).astype(self.dtype)))
        bias = given(self.node, _BIAS)
        return [*added, bias] if bias else added

    def _shown(self, mask: str, samples: int, keys: int) -> str:
        """Return which keys may be looked at: bool [B, 1, 1 or S, T]."""
        write, shape = self.writer, self.shapes[mask]
        if len(shape) > 1:
            shown = write.op("Greater", mask, write.constant(np.array(0, np.int32)))
            axes = [1] if len(shape) == 3 else [1, 2]
            return write.op("Unsqueeze", shown, write.ints(*axes))
        bounds = [mask] if shape == (samples,) else write.split(mask, 2, axis=0)
        places = write.constant(np.arange(keys, dtype=np.int32))
        columns = [write.op("Reshape", bound, write.ints(samples, 1, 1, 1)) for bound in bounds]
        shown = write.op("Less", places, columns[0])
        if len(columns) > 1:
            shown = write.op("And", shown, write.op("GreaterOrEqual", places, columns[1]))
        return shown

    def _number(self, value: float) -> str:
        return self.writer.constant(np.array(value, self.dtype))
