"""Refuse models whose shapes depend on the values of the data.

Gradient graphs are written for fixed shapes. What `Shape` tells is fixed with the inputs' shapes;
how many elements are not zero, or a size that is computed from values, is another one for every
sample. Running the model once would tell one of them only.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from onnx import ModelProto, NodeProto

from cloakify.errors import UnsupportedOperatorError
from cloakify.graph.model.dataflow import SIZES, reached_from
from cloakify.graph.model.rewrite import given
from cloakify.onnxfile.domains import is_standard

# The inputs whose values the shape of an operator's result depends on.
_SHAPED_BY: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "If": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}


def refuse_moving_shapes(
    model: ModelProto, weights: Container[str], shapes: Container[str]
) -> None:
    """Raise if the shape of a tensor depends on values that change with the data.

    Parameters
    ----------
    model
        A model in which shape arithmetic is folded as far as shapes are known.
    weights
        Names of the graph's inputs that are constant.
    shapes
        Names of the tensors whose shape is known.

    Raises
    ------
    UnsupportedOperatorError
        Names the first operator that makes such a tensor.
    """
    sources = [value.name for value in model.graph.input if value.name not in weights]
    for node in shaped_by_values(model.graph.node, sources):
        if any(name and name not in shapes for name in node.output):
            raise UnsupportedOperatorError(
                f"{node.op_type} {node.name!r} makes a tensor whose shape depends on the values of "
                "the data, and gradients need fixed shapes; --attack square needs no gradient"
            )


def shaped_by_values(nodes: Sequence[NodeProto], sources: Iterable[str]) -> list[NodeProto]:
    """Return the nodes, in order, whose results have a shape that follows from ``sources``' values.

    Unless other values make up for it: some of these shapes turn out to be fixed.
    """
    moving = reached_from(nodes, sources, passes=passes_values)
    return [node for node in moving.nodes if _is_shaped_by(node, moving.values)]


def passes_values(node: NodeProto) -> bool:
    """Tell whether anything but sizes is read of a node's input."""
    return bool(node.domain) or node.op_type not in SIZES


def _is_shaped_by(node: NodeProto, moving: Container[str]) -> bool:
    places = () if not is_standard(node) else _SHAPED_BY.get(node.op_type, ())
    return any(given(node, place) in moving for place in places)
