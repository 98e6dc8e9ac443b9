"""Write a classifier so that the runtime keeps its images in blocks of channels.

ONNX Runtime's convolutions work on blocks of 16 channels, and so do pools, activations, products
and sums of equal shapes between them. Any other operator has its input copied to the plain layout,
and its result back. In forward passes that is rare; for gradients, which read nearly every tensor
of the forward pass, it can cost as much as the convolutions. So means over all positions are
written as pools here, and gates of channels (squeeze and excitation, Hu et al., arXiv 1709.01507)
are repeated at each position before they are multiplied; and what comes out of another operator is
brought into blocks where it meets a tensor that is in blocks, lest that one be brought out of them.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.model.shapes import shape_of

# Operators of one input that go by elements, and those of several with inputs of equal shape, that
# ONNX Runtime runs on blocks.
_BY_ELEMENT = {"Relu", "Sigmoid", "Tanh", "HardSigmoid", "Gelu", "Identity"}
_OF_EQUALS = {"Add", "Sum", "Mul"}
_WINDOWED = {"Conv", "MaxPool", "AveragePool"}
_IF_INSIDE = {"GlobalAveragePool", "GlobalMaxPool", "Resize"}


def keep_blocks(graph: gs.Graph) -> None:
    """Rewrite means and gates of a specialised graph in place; results change by rounding only."""
    builder = Builder(graph)
    written = len(graph.nodes)
    for node in graph.nodes[:written]:
        if node.op == "ReduceMean" and _over_positions(node):
            node.op, node.attrs, node.inputs = "GlobalAveragePool", {}, node.inputs[:1]
        elif node.op == "Mul" and any(reader.op == "Conv" for reader in node.outputs[0].outputs):
            _repeat_gate(builder, node)
    # In the order of computation: a repeated gate stands before the product that reads it.
    forward, repeats = graph.nodes[:written], graph.nodes[written:]
    place = {id(repeat.outputs[0]): repeat for repeat in repeats}
    ordered = []
    for node in forward:
        ordered += [place[id(tensor)] for tensor in node.inputs if id(tensor) in place]
        ordered.append(node)
    graph.nodes[:] = ordered


def enter_blocks(graph: gs.Graph, first: int) -> None:
    """Bring tensors into blocks where nodes from number ``first`` on join them with such, in place.

    A pool of single positions does that, and gives the same numbers. Where a tensor has been padded
    there is no such way: the runtime merges padding into the pool, which may not have any.
    """
    builder = Builder(graph)
    inside: set[int] = set()
    entered: dict[int, Tensor] = {}
    ordered: list[gs.Node] = []
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        held = [id(tensor) in inside for tensor in node.inputs]
        if place >= first and node.op in _OF_EQUALS and any(held) and not all(held):
            outside = [tensor for tensor, is_in in zip(node.inputs, held, strict=True) if not is_in]
            if _all_alike(node.inputs) and not any(map(_is_padded, outside)):
                for tensor in outside:
                    if id(tensor) not in entered:
                        entered[id(tensor)] = builder.op(
                            "AveragePool", tensor, shape=shape_of(tensor), kernel_shape=[1, 1]
                        )
                        ordered.append(entered[id(tensor)].inputs[0])
                node.inputs = [entered.get(id(tensor), tensor) for tensor in node.inputs]
                held = [True] * len(held)
        if _stays_inside(node, held):
            inside.add(id(node.outputs[0]))
            if node.outputs[0].shape is None and node.op in _BY_ELEMENT | _OF_EQUALS:
                node.outputs[0].shape = node.inputs[0].shape
        ordered.append(node)
    graph.nodes[:] = ordered


def _stays_inside(node: gs.Node, held: list[bool]) -> bool:
    """Tell whether a node's only output is in blocks, for inputs some of which are."""
    if node.domain or len(node.outputs) > 1:
        return False
    if node.op in _WINDOWED:
        return node.op != "Conv" or _is_static_image_kernel(node.inputs[1])
    if node.op in _OF_EQUALS:
        return all(held) and _all_alike(node.inputs)
    return node.op in _BY_ELEMENT | _IF_INSIDE and held[0]


def _is_static_image_kernel(kernel: Tensor) -> bool:
    return isinstance(kernel, gs.Constant) and _is_image(kernel)


def _all_alike(tensors: list[Tensor]) -> bool:
    """Tell whether all are images of one shape, none of them a constant."""
    if any(isinstance(tensor, gs.Constant) or not tensor.shape for tensor in tensors):
        return False
    shapes = {tuple(shape_of(tensor)) for tensor in tensors}
    return len(shapes) == 1 and all(_is_image(tensor) for tensor in tensors)


def _is_padded(tensor: Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op == "Pad"


def _over_positions(node: gs.Node) -> bool:
    """Tell whether a ReduceMean takes an NCHW image to [N, C, 1, 1]."""
    x = node.inputs[0]
    if not _is_image(x) or not node.attrs.get("keepdims", 1) or len(node.inputs) < 2:
        return False
    axes = node.inputs[1]
    return isinstance(axes, gs.Constant) and sorted(int(a) % 4 for a in axes.values) == [2, 3]


def _repeat_gate(builder: Builder, node: gs.Node) -> None:
    shape = shape_of(node.outputs[0])
    for place, gate in enumerate(node.inputs):
        x = node.inputs[1 - place]
        single = _is_image(gate) and not isinstance(gate, gs.Constant)
        if single and shape_of(gate) == [*shape[:2], 1, 1] and shape_of(x) == list(shape):
            repeated = builder.magnify(gate, shape[2:])
            repeated.shape = list(shape)
            node.inputs[place] = repeated
            return


def _is_image(tensor: Tensor) -> bool:
    return tensor.dtype == np.float32 and len(shape_of(tensor)) == 4
