"""Linear layers on quantised numbers.

    MatMulInteger, ConvInteger      of features that are quantised as they come
    QGemm, QLinearMatMul, QLinearConv      of features that are quantised by a fixed scale
    MatMulNBits, DynamicQuantizeMatMul      of floats, the weights packed (com.microsoft)

A mask is a product of floats: the node that reads the features as floats is the one that quantises
them, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.layer_parts import described, matrix, only_reader_of_kind, with_bias
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.model.constants import Constants
from cloakify.onnxfile.domains import MICROSOFT

# What gives quantised values another shape, or pools scores.
_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze")
_POOLS = ("QLinearGlobalAveragePool", "QLinearAveragePool", *_MOVES)
# The slot of the weights.
_PRODUCTS = {"QGemm": 3, "QLinearMatMul": 3, "QLinearConv": 3}


def _on_the_way(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a product of features that are quantised as they come (dynamic quantisation).

    φ → DynamicQuantizeLinear → MatMulInteger(·, W) → Cast → Mul(·, scales) [→ Add(·, b)]
    φ → DynamicQuantizeLinear → MatMulIntegerToFloat(·, W, …, b)

    The same with a scale that is fixed, `QuantizeLinear`, is what ONNX Runtime's quantiser wrote
    before it had QOperators.
    """
    output = node.outputs[0]
    whole = _product_of(node, "MatMulIntegerToFloat")
    if whole is not None:
        shape, output = matrix(whole.inputs[1], constants), whole.outputs[0]
        scores = paths.reworked(output, None, 0, shape[1] if shape else 0)
        return None if shape is None else described(node, paths, 0, -1, shape[0], *scores)
    product = _product_of(node, "MatMulInteger", "ConvInteger")
    if product is None:
        return None
    output = product.outputs[0]
    for op in ("Cast", "Mul"):
        reader = only_reader_of_kind(output, op)
        if reader is None or output not in reader.inputs:
            return None
        output = reader.outputs[0]
    stored = constants.shape(product.inputs[1])
    output = with_bias(output, constants)
    if product.op == "ConvInteger":
        return _map_head(node, product, stored, output, paths)
    if stored is None or len(stored) != 2:
        return None
    scores = paths.reworked(output, None, 0, stored[1])
    return described(node, paths, 0, -1, stored[0], *scores)


def _product_of(node: gs.Node, *ops: str) -> gs.Node | None:
    """Return the layer that alone reads what a node makes of the features, scales apart."""
    product = only_reader_of_kind(node.outputs[0], *ops)
    if product is None or len(product.inputs) < 2:
        return None
    return product if product.inputs[0] is node.outputs[0] else None


def _by_fixed_scale(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a layer from quantised to quantised numbers (QOperator).

    φ → QuantizeLinear → QGemm, QLinearMatMul or QLinearConv [→ QLinearAdd] → DequantizeLinear

    Where a softmax or sigmoid of quantised numbers follows, the scores are quantised, too.
    """
    if node.inputs[0] not in constants:
        integers = _on_the_way(node, constants, paths)
        if integers is not None:
            return integers
    quantised = _moved(node.outputs[0], _MOVES)
    product = only_reader_of_kind(quantised, *_PRODUCTS)
    head: Head | None = None
    if product is None or product.inputs[0] is not quantised or node.inputs[0] in constants:
        return None
    if len(product.inputs) <= _PRODUCTS[product.op]:
        return None
    stored = constants.shape(product.inputs[_PRODUCTS[product.op]])
    if stored is None or (quantised is not node.outputs[0] and product.op == "QLinearConv"):
        return None
    output = product.outputs[0]
    added = only_reader_of_kind(output, "QLinearAdd")
    if added is not None:
        output = added.outputs[0]
    output = _moved(output, _POOLS if product.op == "QLinearConv" else _MOVES)
    back = only_reader_of_kind(output, "DequantizeLinear")
    bend = only_reader_of_kind(output, "QLinearSoftmax", "QLinearSigmoid")
    if (
        bend is not None
        and len(bend.inputs) > 2
        and product.op != "QLinearConv"
        and len(stored) == 2
    ):
        features, classes = stored[::-1] if product.attrs.get("transB", 0) else stored
        head = described(node, paths, 0, -1, features, output, classes)
        scale = (bend.inputs[1].name, bend.inputs[2].name)
        own = product.outputs[0].name
        return replace(head, weight="", logits=output.name, scale=scale, product=own)
    if back is None and not (product.op == "QGemm" and len(product.inputs) < 8):
        return None
    output = with_bias(output if back is None else back.outputs[0], constants)
    if product.op == "QLinearConv":
        head = _map_head(node, product, stored, output, paths)
    elif len(stored) != 2:
        return None
    else:
        features, classes = stored[::-1] if product.attrs.get("transB", 0) else stored
        scores = paths.reworked(output, None, 0, classes)
        head = described(node, paths, 0, -1, features, *scores)
    if head is None:
        return None
    # The layer's constants are the head's where nothing else has been done to its scores.
    same = head.linear == output.name
    return replace(head, weight="", product=product.outputs[0].name if same else "")


def _map_head(
    node: gs.Node,
    product: gs.Node,
    stored: tuple[int, ...] | None,
    output: gs.Tensor,
    paths: ScorePaths,
) -> Head | None:
    """Describe a convolution with a kernel of one position."""
    plain = product.attrs.get("group", 1) == 1 and not any(product.attrs.get("pads", ()))
    if stored is None or not plain or any(size != 1 for size in stored[2:]):
        return None
    behind = len(stored) - 2
    scores = paths.reworked(output, len(stored), behind, stored[0])
    return described(node, paths, 0, 1, stored[1], *scores, behind=behind, is_map=True)


def _moved(tensor: gs.Tensor, ops: tuple[str, ...]) -> gs.Tensor:
    """Follow a tensor over nodes of some kinds, as long as they alone read it."""
    while (node := only_reader_of_kind(tensor, *ops)) is not None and node.inputs[0] is tensor:
        tensor = node.outputs[0]
    return tensor


def _packed(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read `MatMulNBits`, whose attributes say how many features and classes there are."""
    features, classes = node.attrs.get("K"), node.attrs.get("N")
    if not isinstance(features, int) or not isinstance(classes, int):
        return None
    if node.inputs[0] in constants or node.inputs[1] not in constants:
        return None
    output = with_bias(node.outputs[0], constants)
    scores = paths.reworked(output, None, 0, classes)
    return replace(described(node, paths, 0, -1, features, *scores), weight="")


def _of_floats(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read `DynamicQuantizeMatMul`: floats go in and come out."""
    shape = matrix(node.inputs[1], constants)
    if node.inputs[0] in constants or shape is None:
        return None
    scores = paths.reworked(with_bias(node.outputs[0], constants), None, 0, shape[1])
    return replace(described(node, paths, 0, -1, shape[0], *scores), weight="")


Reader = Callable[[gs.Node, Constants, ScorePaths], Head | None]

QUANTISED: dict[tuple[str, str], Reader] = {
    ("", "DynamicQuantizeLinear"): _on_the_way,
    ("", "QuantizeLinear"): _by_fixed_scale,
    (MICROSOFT, "QuantizeLinear"): _by_fixed_scale,
    (MICROSOFT, "MatMulNBits"): _packed,
    (MICROSOFT, "DynamicQuantizeMatMul"): _of_floats,
}
"""Nodes that read the features of a quantised layer, by domain and operator."""
