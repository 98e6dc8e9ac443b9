"""Free the names that working graphs use, where a model has values called so itself.

What cloakify adds to a working copy is called ``cloakify_…``: labels, losses, iterates, written-out
steps. A model may hold such names too, by chance or on purpose. They are renamed in the copy; those
of masks, gates and packed samples stay, since they are meant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from onnx import GraphProto, ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.edit.cut import OWN
from cloakify.graph.edit.gates import GATE, UNGATED
from cloakify.graph.edit.mask import MASK, MASKED_FEATURES
from cloakify.graph.model.names import names_in
from cloakify.graph.model.rewrite import rename

PREFIX = "cloakify_"

_MEANT = re.compile(
    rf"({MASK}|{MASKED_FEATURES})(_\d+)?|({GATE}|{UNGATED})_\d+|({'|'.join(OWN)})(_\d+)?"
)


def make_way(model: ModelProto, wanted: Sequence[str]) -> tuple[ModelProto, list[str]]:
    """Return ``model``, or a copy in which no name can be taken for one of a working graph.

    Parameters
    ----------
    wanted
        Names of values that are asked for.

    Returns
    -------
    The model and what the wanted values are called in it.

    Raises
    ------
    ModelError
        A data input has such a name: it is fed by it, and can't be renamed.
    """
    found = {name for name in _values(model.graph) if _is_ours(name)}
    if not found:
        return model, list(wanted)
    for value in data_inputs(model):
        if value.name in found:
            raise ModelError(
                f"the model's input is called {value.name!r}, a name that cloakify uses for its "
                "own; rename it"
            )
    names = names_in(model)
    mapping = {name: names.fresh(f"model_{name}") for name in sorted(found)}
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        rename(node, mapping)
    for tensor in copy.graph.initializer:
        tensor.name = mapping.get(tensor.name, tensor.name)
    for value in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        value.name = mapping.get(value.name, value.name)
    return copy, [mapping.get(name, name) for name in wanted]


def _is_ours(name: str) -> bool:
    return name.startswith(PREFIX) and not _MEANT.fullmatch(name)


def _values(graph: GraphProto) -> set[str]:
    names = {tensor.name for tensor in graph.initializer}
    names.update(value.name for value in graph.input)
    nodes: Sequence[NodeProto] = graph.node
    for node in nodes:
        names.update(node.output)
    return names
