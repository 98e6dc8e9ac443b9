"""Tell where what stands behind a layer's scores changes which of them is the largest.

    p = softmax(z)        w = p ∘ π / Σ(p ∘ π)        adjusted to another prior: by w, not by z
    y = mask ? z : −10⁹   some classes are never chosen
    y = p[:, 1:]          the class of what is none of them is left out
    y = p[:, π]           another order of the classes
    y = |z|, cos(z)       what is the largest need not be, as that rises and falls
    y = 1 − Π(1 − p)      one number of all: any of several parts decides
    y = 1 − p, z / f(x)   what is the largest may be the smallest, of all samples or of some
    σ(z₁ − z₀)            one score, not two
    ½ softmax(z) + ½ k    a vote with what has no layer; z + f(x): a part of each score
    trees(p), trees(p, q) another classifier on top (stacking), whatever it reads besides
    Σ p to here, …        anything that is not known to leave each score to itself

A model is judged by what it answers, so that the scores are those behind then.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import Head
from cloakify.graph.analysis.score_walk import MOVES, is_last_of, lost_at, picked_of
from cloakify.graph.analysis.shares import is_positive
from cloakify.graph.analysis.task import turns_read
from cloakify.graph.model.constants import Constants, constant_number, constant_numbers
from cloakify.graph.model.dataflow import between
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.names import called
from cloakify.onnxfile.domains import MICROSOFT, ML, domain_of

# What takes every number by itself, and a constant for each.
_BY_CLASS = {"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub", "Where"}
# What joins values, so that one which the scores have no part in counts as much as they do.
_JOINTS = _BY_CLASS | {"Gemm", "MatMul", "Mean", "Sum"}
# What goes up with each number, or at least not down.
_RISING = {
    *("Asinh", "Atan", "BatchNormalization", "Celu", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor"),
    *("HardSigmoid", "LeakyRelu", "Log", "QLinearSigmoid", "Relu", "Round", "Selu", "Shrink"),
    *("Sigmoid", "Sign", "Sinh", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
    # These do below their least value, which no largest score is worth.
    *("BiasGelu", "FastGelu", "Gelu", "HardSwish", "Mish", "QuickGelu", "Swish"),
}
# What brings the numbers of a sample to one scale, and what that is made of.
_SCALES = {
    *("ArgMax", "ArgMin", "Binarizer", "GroupNormalization", "Hardmax", "LogSoftmax"),
    *("LpNormalization", "MeanVarianceNormalization", "Normalizer", "QLinearSoftmax"),
    *("RMSNormalization", "Scaler", "SimplifiedLayerNormalization", "Softmax"),
}
# What is looked at by itself, or asks something of numbers.
_OTHERS = {
    *("Abs", "Acos", "And", "Asin", "Concat", "Cos", "Cosh", "Equal", "Greater", "GreaterOrEqual"),
    *("IsInf", "IsNaN", "Less", "LessOrEqual", "Neg", "Not", "Or", "Reciprocal", "Sin", "Split"),
    *("Tan", "Xor"),
}
# What gives numbers another type, place or shape.
_PLACES = {
    *("DequantizeLinear", "Expand", "QuantizeLinear", "Shape", "Size", "Transpose", "Unsqueeze"),
    *("OptionalGetElement", "OptionalHasElement", "ZipMap", "Cast", "CastLike"),
}
# Along which axis layers put their classes.
_CLASS_AXES = {"Conv": 1, "FusedMatMul": -1, "Gemm": -1, "MatMul": -1}
_NORMALISATIONS = {"InstanceNormalization": (1, 2), "LayerNormalization": (1, 2)}
_CHOICES = {"LogSoftmax", "Softmax"}
_PICKS = {"ArrayFeatureExtractor", "Gather", "Slice"}
# All of these, and whatever begins with Reduce, where the operator is of a domain that is known.
_KNOWN = _RISING | _SCALES | _OTHERS | _PLACES | _JOINTS | _PICKS | MOVES | {*_NORMALISATIONS}
_DOMAINS = {"", ML, MICROSOFT}


def reordered_by(
    graph: gs.Graph,
    scores: gs.Tensor,
    count: int,
    answer: gs.Tensor,
    answered: int,
    constants: Constants,
) -> str:
    """Name what may make another of the scores the largest; empty where nothing is known to.

    Parameters
    ----------
    scores, count
        A layer's scores, and how many there are for a sample.
    answer, answered
        What the answers are made of, and how many numbers that has.
    """
    if answer.name == scores.name:
        return ""
    nodes = between(graph.nodes, scores.name, answer.name)
    made = {scores.name, *(tensor.name for node in nodes for tensor in node.outputs)}
    for node in nodes:
        if not _is_known(node) or (count > 1 and _joins_others(node, made)):
            return called(node)
        others = [each for each in node.inputs if each.name and each.name not in made]
        if node.op in _JOINTS and any(_is_of_classes(each, count, constants) for each in others):
            return called(node)
        if count > 1 and (_turns_some(node, made, constants) or _is_rearranged(node, count)):
            return called(node)
        if count > 1 and _goes_both_ways(node, made, count, constants):
            return called(node)
    if count < 2:
        return ""
    turned = _turned_around(scores, nodes, made)
    if turned is not None:
        return called(turned)
    for node in nodes:
        if node.op in _BY_CLASS or node.op in _NORMALISATIONS:
            places = _NORMALISATIONS.get(node.op, range(len(node.inputs)))
            given = [node.inputs[place] for place in places if place < len(node.inputs)]
            if any(_differs(tensor, count, constants) for tensor in given):
                return called(node)
    pooling = _pooling(graph, nodes) if answered == 1 else None
    if pooling is not None:
        return called(pooling)
    if answered not in (count, 1) or (answered == 1 and _is_difference(nodes)):
        return next((called(node) for node in nodes if node.op not in MOVES | _CHOICES), "")
    return ""


def classes_taken_together(graph: gs.Graph, head: Head, answer: gs.Tensor) -> str:
    """Say which node leaves a layer's positions, and none of its classes; empty where none does.

    Where there are as many of both, nothing else tells that the answer is one of positions.
    """
    linear = graph.tensors()[head.linear]
    along = _CLASS_AXES.get(head.op_type)
    if not linear.shape or along is None or head.features_slot:
        return ""
    gone = lost_at(linear, along % len(linear.shape), answer.name)
    if gone is None:
        return ""
    return (
        f"{called(gone)} takes the {head.num_classes} scores of {head.node!r} together, and what "
        "is left are its positions: a mask can't be chosen by these"
    )


def _is_known(node: gs.Node) -> bool:
    """Tell whether a node leaves each score to itself, or is one that other questions are of.

    What a local function does is not looked at here: a run tells.
    """
    if domain_of(node) not in _DOMAINS:
        return True
    return node.op in _KNOWN or node.op.startswith("Reduce")


def _joins_others(node: gs.Node, made: Set[str]) -> bool:
    """Tell whether scores stand beside other values of each sample, as another layer's features."""
    return (
        node.op == "Concat"
        and is_last_of(node, node.attrs.get("axis"))
        and any(each.name not in made for each in node.inputs)
    )


def bent_scores(scores: gs.Tensor, count: int, answered: int) -> str:
    """Return the name of a layer's scores by which attacks may be led; empty where by none.

    Those are rows of floats, of no more than the classes that are answered with.

    Parameters
    ----------
    scores, count, answered
        As for :func:`reordered_by`, where that names something.
    """
    are_rows = scores.shape is not None and list(scores.shape[1:]) == [count]
    return scores.name if are_rows and 1 < count <= answered and is_float(scores) else ""


def _differs(tensor: gs.Tensor, count: int, constants: Constants) -> bool:
    """Tell whether a constant holds a number for each class, and not the same for all."""
    if tensor not in constants:
        return False
    numbers = constant_numbers(tensor)
    return numbers is not None and len(numbers) == count and len({*numbers}) > 1


def _is_of_classes(tensor: gs.Tensor, count: int, constants: Constants) -> bool:
    """Tell whether a value is computed, and may hold a number for each class."""
    if tensor in constants:
        return False
    # What is not known to be one for all classes may be one for each.
    last = tensor.shape[-1] if tensor.shape else 1
    return tensor.shape is None or count == 1 or last == count or not isinstance(last, int)


def _turned_around(scores: gs.Tensor, nodes: Sequence[gs.Node], made: Set[str]) -> gs.Node | None:
    """Return the node by which the largest score is the smallest, of several that undo each other.

    What the reading of the task takes into account does not count, nor what is chosen for some of
    the samples: a first look at answers tells of these.
    """
    read = {node.outputs[0].name for node in turns_read(scores)}
    turning = [
        node
        for node in nodes
        if node.op in ("Neg", "Reciprocal")
        or (node.op == "Cos" and _are_shares(node.inputs[0]))
        or (node.op == "Pow" and (constant_number(node.inputs[1]) or 0) < 0)
        or (node.op in ("Sub", "Div") and _is_for_all(node.inputs[0], made))
    ]
    unread = [
        node
        for node in turning
        if node.outputs[0].name not in read
        and all(reader.op != "Where" for reader in node.outputs[0].outputs)
    ]
    return unread[-1] if len(turning) % 2 and len(unread) % 2 else None


def _is_for_all(tensor: gs.Tensor, made: Set[str]) -> bool:
    """Tell whether a value is not made of scores, or is one number of all of a sample's."""
    return tensor.name not in made or (tensor.shape is not None and tensor.shape[-1:] == [1])


def _turns_some(node: gs.Node, made: Set[str], constants: Constants) -> bool:
    """Tell whether the largest score becomes the smallest for some samples, as far as is known."""
    if node.op not in ("Div", "Mul"):
        return False
    others = [each for each in node.inputs if each.name not in made]
    return any(not is_positive(each, constants) for each in others)


def _goes_both_ways(node: gs.Node, made: Set[str], count: int, constants: Constants) -> bool:
    """Tell whether what a node makes of a score rises and falls with it."""
    base = node.inputs[0] if node.inputs else None
    if base is None or base.name not in made:
        return False
    if node.op in ("Cos", "Sin", "Tan"):
        # On probabilities each goes one way.
        return not _are_shares(base)
    if node.op == "LeakyRelu":
        return bool(node.attrs.get("alpha", 0.01) < 0)
    if node.op in ("Abs", "Cosh"):
        return not is_positive(base, constants)
    if node.op == "Pow":
        power = constant_number(node.inputs[1])
        return power is not None and power % 2 != 1 and not is_positive(base, constants)
    if node.op != "Mul" or any(each.name not in made for each in node.inputs):
        return False
    if node.inputs[0] is node.inputs[1]:
        return not is_positive(base, constants)
    return all((each.shape or [None])[-1] == count for each in node.inputs)


def _are_shares(tensor: gs.Tensor) -> bool:
    return bool(tensor.inputs) and tensor.inputs[0].op in ("Sigmoid", "Softmax")


def _pooling(graph: gs.Graph, nodes: Sequence[gs.Node]) -> gs.Node | None:
    """Return what makes one number of scores, as where any of several parts decides.

    Beside a class it is how sure the model is of that, and so it is of shares of a whole.
    """
    if any(node.op in _CHOICES for node in nodes) or not all(map(is_float, graph.outputs)):
        return None
    return next((node for node in nodes if node.op.startswith("Reduce")), None)


def _is_rearranged(node: gs.Node, count: int) -> bool:
    """Tell whether scores of a matrix are put into another order."""
    shape = node.inputs[0].shape if node.inputs else None
    if shape is None or len(shape) != 2 or node.op not in _PICKS | {"Concat"}:
        return False
    if node.op == "Concat":
        # Parts of them, side by side again.
        return is_last_of(node, node.attrs.get("axis")) and len(node.inputs) > 1
    places = picked_of(node, count)
    return places is not None and len(places) == count and places != [*range(count)]


def _is_difference(nodes: Sequence[gs.Node]) -> bool:
    """Tell whether two scores are taken from each other before anything makes shares of them."""
    if any(node.op in _CHOICES for node in nodes):
        return False
    made = {tensor.name for node in nodes for tensor in node.outputs}
    return any(node.op == "Sub" and {each.name for each in node.inputs} <= made for node in nodes)
