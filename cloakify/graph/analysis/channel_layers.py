"""Layers with channels, as gates see them: what their nodes say of shapes and constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.graph.model.constants import Constants, given
from cloakify.graph.model.imported import infer_shapes
from cloakify.graph.model.weights import set_weights_aside


@dataclass(frozen=True)
class ChannelLayer:
    """What a node says of itself: its value, gates' shape, and the constants with their axes.

    The bias is the last of the constants.
    """

    output: gs.Tensor
    channels: int
    shape: tuple[int, ...]
    constants: tuple[tuple[gs.Tensor, int], ...]
    # The node that adds a constant, and which of its inputs that is.
    bias: tuple[gs.Node, int] | None = None
    # The same of a constant that it could add, and does not.
    free_bias: tuple[gs.Node, int] | None = None
    # What has the output's type, where no shape inference knows the operator.
    typed: gs.Tensor | None = None


class Ranks:
    """Ranks and types of a model's values, by shape inference when first asked for one."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._known: dict[str, onnx.TypeProto.Tensor] | None = None

    def rank(self, tensor: gs.Tensor) -> int | None:
        """Return a value's rank, or ``None`` where it can't be inferred."""
        known = self._types().get(tensor.name)
        return len(known.shape.dim) if known is not None and known.HasField("shape") else None

    def image_shape(self, layer: ChannelLayer) -> tuple[int, ...] | None:
        """Return [1, C, …] with all positions of a layer's output, or ``None`` if not known."""
        if len(layer.shape) < 3:
            return None
        known = self._types().get(layer.output.name)
        dims = known.shape.dim[2:] if known is not None else []
        sizes = tuple(dim.dim_value for dim in dims)
        return (1, layer.channels, *sizes) if sizes and all(size > 0 for size in sizes) else None

    def element_type(self, tensor: gs.Tensor) -> int:
        """Return a value's element type, 0 where it can't be inferred."""
        known = self._types().get(tensor.name)
        return known.elem_type if known is not None else 0

    def _types(self) -> dict[str, onnx.TypeProto.Tensor]:
        if self._known is None:
            skeleton, _ = set_weights_aside(self._model)
            inferred = infer_shapes(skeleton)
            values = (
                *self._model.graph.value_info,
                *inferred.graph.value_info,
                *inferred.graph.input,
                *inferred.graph.output,
            )
            self._known = {value.name: value.type.tensor_type for value in values}
            for tensor in self._model.graph.initializer:
                # A shape it has as well; only of outputs is that asked for.
                self._known[tensor.name] = onnx.TypeProto.Tensor(elem_type=tensor.data_type)
        return self._known


def _conv(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    return _convolution(node, 0, constants)


def _conv_transpose(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    # With groups the output channels lie along two axes of the weight.
    return _convolution(node, 1, constants) if node.attrs.get("group", 1) == 1 else None


def along_second(channels: int, rank: int) -> tuple[int, ...]:
    """Return the shape in which numbers of channels spread over images and signals."""
    return (1, channels, *[1] * (rank - 2))


def _convolution(node: gs.Node, axis: int, constants: Constants) -> ChannelLayer | None:
    stored, bias = [(node.inputs[1], axis)], _added(node, 2)
    if bias is not None:
        stored.append((node.inputs[2], 0))
    shape = _shape_of_all(stored, constants)
    if shape is None or (_single(node) and _feeds_normalisation(node, constants)):
        return None
    channels = shape[axis]
    spread = along_second(channels, len(shape))
    free = None if bias else (node, 2)
    return ChannelLayer(node.outputs[0], channels, spread, tuple(stored), bias, free)


def _added(node: gs.Node, place: int) -> tuple[gs.Node, int] | None:
    """Return where a node reads its optional bias, if it has one."""
    return (node, place) if given(node, place) else None


def _single(node: gs.Node) -> bool:
    return len(node.outputs[0].outputs) == 1


def _feeds_normalisation(node: gs.Node, constants: Constants) -> bool:
    reader = node.outputs[0].outputs[0]
    return reader.op == "BatchNormalization" and all(
        tensor in constants for tensor in reader.inputs[1:]
    )


def _gemm(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    axis = 0 if node.attrs.get("transB", 0) else 1
    stored, bias = [(node.inputs[1], axis)], _added(node, 2)
    if bias is not None:
        stored.append((node.inputs[2], -1))
    shape = _shape_of_all(stored, constants)
    if shape is None:
        return None
    channels = shape[axis]
    layer = ChannelLayer(node.outputs[0], channels, (channels,), tuple(stored), bias)
    if bias is None:
        return replace(layer, free_bias=(node, 2)) if _adds_plainly(node) else layer
    if (constants.shape(node.inputs[2]) or (0,))[-1] != channels:
        # One number for all channels can take up neither their factors nor have any of its own.
        return replace(layer, constants=(), bias=None)
    return layer if _adds_plainly(node) else replace(layer, bias=None)


def _adds_plainly(node: gs.Node) -> bool:
    """Tell whether a `Gemm` adds its bias as it is."""
    return bool(node.attrs.get("beta", 1.0) == 1)


def _matmul(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    shape = constants.shape(node.inputs[1])
    if node.inputs[0] in constants or shape is None or len(shape) != 2:
        return None
    channels, bias = shape[1], None
    stored = [(node.inputs[1], 1)]
    output = node.outputs[0]
    if len(output.outputs) == 1 and output.outputs[0].op == "Add":
        added = output.outputs[0]
        other = added.inputs[1] if added.inputs[0] is output else added.inputs[0]
        size = constants.shape(other)
        if size and size[-1] == channels:
            stored.append((other, -1))
            bias = added, 0 if added.inputs[0] is other else 1
            output = added.outputs[0]
    return ChannelLayer(output, channels, (channels,), tuple(stored), bias)


def _batch_like(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    """Describe a normalisation with channels along axis 1 and one scale and bias for each."""
    if node.attrs.get("training_mode", 0):
        return None
    stored = [(node.inputs[1], 0), (node.inputs[2], 0)]
    shape = _shape_of_all(stored, constants)
    rank = ranks.rank(node.outputs[0])
    if shape is None or rank is None or rank < 2:
        return None
    if node.op == "GroupNormalization" and shape[0] == node.attrs["num_groups"]:
        # Before opset 21 there is one scale a group.
        return None
    spread = along_second(shape[0], rank)
    return ChannelLayer(node.outputs[0], shape[0], spread, tuple(stored), (node, 2))


def _layer_norm(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    stored = [(tensor, 0) for tensor in node.inputs[1:3] if not tensor.is_empty()]
    shape = _shape_of_all(stored, constants)
    if shape is None or len(shape) != 1:
        return None
    bias = _added(node, 2)
    free = None if bias else (node, 2)
    return ChannelLayer(node.outputs[0], shape[0], shape, tuple(stored), bias, free)


def _shape_of_all(
    stored: Sequence[tuple[gs.Tensor, int]], constants: Constants
) -> tuple[int, ...] | None:
    """Return the shape of the first, or ``None`` unless all are constants of known shape."""
    shapes = [constants.shape(tensor) for tensor, _ in stored]
    return None if any(shape is None for shape in shapes) else shapes[0]


LAYERS: dict[str, Callable[[gs.Node, Constants, Ranks], ChannelLayer | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_like,
    "InstanceNormalization": _batch_like,
    "GroupNormalization": _batch_like,
    "LayerNormalization": _layer_norm,
}
