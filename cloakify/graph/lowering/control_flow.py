"""`If`, `Loop` and `Scan` whose course is known before any data: written out as plain nodes.

Exporters leave them behind for choices that depend on shapes or flags alone. An `If` with a
constant condition becomes its branch; a `Loop` with a constant trip count that nothing cuts short,
and every `Scan`, becomes its iterations, as long as they are no more than :data:`MOST_NODES` nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import Shapes, Writer, attribute, replace_nodes
from cloakify.onnxfile import values_of
from cloakify.onnxfile.domains import is_standard

# Unrolled nodes of one loop. An attack's session would take seconds to open beyond that.
MOST_NODES = 4000


def write_out_control_flow(model: ModelProto, shapes: Shapes) -> bool:
    """Replace what can be, in place; tell whether anything was.

    Parameters
    ----------
    model
        A model whose shape arithmetic is folded.
    shapes
        The shapes known.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    replacements: dict[int, list[NodeProto]] = {}
    names = names_in(model)
    for place, node in enumerate(graph.node):
        if not is_standard(node) or node.op_type not in ("If", "Loop", "Scan"):
            continue
        writer = Writer(names, node.op_type)
        if node.op_type == "If":
            done = _branch(writer, node, constants)
        elif node.op_type == "Loop":
            done = _loop(writer, node, constants)
        else:
            done = _scan(writer, node, shapes)
        if done:
            replacements[place] = writer.nodes
            graph.initializer.extend(writer.constants)
    replace_nodes(graph, replacements)
    return bool(replacements)


def _branch(writer: Writer, node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    """Write an `If` out where its condition is constant; tell whether it is."""
    if node.input[0] not in constants:
        return False
    taken = bool(values_of(constants[node.input[0]]).item())
    branch: GraphProto = attribute(node, "then_branch" if taken else "else_branch")
    results = writer.inline(branch, {})
    for result, output in zip(results, node.output, strict=True):
        if output:
            writer.op("Identity", result, output=output)
    return True


def _loop(writer: Writer, node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    """Write a `Loop` out where the number of its iterations is known; tell whether it is."""
    body: GraphProto = attribute(node, "body")
    count, go_on = node.input[0], node.input[1]
    if count not in constants or (go_on and not _is_true(constants.get(go_on))):
        return False
    if not _always_continues(body):
        return False
    trips = int(values_of(constants[count]).item())
    if trips * len(body.node) > MOST_NODES or trips < 1:
        return False
    true = writer.constant(np.array(True))
    carried = list(node.input[2:])
    collected: list[list[str]] = [[] for _ in node.output[len(carried) :]]
    for trip in range(trips):
        number = writer.constant(np.array(trip, np.int64))
        names = [value.name for value in body.input]
        results = writer.inline(body, dict(zip(names, [number, true, *carried], strict=True)))
        carried = results[1 : 1 + len(carried)]
        for part, result in zip(collected, results[1 + len(carried) :], strict=True):
            part.append(result)
    _finish(writer, node, carried, [(part, 0) for part in collected])
    return True


def _scan(writer: Writer, node: NodeProto, shapes: Shapes) -> bool:
    """Write a `Scan` out where the length of its sequences is known; tell whether it is."""
    body: GraphProto = attribute(node, "body")
    scanned = attribute(node, "num_scan_inputs")
    carried = list(node.input[: len(node.input) - scanned])
    sources = list(node.input[len(carried) :])
    results_count = len(node.output) - len(carried)
    axes = attribute(node, "scan_input_axes") or [0] * scanned
    backwards = attribute(node, "scan_input_directions") or [0] * scanned
    out_axes = attribute(node, "scan_output_axes") or [0] * results_count
    out_backwards = attribute(node, "scan_output_directions") or [0] * results_count
    if any(source not in shapes for source in sources):
        return False
    trips = shapes[sources[0]][axes[0]]
    if trips * len(body.node) > MOST_NODES or trips < 1:
        return False
    collected: list[list[str]] = [[] for _ in range(results_count)]
    for trip in range(trips):
        items = [
            writer.op(
                "Gather",
                source,
                writer.constant(np.array(trips - 1 - trip if back else trip, np.int64)),
                axis=axis,
            )
            for source, axis, back in zip(sources, axes, backwards, strict=True)
        ]
        names = [value.name for value in body.input]
        results = writer.inline(body, dict(zip(names, [*carried, *items], strict=True)))
        for part, result in zip(collected, results[len(carried) :], strict=True):
            part.append(result)
        carried = results[: len(carried)]
    parts = [
        (part[::-1] if back else part, axis)
        for part, axis, back in zip(collected, out_axes, out_backwards, strict=True)
    ]
    _finish(writer, node, carried, parts)
    return True


def _finish(
    writer: Writer, node: NodeProto, carried: list[str], parts: list[tuple[list[str], int]]
) -> None:
    """Give the last carried values, and the stacked items, the names of the node's outputs."""
    for name, output in zip(carried, node.output, strict=False):
        if output:
            writer.op("Identity", name, output=output)
    for (items, axis), output in zip(parts, node.output[len(carried) :], strict=True):
        if output:
            place = writer.ints(axis)
            rows = [writer.op("Unsqueeze", item, place) for item in items]
            writer.op("Concat", *rows, output=output, axis=axis)


def _is_true(tensor: TensorProto | None) -> bool:
    return tensor is not None and bool(values_of(tensor).item())


def _always_continues(body: GraphProto) -> bool:
    """Tell whether a loop's body returns the condition it got, or a constant that holds."""
    wanted = body.output[0].name
    makers: dict[str, NodeProto] = {name: node for node in body.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in body.initializer}
    for name in _back(wanted, makers):
        if name == body.input[1].name or _is_true(tensors.get(name)):
            return True
        node = makers.get(name)
        if node is not None and node.op_type == "Constant":
            return _is_true(attribute(node, "value"))
    return False


def _back(name: str, makers: dict[str, NodeProto]) -> Iterator[str]:
    yield name
    while name in makers and makers[name].op_type in ("Identity", "Cast"):
        name = makers[name].input[0]
        yield name
