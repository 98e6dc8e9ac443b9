"""Layers whose gates no weight takes up: they stay nodes behind what the layer puts out.

    LSTM, GRU, RNN                                      the hidden state, of both directions alike
    MatMul (W, x), of a matrix and columns              the rows of W
    MatMulInteger, ConvInteger → Cast → Mul             as the products that they are
    Einsum                                              the last axis, where W alone has its label
    RMSNormalization, SimplifiedLayerNormalization      the last axis
    FusedConv                                           as a convolution, behind its activation
    FusedGemm, FusedMatMul, MatMulNBits, DynamicQuantizeMatMul, MatMulIntegerToFloat
    SkipLayerNormalization, SkipSimplifiedLayerNormalization

The last three lines are ONNX Runtime's own (domain ``com.microsoft``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.channel_layers import LAYERS, ChannelLayer, Ranks, along_second
from cloakify.graph.analysis.layer_parts import only_reader_of_kind
from cloakify.graph.model.constants import Constants
from cloakify.onnxfile.domains import MICROSOFT, domain_of

Reader = Callable[[gs.Node, Constants, Ranks], ChannelLayer | None]


def read_layer(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    """Describe a node as a layer with channels; ``None`` where it is none."""
    domain = domain_of(node)
    for reader in (None if domain else LAYERS.get(node.op), _NODE_LAYERS.get((domain, node.op))):
        layer = reader(node, constants, ranks) if reader else None
        if layer is not None:
            return layer
    return None


def _along_last(output: gs.Tensor, channels: int, typed: gs.Tensor) -> ChannelLayer:
    return ChannelLayer(output, channels, (channels,), (), typed=typed)


def _recurrent(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    """``Y`` and ``Y_h`` end in the hidden state, whatever the layout; one of them is read."""
    shape = constants.shape(node.inputs[2])
    read = [output for output in node.outputs[:2] if output.outputs]
    return _along_last(read[0], shape[-1], node.inputs[2]) if shape and read else None


def _columns(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    weight, output = node.inputs[0], node.outputs[0]
    shape = constants.shape(weight)
    if shape is None or len(shape) != 2 or node.inputs[1] in constants or ranks.rank(output) != 3:
        return None
    return ChannelLayer(output, shape[0], along_second(shape[0], 3), (), typed=weight)


def _einsum(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    terms, _, result = node.attrs["equation"].replace(" ", "").partition("->")
    parts = terms.split(",")
    fixed = [place for place, tensor in enumerate(node.inputs) if tensor in constants]
    if len(parts) != 2 or len(fixed) != 1 or not result or result[-1] == ".":
        return None
    (place,), label = fixed, result[-1]
    shape = constants.shape(node.inputs[place])
    own = label in parts[place] and label not in parts[1 - place]
    if shape is None or not own or "." in parts[place]:
        return None
    return _along_last(node.outputs[0], shape[parts[place].index(label)], node.inputs[place])


def _scaled(place: int) -> Reader:
    """Read a normalisation of the last axis, whose scale is the input at that place."""

    def read(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
        scale = node.inputs[place]
        shape = constants.shape(scale)
        if shape is None or len(shape) != 1:
            return None
        return _along_last(node.outputs[0], shape[0], scale)

    return read


def _fused_conv(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    shape = constants.shape(node.inputs[1])
    if shape is None:
        return None
    spread = along_second(shape[0], len(shape))
    return ChannelLayer(node.outputs[0], shape[0], spread, (), typed=node.inputs[1])


def _weights(typed: int = 1) -> Reader:
    """Read a product with a matrix; the input at that place has the type of what it puts out."""

    def read(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
        shape = constants.shape(node.inputs[1])
        if shape is None or len(shape) < 2 or math.prod(shape[:-2]) != 1:
            return None
        channels = shape[-2 if node.attrs.get("transB", 0) else -1]
        return _along_last(node.outputs[0], channels, node.inputs[typed])

    return read


def _packed(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    channels, scales = node.attrs.get("N"), node.inputs[2]
    if not isinstance(channels, int) or scales not in constants:
        return None
    return _along_last(node.outputs[0], channels, scales)


def _of_integers(node: gs.Node, constants: Constants, ranks: Ranks) -> ChannelLayer | None:
    """Read a product of integers that its scales make floats again: → Cast → Mul."""
    shape = constants.shape(node.inputs[1])
    cast = only_reader_of_kind(node.outputs[0], "Cast")
    scaled = None if cast is None else only_reader_of_kind(cast.outputs[0], "Mul")
    if shape is None or len(shape) < 2 or scaled is None:
        return None
    output = scaled.outputs[0]
    if node.op == "ConvInteger":
        return ChannelLayer(output, shape[0], along_second(shape[0], len(shape)), ())
    return ChannelLayer(output, shape[-1], (shape[-1],), ()) if len(shape) == 2 else None


_NODE_LAYERS: dict[tuple[str, str], Reader] = {
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
    ("", "MatMul"): _columns,
    ("", "Einsum"): _einsum,
    ("", "MatMulInteger"): _of_integers,
    ("", "ConvInteger"): _of_integers,
    ("", "RMSNormalization"): _scaled(1),
    ("", "SimplifiedLayerNormalization"): _scaled(1),
    (MICROSOFT, "FusedConv"): _fused_conv,
    (MICROSOFT, "FusedGemm"): _weights(),
    (MICROSOFT, "FusedMatMul"): _weights(),
    (MICROSOFT, "MatMulNBits"): _packed,
    (MICROSOFT, "DynamicQuantizeMatMul"): _weights(2),
    (MICROSOFT, "MatMulIntegerToFloat"): _weights(2),
    (MICROSOFT, "SkipLayerNormalization"): _scaled(2),
    (MICROSOFT, "SkipSimplifiedLayerNormalization"): _scaled(2),
}
