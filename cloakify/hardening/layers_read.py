"""What each layer of a graph multiplies by and adds, whatever the layer is written as.

    y = scale · (W x + b) + shift

Deployment tools fuse constants into weights, pack these anew, quantise them, or leave products and
sums with constants behind a layer as they are. Read so, a layer is the same in all those forms but
for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.graph.model.rewrite import attribute, given
from cloakify.numeric.arrays import Doubles
from cloakify.onnxfile import values_of

# What changes the form of values on the way, not the values.
_PASSES = {"Cast", "DequantizeLinear", "Identity", "QuantizeLinear", "ReorderOutput"}
_STEPS = {"Add", "Div", "Mul", "Sub"}
_QUANTISED_STEPS = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
# How many channels the blocks have in which ONNX Runtime lays out weights of convolutions.
_BLOCKS = (8, 16, 4)


@dataclass(frozen=True)
class Step:
    """Where a layer's output stands after some constants: by what it was multiplied, what added."""

    output: str
    scale: Doubles
    shift: Doubles


@dataclass(frozen=True)
class ReadLayer:
    """A layer.

    Attributes
    ----------
    node
        What it is called.
    weights
        [C, K], output channels first; where the file leaves open how it lays them out, each way.
    bias
        [C].
    steps
        What has become of the output, the layer's own first.
    """

    node: str
    weights: tuple[Doubles, ...]
    bias: Doubles
    steps: list[Step] = field(default_factory=list)

    @property
    def channels(self) -> int:
        """C."""
        return len(self.bias)


# Weights, bias, axes behind that of the channels, and the output.
_Found = tuple[tuple[Doubles, ...], Doubles, int, str]


class _Reader:
    def __init__(self, model: ModelProto) -> None:
        self.nodes = model.graph.node
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        # Normalisations that belong to the layer before them, by their outputs.
        self.taken: set[str] = set()
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)

    def value(self, name: str) -> Doubles | None:
        """Return a constant as real numbers; ``None`` where it is none, or not a plain one."""
        if name in self._stored:
            return np.asarray(values_of(self._stored[name]), np.float64)
        node = self.makers.get(name)
        if node is None or not node.input:
            tensor = None if node is None else attribute(node, "value")
            return values_of(tensor).astype(float) if isinstance(tensor, TensorProto) else None
        if node.op_type in ("Cast", "Identity"):
            return self.value(node.input[0])
        if node.op_type == "DequantizeLinear":
            return self.real(*node.input[:3], axis=attribute(node, "axis", 1))
        if node.op_type == "Transpose" and attribute(node, "perm"):
            inner = self.value(node.input[0])
            return None if inner is None else np.transpose(inner, attribute(node, "perm"))
        return None

    def real(self, name: str, scale: str, zero: str = "", *, axis: int = 0) -> Doubles | None:
        """Return what quantised numbers stand for."""
        values, by, start = self.value(name), self.value(scale), np.zeros(1)
        if zero:
            read = self.value(zero)
            start = start if read is None else read
        if values is None or by is None:
            return None
        form = [1] * values.ndim
        if max(by.size, start.size) > 1:
            form[axis if -values.ndim <= axis < values.ndim else 0] = -1
        by, start = (each.reshape(form if each.size > 1 else -1) for each in (by, start))
        return np.asarray((values - start) * by).reshape(values.shape)

    def normalisation(self, node: NodeProto) -> tuple[Doubles, Doubles] | None:
        """Return what a normalisation multiplies by and adds, [C] each, its own sizes apart."""
        scale, bias = self.value(node.input[1]), self.added(given(node, 2))
        if scale is None or scale.ndim != 1:
            return None
        if node.op_type == "BatchNormalization":
            mean, variance = (self.value(name) for name in node.input[3:5])
            if mean is None or variance is None:
                return None
            scale = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
            bias = bias - mean * scale
        return scale, np.zeros(len(scale)) + bias

    def added(self, name: str) -> Doubles:
        """Return a constant that may be left out: 0 then."""
        value = self.value(name) if name else None
        return np.zeros(1) if value is None else value.reshape(-1)

    def only_reader(self, tensor: str) -> NodeProto | None:
        """Return the node that alone reads a value."""
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 else None

    def behind(self, output: str, spread: int, *, last: bool) -> list[Step]:
        """Return what an output becomes by constants alone, step by step.

        ``spread`` axes lie behind that of the channels; before it where it is the ``last``.
        """
        steps = [Step(output, np.ones(1), np.zeros(1))]
        while True:
            node = self.only_reader(output)
            if node is None or len(node.output) != 1:
                return steps
            if node.op_type == "Transpose" and _turns(node, spread, last):
                output, last = node.output[0], not last
                continue
            if node.op_type in _PASSES and node.input[0] == output:
                output = node.output[0]
                continue
            scale, shift = steps[-1].scale, steps[-1].shift
            normalised = self.normalisation(node) if node.op_type == "BatchNormalization" else None
            if normalised is not None and node.input[0] == output:
                factor, added = (part.reshape(-1, *[1] * spread) for part in normalised)
                output = node.output[0]
                self.taken.add(output)
                steps.append(Step(output, scale * factor, shift * factor + added))
                continue
            constant = self._other(node, output)
            if constant is None:
                return steps
            if last and spread and constant.size > 1:
                padded = constant.reshape(*[1] * (spread + 1 - constant.ndim), *constant.shape)
                constant = np.moveaxis(padded, -1, 0)
            op_type = _QUANTISED_STEPS.get(node.op_type, node.op_type)
            output = node.output[0]
            if op_type in ("Add", "Sub"):
                shift = shift + constant if op_type == "Add" else shift - constant
            else:
                factor = constant if op_type == "Mul" else 1 / constant
                scale, shift = scale * factor, shift * factor
            steps.append(Step(output, scale, shift))

    def _other(self, node: NodeProto, tensor: str) -> Doubles | None:
        """Return the constant that a node puts into a value, without leading axes of one."""
        constant: Doubles | None = None
        if node.op_type in _QUANTISED_STEPS:
            places = [slot for slot in (0, 3) if node.input[slot] != tensor]
            if len(places) == 1:
                constant = self.real(*node.input[places[0] : places[0] + 3])
        elif node.op_type in _STEPS and len(node.input) == 2:
            first = node.input[0] == tensor
            if first or node.op_type in ("Add", "Mul"):
                constant = self.value(node.input[1 if first else 0])
        if constant is None:
            return None
        while constant.ndim > 1 and constant.shape[0] == 1:
            constant = constant[0]
        return constant


def _turns(node: NodeProto, spread: int, last: bool) -> bool:
    """Tell whether a node moves the last axis to the channels' place, or that to the last."""
    axes = list(range(spread + 2))
    turned = [0, axes[-1], *axes[1:-1]] if last else [0, *axes[2:], 1]
    return spread > 0 and list(attribute(node, "perm", ())) == turned


def read_layers(model: ModelProto) -> list[ReadLayer]:
    """List the layers of a graph whose weights can be read, in the order of computation."""
    reader = _Reader(model)
    return list(_layers(reader))


def _layers(reader: _Reader) -> Iterator[ReadLayer]:
    for node in reader.nodes:
        read = _READERS.get(node.op_type)
        if read is None or not node.output or node.output[0] in reader.taken:
            continue
        parts = read(reader, node)
        if parts is not None:
            weights, bias, spread, output = parts
            name = node.name or node.output[0]
            whole = np.zeros(len(weights[0])) + bias.reshape(-1)[: len(weights[0])]
            last = attribute(node, "channels_last", 0) == 1
            yield ReadLayer(name, weights, whole, reader.behind(output, spread, last=last))


def _convolution(reader: _Reader, node: NodeProto) -> _Found | None:
    weight = reader.value(node.input[1])
    if weight is None or weight.ndim < 3:
        return None
    bias = reader.added(given(node, 2))
    blocked = node.domain == "com.microsoft.nchwc"
    weights = [weight.reshape(len(weight), -1)]
    if blocked:
        weights += [each.reshape(len(weight), -1) for each in _unblocked(weight)]
    return tuple(weights), bias, weight.ndim - 2, node.output[0]


def _unblocked(weight: Doubles) -> Iterator[Doubles]:
    """Yield weights [O, I, …] in their own order for each in which ONNX Runtime may have put them.

    ``O/B, I/B, …, B of I, B of O`` where the input is laid out in blocks as well, else
    ``O/B, I, …, B of O`` (MLAS, reorder.cpp).
    """
    outputs, inputs, *kernel = weight.shape
    flat, size = weight.reshape(-1), math.prod(kernel)
    for block in _BLOCKS:
        if outputs % block:
            continue
        alone = flat.reshape(outputs // block, inputs, size, block)
        yield alone.transpose(0, 3, 1, 2).reshape(weight.shape)
        if inputs % block == 0:
            both = flat.reshape(outputs // block, inputs // block, size, block, block)
            yield both.transpose(0, 4, 1, 3, 2).reshape(weight.shape)


def _transposed_convolution(reader: _Reader, node: NodeProto) -> _Found | None:
    weight = reader.value(node.input[1])
    if weight is None or weight.ndim < 3 or attribute(node, "group", 1) != 1:
        return None
    rows = np.moveaxis(weight, 1, 0).reshape(weight.shape[1], -1)
    return (rows,), reader.added(given(node, 2)), weight.ndim - 2, node.output[0]


def _product(reader: _Reader, node: NodeProto) -> _Found | None:
    """Read `Gemm` and `MatMul`, fused or not, with the weight second."""
    weight = reader.value(node.input[1])
    if weight is None or weight.ndim != 2:
        return None
    weight = weight if attribute(node, "transB", 0) else weight.T
    bias = reader.added(given(node, 2)) * attribute(node, "beta", 1.0)
    return (weight * attribute(node, "alpha", 1.0),), bias, 0, node.output[0]


def _normalisation(reader: _Reader, node: NodeProto) -> _Found | None:
    parts = reader.normalisation(node)
    spread = 0 if node.op_type == "LayerNormalization" else 2
    return None if parts is None else ((parts[0][:, None],), parts[1], spread, node.output[0])


def _integers(reader: _Reader, node: NodeProto) -> _Found | None:
    """Read a product of integers, and the scale that makes real numbers of it."""
    cast = reader.only_reader(node.output[0])
    times = None if cast is None else reader.only_reader(cast.output[0])
    if cast is None or times is None or (cast.op_type, times.op_type) != ("Cast", "Mul"):
        return None
    scale = _scale_within(reader, [name for name in times.input if name != cast.output[0]])
    if scale is None:
        return None
    is_map = node.op_type == "ConvInteger"
    weight, zero = reader.value(node.input[1]), reader.added(given(node, 3))
    if weight is None:
        return None
    rows = weight.reshape(len(weight), -1) if is_map else weight.T
    rows = (rows - zero.reshape(-1, 1)) * scale.reshape(-1, 1)
    return (rows,), np.zeros(1), weight.ndim - 2 if is_map else 0, times.output[0]


def _scale_within(reader: _Reader, names: list[str]) -> Doubles | None:
    """Return the weights' scale: a factor itself, or what is multiplied with the features'."""
    for name in names:
        scale = reader.value(name)
        if scale is not None:
            return scale
        maker = reader.makers.get(name)
        if maker is not None and maker.op_type == "Mul":
            return _scale_within(reader, list(maker.input))
    return None


def _to_floats(reader: _Reader, node: NodeProto) -> _Found | None:
    """Read a product of integers that comes out as real numbers (com.microsoft)."""
    if node.op_type == "DynamicQuantizeMatMul":
        names, bias = (node.input[1], node.input[2], given(node, 3)), given(node, 4)
    else:
        names, bias = (node.input[1], node.input[3], given(node, 5)), given(node, 6)
    weight = reader.real(*names, axis=1)
    return None if weight is None else ((weight.T,), reader.added(bias), 0, node.output[0])


def _quantised(reader: _Reader, node: NodeProto) -> _Found | None:
    """Read a layer from quantised to quantised numbers."""
    turned = node.op_type == "QLinearConv" or attribute(node, "transB", 0) == 1
    weight = reader.real(*node.input[3:6], axis=0 if turned else -1)
    if weight is None:
        return None
    is_map = node.op_type == "QLinearConv"
    rows = weight.reshape(len(weight), -1) if turned else weight.T
    bias = np.zeros(1)
    place = {"QLinearConv": 8, "QGemm": 6}.get(node.op_type)
    if place is not None and given(node, place):
        # In the product of both scales.
        both = [reader.value(node.input[slot]) for slot in (1, 4)]
        if both[0] is None or both[1] is None:
            return None
        bias = reader.added(node.input[place]) * both[0] * both[1]
    rows = rows * (attribute(node, "alpha", 1.0) if node.op_type == "QGemm" else 1.0)
    return (rows,), bias, weight.ndim - 2 if is_map else 0, node.output[0]


_READERS: dict[str, Callable[[_Reader, NodeProto], _Found | None]] = {
    **dict.fromkeys(("Conv", "FusedConv"), _convolution),
    "ConvTranspose": _transposed_convolution,
    **dict.fromkeys(("FusedGemm", "FusedMatMul", "Gemm", "MatMul"), _product),
    **dict.fromkeys(
        ("BatchNormalization", "InstanceNormalization", "LayerNormalization"), _normalisation
    ),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), _integers),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat"), _to_floats),
    **dict.fromkeys(("QGemm", "QLinearConv", "QLinearMatMul"), _quantised),
}
