"""Linear layers, whatever they are written as.

    Gemm(φ, W, b)      MatMul(φ, W) [+ Add(·, b)]      Conv(φ, W, b) with a 1×1 kernel
    Einsum(φ, W) that sums over the last axis of φ      MatMulInteger(φ quantised on the way, W)
    (W φᵀ)ᵀ      Conv(φ, W, b) with a kernel as large as φ      LinearClassifier(φ) of ai.onnx.ml

W must be a constant; a product of two computed tensors (attention) is no layer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.model.constants import Constants


def as_head(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Describe a node as a head, or return ``None`` where it is no linear layer."""
    if (node.domain, node.op) == ("ai.onnx.ml", "LinearClassifier"):
        return _linear_classifier(node, constants)
    if node.domain not in (None, "", "ai.onnx") or not node.inputs or not node.outputs:
        return None
    # With a weight of their own, and with one that a later node holds.
    whole = {"Gemm": _gemm, "MatMul": _matmul, "Conv": _conv, "Einsum": _einsum}
    begun = {"Transpose": _turned, "DynamicQuantizeLinear": _quantised_on_the_way}
    described = begun.get(node.op) or (whole.get(node.op) if len(node.inputs) > 1 else None)
    return None if described is None else described(node, constants, paths)


def _matrix(tensor: gs.Tensor, constants: Constants) -> tuple[int, int] | None:
    """Return how many rows and columns a constant matrix has; ``None`` of anything else."""
    shape = constants.shape(tensor)
    return None if shape is None or len(shape) != 2 else (shape[0], shape[1])


def _gemm(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    features, weight = node.inputs[:2]
    shape = _matrix(weight, constants)
    if features in constants or shape is None:
        return None
    num_features, num_classes = shape[::-1] if node.attrs.get("transB", 0) else shape
    axis = -2 if node.attrs.get("transA", 0) else -1
    scores = paths.reworked(node.outputs[0], 2, 0, num_classes)
    return _head(node, paths, 0, axis, num_features, *scores)


def _matmul(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    slot = 1 if node.inputs[0] in constants else 0
    shape = _matrix(node.inputs[1 - slot], constants)
    if node.inputs[slot] in constants or shape is None:
        return None
    # W φ has its features along the rows of φ, φ W along the columns.
    num_features, num_classes = shape if slot == 0 else shape[::-1]
    scores = paths.reworked(_with_bias(node.outputs[0], constants), None, slot, num_classes)
    return _head(node, paths, slot, -1 if slot == 0 else -2, num_features, *scores)


def _with_bias(output: gs.Tensor, constants: Constants) -> gs.Tensor:
    """Return what a product becomes by a constant that is added to it, or itself."""
    if len(output.outputs) == 1 and output.outputs[0].op == "Add":
        bias = output.outputs[0]
        if all(tensor is output or tensor in constants for tensor in bias.inputs):
            return bias.outputs[0]
    return output


def _einsum(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read ``nd,cd->nc`` and its like: the last axis of φ is summed over, with a matrix."""
    if len(node.inputs) != 2:
        return None
    slot = 1 if node.inputs[0] in constants else 0
    shape = _matrix(node.inputs[1 - slot], constants)
    terms, arrow, result = str(node.attrs.get("equation", "")).replace(" ", "").partition("->")
    letters = terms.split(",")
    if node.inputs[slot] in constants or shape is None or not arrow:
        return None
    if len(letters) != 2 or len(letters[1 - slot]) != 2 or not letters[slot] or not result:
        return None
    summed, kept = letters[slot][-1], result[-1]
    if result != letters[slot][:-1] + kept or {summed, kept} != set(letters[1 - slot]):
        return None
    if summed == kept or letters[slot].count(summed) != 1 or kept in letters[slot]:
        return None
    sizes = dict(zip(letters[1 - slot], shape, strict=True))
    output = _with_bias(node.outputs[0], constants)
    scores = paths.reworked(output, None, 0, sizes[kept])
    return _head(node, paths, slot, -1, sizes[summed], *scores)


def _linear_classifier(node: gs.Node, constants: Constants) -> Head | None:
    """Read scikit-learn's linear models; their scores may come out as probabilities."""
    classes, numbers = (len(node.attrs.get(name, ())) for name in ("intercepts", "coefficients"))
    if classes < 2 or numbers % classes or len(node.outputs) != 2 or node.inputs[0] in constants:
        return None
    scores = node.outputs[1].name
    return Head(
        node=node.name or node.outputs[0].name,
        op_type=node.op,
        features=node.inputs[0].name,
        features_slot=0,
        features_axis=-1,
        num_features=numbers // classes,
        weight="",
        linear=scores,
        logits=scores,
        num_classes=classes,
    )


def _quantised_on_the_way(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a product of features that are quantised as they come (dynamic quantisation).

        φ → DynamicQuantizeLinear → MatMulInteger(·, W) → Cast → Mul(·, scales) [→ Add(·, b)]

    The node that reads the features as floats is the first.
    """
    output = node.outputs[0]
    product = _only_reader(output, "MatMulInteger")
    for op in ("MatMulInteger", "Cast", "Mul"):
        reader = _only_reader(output, op)
        if reader is None or reader.inputs[0] is not output:
            return None
        output = reader.outputs[0]
    shape = None if product is None else _matrix(product.inputs[1], constants)
    if shape is None:
        return None
    scores = paths.reworked(_with_bias(output, constants), None, 0, shape[1])
    return _head(node, paths, 0, -1, shape[0], *scores)


def _turned(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read (W φᵀ)ᵀ: the node that reads the features is the first `Transpose`."""
    product = _only_reader(node.outputs[0], "MatMul")
    if product is None or product.inputs[1] is not node.outputs[0] or not _turns(node):
        return None
    weight, back = product.inputs[0], _only_reader(product.outputs[0], "Transpose")
    shape = _matrix(weight, constants)
    if back is None or not _turns(back) or shape is None or node.inputs[0] in constants:
        return None
    output = _with_bias(back.outputs[0], constants)
    head = _head(node, paths, 0, -1, shape[1], *paths.reworked(output, 2, 0, shape[0]))
    return replace(head, weight=weight.name)


def _turns(node: gs.Node) -> bool:
    """Tell whether a `Transpose` exchanges the two axes of a matrix."""
    return list(node.attrs.get("perm", ())) == [1, 0]


def _only_reader(tensor: gs.Tensor, op: str) -> gs.Node | None:
    """Return the only node that reads a tensor, if it is of that kind."""
    return tensor.outputs[0] if [node.op for node in tensor.outputs] == [op] else None


def _conv(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a 1×1 kernel, or one as large as the features' map, of which it makes one answer."""
    features, weight = node.inputs[:2]
    shape = constants.shape(weight)
    if features in constants or shape is None:
        return None
    if node.attrs.get("group", 1) != 1 or any(node.attrs.get("pads", ())):
        return None
    kernel = tuple(int(size) for size in shape[2:])
    scores = paths.reworked(node.outputs[0], len(shape), len(shape) - 2, shape[0])
    if all(size == 1 for size in kernel):
        return _head(node, paths, 0, 1, shape[1], *scores)
    dilated = any(step != 1 for step in node.attrs.get("dilations", ()))
    if dilated or features.shape is None or tuple(features.shape[2:]) != kernel:
        return None
    head = _head(node, paths, 0, 1, shape[1] * math.prod(kernel), *scores)
    return replace(head, kernel=kernel)


def _head(
    node: gs.Node,
    paths: ScorePaths,
    slot: int,
    axis: int,
    features: int,
    output: gs.Tensor,
    classes: int,
) -> Head:
    # W φ has its scores along the rows of what it puts out.
    behind = slot if node.op == "MatMul" else 0
    return Head(
        node=node.name or node.outputs[0].name,
        op_type=node.op,
        features=node.inputs[slot].name,
        features_slot=slot,
        features_axis=axis,
        num_features=int(features),
        weight=node.inputs[1 - slot].name if len(node.inputs) > 1 else "",
        linear=output.name,
        logits=paths.scores_of(output, behind, is_map=node.op == "Conv").name,
        num_classes=int(classes),
    )
