"""Find where gates can stand: behind every layer that has channels and leads to the features.

    Conv, ConvTranspose          the channels of the output
    Gemm, MatMul [+ Add bias]    the last axis; in attention, the projections of every head
    BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization

The threshold of the activation behind is moved by one of two: a shift, y = gate · (W x + b) +
shift, which every layer can have; or, where a layer adds a constant, by a gate on that,
y = gate · (W x + bias gate · b).

Layers of images (sequences, volumes) can have a gate (and a shift) at every position of every
channel as well, where the file says how many positions there are. No weight takes those up: they
stay in the graph.

The head itself has none: its channels are the classes. A convolution that leads into a batch
normalisation alone is gated behind that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import UsageError
from cloakify.graph.analysis.head import Head
from cloakify.graph.model.constants import Constants, given
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.imported import import_graph, infer_shapes
from cloakify.graph.model.weights import set_weights_aside
from cloakify.onnxfile import FLOATS


@dataclass(frozen=True)
class BiasInput:
    """Where a layer reads the constant that it adds.

    Attributes
    ----------
    value
        The constant.
    reader, place
        The node that reads it, by its first output, and the number of its input.
    spread
        The shape in which it broadcasts to the layer's output; ``None`` where it does as it is.
    """

    value: str
    reader: str
    place: int
    spread: tuple[int, ...] | None


@dataclass(frozen=True)
class GateSite:
    """A layer whose output, or the constant that it adds, can be gated; or to which can be added.

    Attributes
    ----------
    name
        The layer's node; where it has no name, its output.
    op_type
        Its operator.
    output
        The layer's output: the value that is gated unless there is a bias.
    channels
        How many gates it takes: one a channel, or one at each position of each.
    shape
        The shape in which they broadcast to the gated value.
    element_type
        Of the gated value, an ONNX code.
    scaled
        The initializers that take the gates up when they are folded, each with the axis of its
        channels; empty where one of them serves other nodes as well or is computed.
    bias
        The constant that is gated instead of the output, in what it adds to the output.
    adds
        Whether the constants are shifts: added to the output, behind its gate.
    free_bias
        Where a shift can be folded though the layer adds nothing yet: the node, by its first
        output, and the number of the input that is left out.
    """

    name: str
    op_type: str
    output: str
    channels: int
    shape: tuple[int, ...]
    element_type: int
    scaled: tuple[tuple[str, int], ...]
    bias: BiasInput | None = None
    adds: bool = False
    free_bias: tuple[str, int] | None = None

    @property
    def by_position(self) -> bool:
        """Whether the positions of a channel have gates of their own."""
        return len(self.shape) > 1 and self.channels != self.shape[1]

    @property
    def foldable(self) -> bool:
        """Whether the gates or shifts can be folded into the layer's weights."""
        return bool(self.scaled) or self.free_bias is not None


@dataclass(frozen=True)
class _Layer:
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


def find_gate_sites(
    model: ModelProto, head: Head, *, by_position: bool = False, shifts: bool = False
) -> list[GateSite]:
    """List the layers that can be gated, in file order, each followed by its shift or its bias.

    Parameters
    ----------
    model
        The classifier; its weights need not be loaded.
    head
        Its head; only layers that lead to its features count.
    by_position
        Whether layers of images get a gate at every position of a channel; only where their sizes
        are known.
    shifts
        Whether each layer's output gets shifts, as many as it has gates, or else its bias gates.
    """
    graph = import_graph(model)
    ranks = _Ranks(model)
    constants = Constants(graph)
    leading = {id(node) for node in leading_to(graph.nodes, [head.features]).nodes}
    inputs = {value.name for value in model.graph.input} if model.ir_version >= 4 else set()
    writable = {tensor.name for tensor in model.graph.initializer} - inputs
    sites: list[GateSite] = []
    for node in graph.nodes:
        reader = _LAYERS.get(node.op)
        if reader is None or node.domain not in (None, "", "ai.onnx") or id(node) not in leading:
            continue
        if node.outputs[0] in constants:
            continue
        layer = reader(node, constants, ranks)
        if layer is None or id(layer.output.inputs[0]) not in leading:
            continue
        element_type = ranks.element_type(layer.output)
        if element_type not in FLOATS:
            continue
        name = node.name or node.outputs[0].name
        output = layer.output.name
        positions = ranks.image_shape(layer) if by_position else None
        scaled = () if positions else _foldable(layer.constants, writable)
        shape = positions or layer.shape
        count = math.prod(shape)
        site = GateSite(name, node.op, output, count, shape, element_type, scaled)
        if shifts:
            sites += [site, _shift_site(site, layer, ranks, writable)]
        else:
            sites += [site, *_bias_site(site, layer, ranks, writable)]
    return sites


def _shift_site(site: GateSite, layer: _Layer, ranks: _Ranks, writable: Set[str]) -> GateSite:
    """Return the site of what is added to a layer's gated output."""
    shift = replace(site, scaled=(), adds=True)
    if site.by_position:
        return shift
    if layer.free_bias is not None:
        node, place = layer.free_bias
        return replace(shift, free_bias=(node.outputs[0].name, place))
    if layer.bias is None or ranks.element_type(layer.constants[-1][0]) != site.element_type:
        return shift
    return replace(shift, scaled=_foldable(layer.constants[-1:], writable))


def _bias_site(site: GateSite, layer: _Layer, ranks: _Ranks, writable: Set[str]) -> list[GateSite]:
    """Return the site of a layer's bias; none where it has no bias that can be gated."""
    if layer.bias is None:
        return []
    adder, place = layer.bias
    added = adder.inputs[place]
    stored = isinstance(added, gs.Constant) or added.inputs[0].op == "Constant"
    if not stored or ranks.element_type(added) != site.element_type:
        return []
    shape = (layer.channels,)
    spread = None if layer.shape == shape else layer.shape
    scaled = _foldable(layer.constants[-1:], writable)
    source = BiasInput(added.name, adder.outputs[0].name, place, spread)
    return [replace(site, channels=layer.channels, shape=shape, scaled=scaled, bias=source)]


def _foldable(
    constants: Sequence[tuple[gs.Tensor, int]], writable: Set[str]
) -> tuple[tuple[str, int], ...]:
    """Return the constants by name, or nothing if one is computed or serves other nodes as well."""
    if any(tensor.name not in writable or len(tensor.outputs) > 1 for tensor, _ in constants):
        return ()
    return tuple((tensor.name, axis) for tensor, axis in constants)


def choose_sites(sites: Sequence[GateSite], pattern: str) -> list[GateSite]:
    """Return the sites whose name or value matches a shell pattern, ``all``, or the ``last``.

    Raises
    ------
    UsageError
        None does.
    """
    if pattern == "last":
        return [site for site in sites if site.output == sites[-1].output]
    chosen = [
        site
        for site in sites
        if pattern == "all" or fnmatchcase(site.name, pattern) or fnmatchcase(site.output, pattern)
    ]
    if not chosen:
        # A layer's bias has gates of its own, under the layer's name.
        names = list(dict.fromkeys(site.name for site in sites))
        listed = ", ".join(map(repr, names[:8])) or "none"
        raise UsageError(f"--tune-layers {pattern!r} matches no layer; there are {listed}")
    return chosen


class _Ranks:
    """Ranks and types of a model's values, by shape inference when first asked for one."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._known: dict[str, onnx.TypeProto.Tensor] | None = None

    def rank(self, tensor: gs.Tensor) -> int | None:
        """Return a value's rank, or ``None`` where it can't be inferred."""
        known = self._types().get(tensor.name)
        return len(known.shape.dim) if known is not None and known.HasField("shape") else None

    def image_shape(self, layer: _Layer) -> tuple[int, ...] | None:
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


def _conv(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
    return _convolution(node, 0, constants)


def _conv_transpose(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
    # With groups the output channels lie along two axes of the weight.
    return _convolution(node, 1, constants) if node.attrs.get("group", 1) == 1 else None


def _convolution(node: gs.Node, axis: int, constants: Constants) -> _Layer | None:
    stored, bias = [(node.inputs[1], axis)], _added(node, 2)
    if bias is not None:
        stored.append((node.inputs[2], 0))
    shape = _shape_of_all(stored, constants)
    if shape is None or (_single(node) and _feeds_normalisation(node, constants)):
        return None
    channels = shape[axis]
    spread = (1, channels, *[1] * (len(shape) - 2))
    free = None if bias else (node, 2)
    return _Layer(node.outputs[0], channels, spread, tuple(stored), bias, free)


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


def _gemm(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
    axis = 0 if node.attrs.get("transB", 0) else 1
    stored, bias = [(node.inputs[1], axis)], _added(node, 2)
    if bias is not None:
        stored.append((node.inputs[2], -1))
    shape = _shape_of_all(stored, constants)
    if shape is None:
        return None
    channels = shape[axis]
    layer = _Layer(node.outputs[0], channels, (channels,), tuple(stored), bias)
    if bias is None:
        return replace(layer, free_bias=(node, 2)) if _adds_plainly(node) else layer
    if (constants.shape(node.inputs[2]) or (0,))[-1] != channels:
        # One number for all channels can take up neither their factors nor have any of its own.
        return replace(layer, constants=(), bias=None)
    return layer if _adds_plainly(node) else replace(layer, bias=None)


def _adds_plainly(node: gs.Node) -> bool:
    """Tell whether a `Gemm` adds its bias as it is."""
    return bool(node.attrs.get("beta", 1.0) == 1)


def _matmul(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
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
    return _Layer(output, channels, (channels,), tuple(stored), bias)


def _batch_like(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
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
    spread = (1, shape[0], *[1] * (rank - 2))
    return _Layer(node.outputs[0], shape[0], spread, tuple(stored), (node, 2))


def _layer_norm(node: gs.Node, constants: Constants, ranks: _Ranks) -> _Layer | None:
    stored = [(tensor, 0) for tensor in node.inputs[1:3] if not tensor.is_empty()]
    shape = _shape_of_all(stored, constants)
    if shape is None or len(shape) != 1:
        return None
    bias = _added(node, 2)
    free = None if bias else (node, 2)
    return _Layer(node.outputs[0], shape[0], shape, tuple(stored), bias, free)


def _shape_of_all(
    stored: Sequence[tuple[gs.Tensor, int]], constants: Constants
) -> tuple[int, ...] | None:
    """Return the shape of the first, or ``None`` unless all are constants of known shape."""
    shapes = [constants.shape(tensor) for tensor, _ in stored]
    return None if any(shape is None for shape in shapes) else shapes[0]


_LAYERS: dict[str, Callable[[gs.Node, Constants, _Ranks], _Layer | None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_like,
    "InstanceNormalization": _batch_like,
    "GroupNormalization": _batch_like,
    "LayerNormalization": _layer_norm,
}
