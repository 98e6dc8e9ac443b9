"""Linear layers, whatever they are written as.

    Gemm(φ, W, b)      MatMul(φ, W) [+ Add(·, b)]      FusedMatMul(φ, W)      Gemm(W, φ, transB)ᵀ
    Einsum(φ, W) that sums over one axis of φ, or over its positions, too      (W φᵀ)ᵀ
    Conv(φ, W, b) with a kernel of one position, as large as φ, or before its map is pooled

and those of :mod:`~cloakify.graph.analysis.summed_products`, of
:mod:`~cloakify.graph.analysis.quantised_layers` and of ai.onnx.ml. W must be a constant, which may
be repeated for each sample; a product of two computed tensors (attention) is no layer. Of features
that are brought to one length first, those before count
(:mod:`~cloakify.graph.analysis.cosine_heads`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.cosine_heads import before_length
from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.layer_parts import (
    described,
    is_weight,
    matrix,
    only_reader_of_kind,
    weight_shape,
    with_bias,
)
from cloakify.graph.analysis.quantised_layers import QUANTISED
from cloakify.graph.analysis.score_path import ScorePaths
from cloakify.graph.analysis.summed_products import (
    before_repeats,
    one_score,
    summed_product,
    vector_product,
)
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.support_vectors import support_vector_sizes
from cloakify.onnxfile.domains import MICROSOFT, ML, domain_of


def as_head(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Describe a node as a head, or return ``None`` where it is no linear layer."""
    reader = _LAYERS.get((domain_of(node), node.op))
    if reader is None or len(node.inputs) < _LEAST.get(node.op, 2) or not node.outputs:
        return None
    head = reader(node, constants, paths)
    if head is None:
        return None
    head = before_length(head, node, constants)
    return before_repeats(head, node) if node.op == "Mul" else head


def _gemm(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    features, weight = node.inputs[:2]
    if features in constants:
        return _weight_first(node, constants, paths)
    shape = matrix(weight, constants)
    if shape is None:
        return None
    num_features, num_classes = shape[::-1] if node.attrs.get("transB", 0) else shape
    axis = -2 if node.attrs.get("transA", 0) else -1
    scores = paths.reworked(node.outputs[0], 2, 0, num_classes)
    return described(node, paths, 0, axis, num_features, *scores)


def _fused(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read `FusedMatMul`, as ONNX Runtime writes a product with what turns and scales it."""
    if node.inputs[0] in constants:
        return _weight_first(node, constants, paths)
    shape = matrix(node.inputs[1], constants)
    if shape is None or node.attrs.get("transA", 0) or node.attrs.get("transBatchA", 0):
        return None
    features, classes = shape[::-1] if node.attrs.get("transB", 0) else shape
    scores = paths.reworked(with_bias(node.outputs[0], constants), None, 0, classes)
    return described(node, paths, 0, -1, features, *scores)


def _weight_first(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read the product of (W φᵀ)ᵀ that turns φ itself."""
    weight, features = node.inputs[:2]
    shape = matrix(weight, constants)
    output = _turned_back(node.outputs[0], constants)
    if shape is None or output is None or features in constants or not node.attrs.get("transB", 0):
        return None
    num_classes, num_features = shape[::-1] if node.attrs.get("transA", 0) else shape
    scores = paths.reworked(output, 2, 0, num_classes)
    return described(node, paths, 1, -1, num_features, *scores)


def _turned_back(output: gs.Tensor, constants: Constants) -> gs.Tensor | None:
    """Return scores [N, C] of which a product [C, N] is turned around, with their bias."""
    back = only_reader_of_kind(with_bias(output, constants), "Transpose")
    return None if back is None or not _turns(back) else with_bias(back.outputs[0], constants)


def _matmul(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    slot = 1 if is_weight(node.inputs[0], constants) else 0
    features, weight = node.inputs[slot], node.inputs[1 - slot]
    shape = matrix(weight, constants)
    if is_weight(features, constants) or shape is None:
        return vector_product(node, constants, paths)
    axes = len(weight_shape(weight, constants) or ())
    if axes > 2 and (features.shape is None or len(features.shape) < axes):
        # The samples would lie along another axis behind it.
        return None
    # W φ has its features along the rows of φ, φ W along the columns.
    num_features, num_classes = shape if slot == 0 else shape[::-1]
    scores = paths.reworked(with_bias(node.outputs[0], constants), None, slot, num_classes)
    axis = -1 if slot == 0 else -2
    return described(node, paths, slot, axis, num_features, *scores, behind=slot)


def _einsum(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read ``nd,cd->nc``, ``bchw,kc->bkhw`` and their like: axes of φ are summed over."""
    if len(node.inputs) != 2:
        return None
    slot = 1 if node.inputs[0] in constants else 0
    shape = constants.shape(node.inputs[1 - slot])
    own, stored, result = _letters(str(node.attrs.get("equation", "")), slot)
    if node.inputs[slot] in constants or shape is None or len(shape) != len(stored):
        return None
    if len(stored) == 1 and own[1:] == stored and result == own[0]:
        return one_score(node, constants, paths, slot, shape[0], node.outputs[0])
    if len(stored) > 2 and (result, stored[1:]) == (own[0] + stored[0], own[1:]):
        # ``bchw,kchw->bk``: all that a sample has is summed over, as by a kernel of its size.
        scores = paths.reworked(node.outputs[0], 2, 0, shape[0])
        head = described(node, paths, slot, 1, math.prod(shape[1:]), *scores)
        return replace(head, kernel=tuple(shape[2:]))
    if len(stored) != 2:
        return None
    pooled = _summed_over_positions(node, constants, paths, slot, (own, stored, result))
    if pooled is not None:
        return pooled
    summed = set(own) & set(stored) - set(result)
    kept = set(stored) & set(result) - set(own)
    if len(summed) != 1 or len(kept) != 1 or sorted(result) != sorted({*own, *kept} - summed):
        return None
    (along,), (across,) = summed, kept
    sizes = dict(zip(stored, shape, strict=True))
    place = own.index(along)
    # Before an ellipsis axes are counted from the front, behind it from the end.
    axis = place if place == 1 and len(own) > 2 and "." not in own[:2] else place - len(own)
    output: gs.Tensor | None = with_bias(node.outputs[0], constants)
    if result == across + own[0] and len(own) == 2:
        output = _turned_back(node.outputs[0], constants)
    elif place == 0 or result[0] != own[0] or axis not in (1, -1):
        return None
    if output is None:
        return None
    behind = len(result) - 1 - result.index(across) if result[0] == own[0] else 0
    scores = paths.reworked(output, None, behind, sizes[across])
    is_map = axis == 1 and behind > 0
    return described(node, paths, slot, axis, sizes[along], *scores, behind=behind, is_map=is_map)


def _summed_over_positions(
    node: gs.Node,
    constants: Constants,
    paths: ScorePaths,
    slot: int,
    letters: tuple[str, str, str],
) -> Head | None:
    """Read ``bhwc,ck->bk`` and its like: a layer at every position, and the sum of its scores."""
    own, stored, result = letters
    along = [each for each in stored if each in own and each not in result]
    features = node.inputs[slot]
    axis = own.index(along[0]) if len(along) == 1 else 0
    if len(own) < 3 or axis not in (1, len(own) - 1):
        return None
    if features.shape is None or len(features.shape) != len(own):
        return None
    (across,) = set(stored) - {*along}
    if across in own:
        # Each class has features of its own, in the place of positions.
        return None
    places = [each for each in range(1, len(own)) if each != axis]
    declared = [features.shape[each] for each in places]
    sizes = tuple(size for size in declared if isinstance(size, int) and size > 0)
    if result != own[0] + across or len(sizes) != len(places):
        return None
    count = dict(zip(stored, constants.shape(node.inputs[1 - slot]) or (), strict=True))
    scores = paths.reworked(with_bias(node.outputs[0], constants), 2, 0, count[across])
    axis = 1 if axis == 1 else -1
    head = described(node, paths, slot, axis, count[along[0]], *scores)
    return replace(head, summed=sizes, positions=len(sizes) if axis == 1 else 0)


def _letters(equation: str, slot: int) -> tuple[str, str, str]:
    """Return the letters of the features, of the weight and of the result; "" where it has others.

    An ellipsis counts as one letter, a point.
    """
    terms, arrow, result = equation.replace(" ", "").replace("...", ".").partition("->")
    letters = terms.split(",")
    if len(letters) != 2 or len(set(letters[slot])) < len(letters[slot]):
        return "", "", ""
    if not arrow:
        result = "".join(sorted(each for each in set(terms) - {","} if terms.count(each) == 1))
    return letters[slot], letters[1 - slot], result


def _linear_classifier(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read scikit-learn's linear models; their scores may come out as probabilities."""
    classes, numbers = (len(node.attrs.get(name, ())) for name in ("intercepts", "coefficients"))
    if classes < 2 or numbers % classes:
        return None
    return _whole_classifier(node, constants, numbers // classes, classes)


def _support_vectors(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read support vectors with a linear kernel: a linear map for each pair of classes."""
    sizes = support_vector_sizes(node.attrs)
    if sizes is None or node.attrs.get("kernel_type", "LINEAR") != "LINEAR":
        return None
    return _whole_classifier(node, constants, *sizes)


def _whole_classifier(
    node: gs.Node, constants: Constants, features: int, classes: int
) -> Head | None:
    if len(node.outputs) != 2 or node.inputs[0] in constants:
        return None
    scores = node.outputs[1].name
    return Head(
        node=node.name or node.outputs[0].name,
        op_type=node.op,
        features=node.inputs[0].name,
        features_slot=0,
        features_axis=-1,
        num_features=features,
        weight="",
        linear=scores,
        logits=scores,
        num_classes=classes,
    )


def _turned(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read (W φᵀ)ᵀ: the node that reads the features is the first `Transpose`."""
    product = only_reader_of_kind(node.outputs[0], "MatMul", "Gemm")
    if product is None or product.inputs[1] is not node.outputs[0] or not _turns(node):
        return None
    if node.inputs[0] in constants or product.attrs.get("transB", 0):
        return None
    weight, output = product.inputs[0], _turned_back(product.outputs[0], constants)
    shape = matrix(weight, constants)
    if shape is None or output is None:
        return None
    classes, features = shape[::-1] if product.attrs.get("transA", 0) else shape
    head = described(node, paths, 0, -1, features, *paths.reworked(output, 2, 0, classes))
    return replace(head, weight=weight.name)


def _turns(node: gs.Node) -> bool:
    """Tell whether a `Transpose` exchanges the two axes of a matrix."""
    return list(node.attrs.get("perm", ())) == [1, 0]


def _conv(node: gs.Node, constants: Constants, paths: ScorePaths) -> Head | None:
    """Read a kernel of one position, one as large as the features' map, or one that is pooled."""
    features, weight = node.inputs[:2]
    shape = constants.shape(weight)
    if features in constants or shape is None or len(shape) < 3:
        return None
    kernel = tuple(int(size) for size in shape[2:])
    behind = len(kernel)
    scores = paths.reworked(node.outputs[0], len(shape), behind, shape[0])
    channels = shape[1] * node.attrs.get("group", 1)
    head = described(node, paths, 0, 1, channels, *scores, behind=behind, is_map=True)
    padded = any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") in _PADDED
    if all(size == 1 for size in kernel):
        return None if padded else head
    dilated = any(step != 1 for step in node.attrs.get("dilations", ()))
    if not (dilated or padded or features.shape is None or tuple(features.shape[2:]) != kernel):
        return replace(head, num_features=channels * math.prod(kernel), kernel=kernel)
    # What a kernel sees more of than one position only its map's mean does not tell apart.
    return replace(head, window=kernel) if head.logits != head.linear else None


_PADDED = {"SAME_UPPER", "SAME_LOWER"}

# Inputs that a node can't be without, if it can be without a weight.
_LEAST = dict.fromkeys(
    ("DynamicQuantizeLinear", "LinearClassifier", "SVMClassifier", "Transpose"), 1
)

_LAYERS = {
    ("", "Gemm"): _gemm,
    ("", "MatMul"): _matmul,
    ("", "Mul"): summed_product,
    (MICROSOFT, "FusedMatMul"): _fused,
    ("", "Conv"): _conv,
    ("", "Einsum"): _einsum,
    ("", "Transpose"): _turned,
    (ML, "LinearClassifier"): _linear_classifier,
    (ML, "SVMClassifier"): _support_vectors,
    **QUANTISED,
}
