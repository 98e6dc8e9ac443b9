"""Branches that are always taken: an `If` whose condition the file fixes is its branch.

Exporters leave such an `If` behind for choices by flags. Who asks for a value inside gets the
branch's nodes in the place of the `If`, with the names that they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.model.dataflow import leading_to, values_made
from cloakify.graph.model.rewrite import attribute, replace_nodes
from cloakify.onnxfile.domains import is_standard
from cloakify.onnxfile.walk import iter_graphs

# What conditions are computed by: nothing that makes much out of little.
_SMALL = {
    *("Add", "And", "Cast", "Concat", "Constant", "Div", "Equal", "Gather", "Greater"),
    *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Not"),
    *("Or", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Xor"),
}
# Numbers in all constants that a condition is computed from.
_MOST = 1 << 12


def exposing(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return ``model``, or where one of these values is inside a branch, a copy without branches.

    Parameters
    ----------
    names
        Of values; those that are in no branch that is always taken are not looked for further.
    """
    outside = {name for node in model.graph.node for name in values_made(node)}
    outside |= {value.name for value in model.graph.input}
    outside |= {tensor.name for tensor in model.graph.initializer}
    return model if outside.issuperset(names) else write_out_branches(model)


def write_out_branches(model: ModelProto) -> ModelProto:
    """Return ``model`` with the branches that are always taken in the place of their `If`.

    Names stay what they are. A branch that shares one with another part of the graph stays where
    it is; where there is no other the model itself is returned.
    """
    written = model
    while True:
        graph = written.graph
        made = Counter(_names_made([graph])) if any(map(_is_if, graph.node)) else Counter[str]()
        taken: dict[int, str] = {}
        for place, node in enumerate(graph.node):
            way = _way(node, [graph], model)
            if way is None:
                continue
            branch = Counter(_names_made([attribute(node, way)]))
            elsewhere = made - Counter(_names_made(_graphs_in(node))) - Counter(values_made(node))
            if not branch.keys() & {*elsewhere, *node.output}:
                taken[place] = way
                made = elsewhere + branch
        if not taken:
            return written
        if written is model:
            written = ModelProto()
            written.CopyFrom(model)
        _replace(written.graph, taken)


def graphs_taken(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the graph and the branches in it that are always taken, at any depth."""
    waiting = [[model.graph]]
    while waiting:
        scope = waiting.pop()
        yield scope[-1]
        ways = [(node, _way(node, scope, model)) for node in scope[-1].node]
        waiting += [[*scope, attribute(node, way)] for node, way in ways if way is not None]


def _is_if(node: NodeProto) -> bool:
    return node.op_type == "If" and is_standard(node)


def _way(node: NodeProto, scope: Sequence[GraphProto], model: ModelProto) -> str | None:
    """Return which branch of an `If` is always taken; ``None`` where the data decide."""
    flag = _flag(node.input[0], scope, model) if _is_if(node) else None
    return None if flag is None else "then_branch" if flag else "else_branch"


def _flag(name: str, scope: Sequence[GraphProto], model: ModelProto) -> bool | None:
    """Return a condition that is computed from constants; ``None`` of any other.

    Parameters
    ----------
    scope
        The graphs that it may be computed in, the outermost first.
    """
    stored = {tensor.name: tensor for graph in scope for tensor in graph.initializer}
    if model.ir_version >= 4:
        # An initializer that is an input, too, is only what it is by default.
        stored = {key: stored[key] for key in stored.keys() - {v.name for v in model.graph.input}}
    needed = leading_to([node for graph in scope for node in graph.node], [name])
    made = {value for node in needed.nodes for value in values_made(node)}
    constants = [stored[value] for value in sorted(needed.values - made) if value in stored]
    known = made | {tensor.name for tensor in constants}
    small = sum(int(np.prod(tensor.dims)) for tensor in constants) <= _MOST
    usual = all(node.op_type in _SMALL and not node.domain for node in needed.nodes)
    if not (needed.values <= known and small and usual):
        return None
    # Rarely asked, and slow to load.
    from onnx.reference import ReferenceEvaluator

    part = onnx.helper.make_graph(
        needed.nodes, "condition", [], [onnx.ValueInfoProto(name=name)], constants
    )
    runnable = onnx.helper.make_model(part, opset_imports=model.opset_import)
    try:
        # Where it makes no sense, whoever runs the model says so.
        with boundary("a condition can't be computed"), np.errstate(all="raise"):
            (value,) = ReferenceEvaluator(runnable).run(None, {})
            return bool(np.asarray(value).reshape(-1)[0])
    except ModelError:
        return None


def _graphs_in(node: NodeProto) -> list[GraphProto]:
    return [entry.g for entry in node.attribute if entry.HasField("g")]


def _names_made(graphs: Sequence[GraphProto]) -> Iterator[str]:
    """Yield the names that graphs give to values, at any depth, as often as they do."""
    for outer in graphs:
        for graph in iter_graphs(outer):
            yield from {value.name for value in graph.input}
            yield from {tensor.name for tensor in graph.initializer}
            for node in graph.node:
                yield from values_made(node)


def _replace(graph: GraphProto, taken: dict[int, str]) -> None:
    """Put branches in the place of the `If` nodes that stand at these places."""
    replacements: dict[int, list[NodeProto]] = {}
    for place, way in taken.items():
        node = graph.node[place]
        branch: GraphProto = attribute(node, way)
        results = [
            onnx.helper.make_node("Identity", [inner.name], [outer], f"{outer}_of_branch")
            for inner, outer in zip(branch.output, node.output, strict=True)
            if outer
        ]
        replacements[place] = [*branch.node, *results]
        graph.initializer.extend(branch.initializer)
        graph.value_info.extend(branch.value_info)
    replace_nodes(graph, replacements)
