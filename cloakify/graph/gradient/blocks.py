"""Write a classifier so that the runtime keeps its images in blocks of channels.

ONNX Runtime's convolutions work on blocks of 16 channels, and so do pools, activations, products
and sums of equal shapes between them. Any other operator has its input copied to the plain layout,
and its result back. In forward passes that is rare; for gradients, which read nearly every tensor
of the forward pass, it can cost as much as the convolutions. So means over all positions are
written as pools here, and gates of channels (squeeze and excitation, Hu et al., arXiv 1709.01507)
are repeated at each position before they are multiplied.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Builder, Tensor


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


def _over_positions(node: gs.Node) -> bool:
    """Tell whether a ReduceMean takes an NCHW image to [N, C, 1, 1]."""
    x = node.inputs[0]
    if not _is_image(x) or not node.attrs.get("keepdims", 1) or len(node.inputs) < 2:
        return False
    axes = node.inputs[1]
    return isinstance(axes, gs.Constant) and sorted(int(a) % 4 for a in axes.values) == [2, 3]


def _repeat_gate(builder: Builder, node: gs.Node) -> None:
    shape = node.outputs[0].shape
    for place, gate in enumerate(node.inputs):
        x = node.inputs[1 - place]
        single = _is_image(gate) and not isinstance(gate, gs.Constant)
        if single and list(gate.shape) == [*shape[:2], 1, 1] and list(x.shape) == list(shape):
            repeated = builder.magnify(gate, shape[2:])
            repeated.shape = list(shape)
            node.inputs[place] = repeated
            return


def _is_image(tensor: Tensor) -> bool:
    return tensor.dtype == np.float32 and len(tensor.shape) == 4
