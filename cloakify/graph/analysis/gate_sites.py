"""Find where gates can stand: behind every layer that has channels and leads to the features.

    Conv, ConvTranspose          the channels of the output
    Gemm, MatMul [+ Add bias]    the last axis; in attention, the projections of every head
    BatchNormalization, InstanceNormalization, LayerNormalization, GroupNormalization
    those of node_layers.py      recurrent, quantised and fused ones, which take nodes alone

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
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import onnx_graphsurgeon as gs
from onnx import ModelProto

from cloakify.errors import UsageError
from cloakify.graph.analysis.channel_layers import ChannelLayer, Ranks
from cloakify.graph.analysis.ending import Ending
from cloakify.graph.analysis.node_layers import read_layer
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.imported import import_graph
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
    weightless
        Whether no weight of the layer could take gates up, whatever reads it.
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
    weightless: bool = False

    @property
    def by_position(self) -> bool:
        """Whether the positions of a channel have gates of their own."""
        return len(self.shape) > 1 and self.channels != self.shape[1]

    @property
    def foldable(self) -> bool:
        """Whether the gates or shifts can be folded into the layer's weights."""
        return bool(self.scaled) or self.free_bias is not None


def find_gate_sites(
    model: ModelProto, ending: Ending, *, by_position: bool = False, shifts: bool = False
) -> list[GateSite]:
    """List the layers that can be gated, in file order, each followed by its shift or its bias.

    Parameters
    ----------
    model
        The classifier; its weights need not be loaded.
    ending
        Its head, or what stands in its place; only layers that lead there count.
    by_position
        Whether layers of images get a gate at every position of a channel; only where their sizes
        are known.
    shifts
        Whether each layer's output gets shifts, as many as it has gates, or else its bias gates.
    """
    graph = import_graph(model)
    ranks = Ranks(model)
    constants = Constants(graph)
    leading = {id(node) for node in leading_to(graph.nodes, ending.ends).nodes}
    inputs = {value.name for value in model.graph.input} if model.ir_version >= 4 else set()
    writable = {tensor.name for tensor in model.graph.initializer} - inputs
    sites: list[GateSite] = []
    for node in graph.nodes:
        if id(node) not in leading or node.outputs[0] in constants:
            continue
        layer = read_layer(node, constants, ranks)
        if layer is None or id(layer.output.inputs[0]) not in leading:
            continue
        element_type = ranks.element_type(layer.output)
        if layer.typed is not None:
            element_type = element_type or ranks.element_type(layer.typed)
        if element_type not in FLOATS:
            continue
        name = node.name or node.outputs[0].name or layer.output.name
        output = layer.output.name
        positions = ranks.image_shape(layer) if by_position else None
        scaled = () if positions else _foldable(layer.constants, writable)
        shape = positions or layer.shape
        count = math.prod(shape)
        weightless = not layer.constants
        site = GateSite(
            name, node.op, output, count, shape, element_type, scaled, weightless=weightless
        )
        if shifts:
            sites += [site, _shift_site(site, layer, ranks, writable)]
        else:
            sites += [site, *_bias_site(site, layer, ranks, writable)]
    return sites


def _shift_site(site: GateSite, layer: ChannelLayer, ranks: Ranks, writable: Set[str]) -> GateSite:
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


def _bias_site(
    site: GateSite, layer: ChannelLayer, ranks: Ranks, writable: Set[str]
) -> list[GateSite]:
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
