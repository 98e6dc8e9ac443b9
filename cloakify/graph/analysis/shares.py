"""What gives out probabilities, or leaves them what they are, whichever node it is."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from cloakify.graph.model.constants import Constants, constant_number, constant_numbers
from cloakify.graph.model.imported import is_float

# Classifiers of scikit-learn's, and what makes the scores of the first probabilities above 0.
_CLASSIFIER, _POSITIVE = "LinearClassifier", {"SOFTMAX", "LOGISTIC"}
_SUPPORT_VECTORS = "SVMClassifier"
# A bound that cuts no more off a probability than this is one against infinities.
_SMALL = 1e-3
# What makes no number below 0, and what keeps numbers so that are.
_POSITIVE_OF_ALL = {
    *("Abs", "Exp", "HardSigmoid", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Relu", "Sigmoid"),
    *("Softmax", "Softplus", "Sqrt"),
}
_MOST_DEEP = 16
_POSITIVE_OF_POSITIVE = {
    *("Add", "Cast", "Concat", "Div", "Dropout", "Expand", "Flatten", "Gather"),
    *("GlobalAveragePool", "Identity", "Mean", "Min", "Mul", "Pow", "Reciprocal", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice", "Split"),
    *("Squeeze", "Sum", "Tile", "Transpose", "Unsqueeze"),
}


def answers_with_shares(node: gs.Node) -> bool:
    """Tell whether a whole classifier's numbers are probabilities above 0."""
    transform = node.attrs.get("post_transform", "NONE")
    if node.op == _SUPPORT_VECTORS:
        # Coupled from Platt's sigmoids, which nothing else is done to.
        return bool(transform == "NONE" and len(node.attrs.get("prob_a", ())))
    return bool(node.op == _CLASSIFIER and transform in _POSITIVE)


def brings_to_one(node: gs.Node) -> bool:
    """Tell whether a node divides each row of a matrix of positive numbers by its sum."""
    if node.op == "Normalizer":
        return bool(node.attrs.get("norm", "MAX") == "L1")
    shape = node.inputs[0].shape if node.inputs else None
    rows = shape is not None and len(shape) == 2 and node.attrs.get("axis", -1) in (-1, 1)
    return bool(node.op == "LpNormalization" and rows and node.attrs.get("p", 2) == 1)


def cuts_little(node: gs.Node) -> bool:
    """Tell whether a `Clip` only keeps probabilities away from 0, and from 1."""
    bounds = {"min": 0.0, "max": 1.0}
    for place, name in enumerate(bounds, start=1):
        if name in node.attrs:
            bounds[name] = float(node.attrs[name])
        elif len(node.inputs) > place and not node.inputs[place].is_empty():
            told = constant_number(node.inputs[place])
            if told is None:
                return False
            bounds[name] = told
    return bounds["min"] <= _SMALL and bounds["max"] >= 1 - _SMALL


def is_positive(tensor: gs.Tensor, constants: Constants) -> bool:
    """Tell whether a value is known to hold no number below 0, by the last nodes before it."""
    return _is_positive(tensor, constants, _MOST_DEEP, {})


def _is_positive(
    tensor: gs.Tensor, constants: Constants, depth: int, known: dict[str, bool]
) -> bool:
    # What is read again and again would be walked as often.
    if tensor.name not in known:
        known[tensor.name] = _found_positive(tensor, constants, depth, known)
    return known[tensor.name]


def _found_positive(
    tensor: gs.Tensor, constants: Constants, depth: int, known: dict[str, bool]
) -> bool:
    numbers = constant_numbers(tensor) if tensor in constants else None
    if numbers is not None:
        return min(numbers, default=0) >= 0
    node = tensor.inputs[0] if tensor.inputs else None
    if node is None or not depth:
        return False
    if node.op in _POSITIVE_OF_ALL:
        return True
    given = [each for each in node.inputs if each.dtype is None or is_float(each)]
    if node.op == "Mul" and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]:
        return True
    if node.op in ("Clip", "Max"):
        bounds = node.inputs[1:2] if node.op == "Clip" else node.inputs
        # Before opset 11 the bound was an attribute.
        return node.attrs.get("min", -1) >= 0 or any(
            _is_positive(each, constants, depth - 1, known) for each in bounds if each.name
        )
    kept = node.op in _POSITIVE_OF_POSITIVE
    return kept and all(_is_positive(each, constants, depth - 1, known) for each in given)
