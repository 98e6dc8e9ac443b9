"""Find a classifier's scores by its outputs alone, where no linear layer tells them.

Attacks and judgements need scores, and no head: trees, nearest neighbours, kernels and layers of
any other form have a number for each class as well. The search walks back from the outputs over
what only names, rounds, moves or squashes scores, and takes what it comes to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from cloakify.errors import HeadError, NoClassifierError
from cloakify.graph.analysis.score_walk import puts_classes_first
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.imported import is_float
from cloakify.graph.model.names import called

# What leaves scores scores, or makes probabilities of them.
_SQUASHES = {"LogSoftmax", "Sigmoid", "Softmax"}
_MOVES = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "ZipMap"}
# What turns scores into the index or the name of a class, by the input that leads back to them.
_LABELS = {"ArgMax": 0, "ArgMin": 0, "ArrayFeatureExtractor": 1, "LabelEncoder": 0, "TopK": 0}
# Classifiers in one node: the label first, a number for each class second.
_WHOLE = {"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"}
_REGRESSORS = {"LinearRegressor", "SVMRegressor", "TreeEnsembleRegressor", "TreeEnsemble"}
_RECURRENT = {"GRU", "LSTM", "RNN"}


@dataclass(frozen=True)
class BareScores:
    """Scores that no linear layer was found for.

    Attributes
    ----------
    tensor
        What holds them, [N, C].
    count
        C; 1 for one number a sample.
    sign
        The node that says that they are scores; empty where none does.
    """

    tensor: gs.Tensor
    count: int
    sign: str


def find_bare_scores(answers: list[gs.Tensor], constants: Constants) -> BareScores:
    """Find the scores that a model's outputs are made of.

    Parameters
    ----------
    answers
        The outputs that no other output is computed from.
    constants
        What is constant in the graph.

    Raises
    ------
    NoClassifierError
        They are made by a regression, are the state of a recurrent layer, or several answers'.
    HeadError
        There are none, or the outputs are made of different ones.
    """
    ends = {tensor.name: _behind(tensor, constants) for tensor in answers}
    scores = {end.tensor.name: end for end in ends.values() if end is not None and not end.by_label}
    # An output that only says which class it is was made of scores, too.
    scores = scores or {end.tensor.name: end for end in ends.values() if end is not None}
    if not scores:
        raise HeadError("no output holds scores, a number for each class; it can't be judged")
    if len(scores) > 1:
        names = ", ".join(repr(name) for name, end in ends.items() if end is not None)
        raise HeadError(f"outputs {names} hold different scores; choose one with --output-name")
    (end,) = scores.values()
    made = end.tensor.inputs[0] if end.tensor.inputs else None
    if made is not None and made.op in _REGRESSORS:
        raise NoClassifierError(
            f"{called(made)} answers with numbers that stand for themselves: a "
            "regression; cloakify takes classifiers"
        )
    if made is not None and made.op == "SequenceConstruct":
        raise NoClassifierError(
            f"{called(made)} lists the answers of {len(made.inputs)} classifiers side by side: "
            "several answers; cloakify takes classifiers, one answer a sample"
        )
    shares = [each.inputs[0].op for each in made.inputs if each.inputs] if made is not None else []
    if made is not None and made.op == "Concat" and shares.count("Softmax") > 1:
        raise NoClassifierError(
            f"{called(made)} puts what {shares.count('Softmax')} softmaxes choose side "
            "by side: several answers; cloakify takes classifiers, one answer a sample"
        )
    state = _moved(made)
    if state is not None and state.op in _RECURRENT and not end.sign:
        raise NoClassifierError(
            f"the answer is the state of {called(state)}: an embedding; cloakify takes classifiers"
        )
    told = [each.count for each in ends.values() if each and each.tensor is end.tensor]
    count = next((each for each in told if each is not None), None)
    if count is None:
        raise HeadError(f"how many scores {end.tensor.name!r} holds for a sample is not known")
    return BareScores(end.tensor, count, end.sign)


@dataclass(frozen=True)
class _End:
    """Where the walk back from an output ends, and what was seen on the way."""

    tensor: gs.Tensor
    count: int | None
    sign: str
    by_label: bool


def refuse_answers(answers: list[gs.Tensor], constants: Constants) -> None:
    """Raise NoClassifierError where answers say of themselves that they are no scores."""
    try:
        find_bare_scores(answers, constants)
    except NoClassifierError:
        raise
    except HeadError:
        # Why there is no head says more than why there are no scores.
        return


def _behind(answer: gs.Tensor, constants: Constants) -> _End | None:
    """Walk back from an output to the scores that it is made of; ``None`` where there are none."""
    tensor, sign, named, by_label = answer, "", None, False
    count = _count(answer)
    while tensor.inputs:
        node = tensor.inputs[0]
        told = node.op in _LABELS or node.op in _SQUASHES | _WHOLE or node.op == "ZipMap"
        if not told and node.op not in _MOVES and not _turns_samples(node):
            break
        slot = _LABELS.get(node.op, 0)
        if len(node.inputs) <= slot or (node.op in _WHOLE and len(node.outputs) < 2):
            return None
        if told:
            sign = sign or called(node)
            named = named or _named_classes(node, constants)
        by_label |= node.op in _LABELS
        if node.op in _WHOLE:
            by_label |= tensor is node.outputs[0]
            tensor = node.outputs[1]
            break
        tensor = node.inputs[slot]
        count = _count(tensor) or count
    floats = is_float(answer) and is_float(tensor)
    if not tensor.inputs or not (sign or floats):
        return None
    return _End(tensor, _count(tensor) or named or (None if by_label else count), sign, by_label)


def _turns_samples(node: gs.Node) -> bool:
    """Tell whether scores [N, C] come out as [C, N]: N is not known, and C is."""
    shape = node.inputs[0].shape if node.inputs else None
    if shape is None or not puts_classes_first(node, 1):
        return False
    return isinstance(shape[1], int) and not isinstance(shape[0], int)


def _moved(node: gs.Node | None) -> gs.Node | None:
    """Return the node whose output another only picks and moves parts of."""
    while node is not None and node.op in _MOVES | {"Gather", "Slice", "Transpose"}:
        node = node.inputs[0].inputs[0] if node.inputs and node.inputs[0].inputs else None
    return node


def _count(tensor: gs.Tensor) -> int | None:
    """Return how many numbers a sample has, where all sizes but the batch's are known."""
    if tensor.shape is None:
        return None
    sizes = [size for size in tensor.shape[1:] if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(tensor.shape[1:]) else None


def _named_classes(node: gs.Node, constants: Constants) -> int | None:
    """Return how many classes a node has names for."""
    if node.op == "ArrayFeatureExtractor":
        return math.prod(constants.shape(node.inputs[0]) or ()) or None
    names = [values for key, values in node.attrs.items() if key.startswith("classlabels")]
    return next((len(each) for each in names if len(each)), None)
