"""Free the names that working graphs use, where a model has values called so itself.

What cloakify adds to a working copy is called ``cloakify_…``: labels, losses, iterates, written-out
steps. A model may hold such names too, by chance or on purpose. They are renamed in the copy; those
of masks, gates and packed samples stay, since they are meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from onnx import GraphProto, NodeProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.edit.cut import OWN
from cloakify.graph.edit.gates import GATE, SHIFT, UNGATED
from cloakify.graph.edit.mask import MASK, MASKED_FEATURES
from cloakify.graph.lowering.state import Lowering
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import rename

PREFIX = "cloakify_"

_MEANT = re.compile(
    rf"({MASK}|{MASKED_FEATURES})(_\d+)?|({GATE}|{SHIFT}|{UNGATED})_\d+|({'|'.join(OWN)})(_\d+)?"
)


def free_names(lowering: Lowering) -> bool:
    """Rename what has such a name, and what is wanted along with it; tell whether anything has.

    Raises
    ------
    ModelError
        A data input has such a name: it is fed by it, and can't be renamed.
    """
    graph = lowering.model.graph
    taken = {name for name in _values(graph) if _is_ours(name)}
    if not taken:
        return False
    for value in graph.input:
        if value.name in taken and value.name not in lowering.weights:
            raise ModelError(
                f"the model's input is called {value.name!r}, a name that cloakify uses for its "
                "own; rename it"
            )
    names = names_in(lowering.model)
    renamed = {name: names.fresh(f"model_{name}") for name in sorted(taken)}
    for node in graph.node:
        rename(node, renamed)
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renamed.get(value.name, value.name)
    for name in renamed.keys() & lowering.weights.keys():
        weight = TensorProto()
        weight.CopyFrom(lowering.weights.pop(name))
        weight.name = renamed[name]
        lowering.weights[weight.name] = weight
    if lowering.outputs is not None:
        lowering.outputs = [renamed.get(name, name) for name in lowering.outputs]
    lowering.renamed.update(renamed)
    return True


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not _MEANT.fullmatch(name)


def _values(graph: GraphProto) -> set[str]:
    names = {tensor.name for tensor in graph.initializer}
    names.update(value.name for value in graph.input)
    nodes: Sequence[NodeProto] = graph.node
    for node in nodes:
        names.update(node.output)
    return names
