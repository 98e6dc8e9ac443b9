"""What a classifier's scores mean, read from what the model makes of them.

    Softmax, ArgMax, …             one of C classes is right
    Sigmoid over one score         one of two classes is right
    Sigmoid over K > 1 scores      each of K labels is right or wrong by itself

Scores that nothing is made of say nothing: of one number of theirs even whether it is one of a
classifier.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

import onnx_graphsurgeon as gs

from cloakify.graph.model.constants import Constants, constant_number, constant_numbers
from cloakify.graph.model.names import called


class Task(StrEnum):
    """How many classes a sample is of."""

    SINGLE = "single"
    """One of C ≥ 2, each with a logit."""
    BINARY = "binary"
    """One of two, between which a single logit decides."""
    MULTILABEL = "multilabel"
    """Any number of K ≥ 2 labels, each with a logit of its own."""


@dataclass(frozen=True)
class Boundary:
    """Where one logit z stops to mean class 0, or that a label does not hold.

    Attributes
    ----------
    bounds
        The value of z: one, or one for each label.
    rising
        Whether class 1 lies above it. Of several classes: whether the largest score wins.
    of_probability
        Whether z is a probability itself, as where those at many positions are pooled.
    """

    bounds: tuple[float, ...] = (0.0,)
    rising: bool = True
    of_probability: bool = False

    @property
    def probabilities(self) -> tuple[float, ...]:
        """The sigmoids of the bounds."""
        if self.of_probability:
            return self.bounds
        return tuple(1 / (1 + math.exp(-bound)) for bound in self.bounds)

    @property
    def logits(self) -> tuple[float, ...]:
        """The bounds of a logit whose sigmoid it is."""
        return tuple(map(_logit, self.bounds)) if self.of_probability else self.bounds


MIDDLE = Boundary()
"""Where both classes are as likely."""
EVEN_ODDS = Boundary((0.5,), of_probability=True)
"""The same of a probability."""
FALLING = Boundary(rising=False)
"""Of scores, the smallest of which wins: distances."""


@dataclass(frozen=True)
class TaskReading:
    """What the graph says of the task.

    Attributes
    ----------
    task
        As far as the graph tells.
    sign
        The operator that tells it, with its node; empty where none does.
    boundary
        Of one logit, or of those of labels.
    """

    task: Task
    sign: str = ""
    boundary: Boundary = MIDDLE


# What is only done to scores of which one is to be the largest.
_CHOICES = {
    *("Softmax", "LogSoftmax", "QLinearSoftmax", "Hardmax", "ArgMax", "ArgMin"),
    "ReduceLogSumExp",
}
_SIGMOIDS = {"Sigmoid", "HardSigmoid", "QLinearSigmoid"}
# What leaves numbers what they are.
_SAME = {"Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout", "Clip"}
# What leaves the largest number the largest.
_RISING = _SAME | {"Max", "Min", "Relu", "Sqrt"}
# The steps of a sigmoid that is written out.
_STEPS = {"Add", "Div", "Exp", "Mul", "Neg", "Reciprocal", "Tanh"}
# What tells whether a number is beyond a bound.
_COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Binarizer"}


def read_task(
    scores: gs.Tensor,
    count: int,
    constants: Constants,
    outputs: Collection[str],
    bend: gs.Node | None = None,
) -> TaskReading:
    """Read the task off the nodes that follow the scores.

    Parameters
    ----------
    scores
        The class scores.
    count
        How many there are for a sample.
    constants
        What is constant in the graph.
    outputs
        The names of the graph's outputs.
    bend
        The first sigmoid that the scores have been through already, one by one.
    """
    behind = nodes_behind(scores)
    choice = next((node for node in behind if node.op in _CHOICES or _picks_one(node)), None)
    holds = "logit" if bend is None else "probability"
    bend = bend or next((node for node in behind if _is_sigmoid(node, constants)), None)
    comparison = next((node for node in behind if _compares(node, constants)), None)
    if count == 1:
        sign = bend or comparison or choice
        boundary = _boundary(scores, count, constants, outputs, holds)
        return TaskReading(Task.BINARY, _sign(sign), boundary)
    shares = next((node for node in behind if _takes_shares(node)), None)
    is_turned = len(turns_read(scores)) % 2 == 1
    if choice is not None or shares is not None:
        smallest = _takes_smallest(choice) != is_turned
        boundary = FALLING if smallest else MIDDLE
        return TaskReading(Task.SINGLE, _sign(choice or shares), boundary)
    sign = bend or comparison
    if sign is None:
        falling = _is_reversed(scores) != is_turned
        return TaskReading(Task.SINGLE, "", FALLING if falling else MIDDLE)
    boundary = _boundary(scores, count, constants, outputs, holds)
    return TaskReading(Task.MULTILABEL, _sign(sign), boundary)


def _takes_shares(node: gs.Node) -> bool:
    """Tell whether a node brings numbers to a sum of one, or takes the sum to do so."""
    if node.op == "LpNormalization":
        return bool(node.attrs.get("p", 2) == 1)
    return node.op == "ReduceSum" or (node.op == "Normalizer" and node.attrs.get("norm") == "L1")


def nodes_behind(tensor: gs.Tensor) -> list[gs.Node]:
    """Return the nodes that a tensor leads to, the nearest first."""
    behind: list[gs.Node] = []
    seen: set[int] = set()
    waiting = [tensor]
    while waiting:
        for node in waiting.pop(0).outputs:
            if id(node) not in seen:
                seen.add(id(node))
                behind.append(node)
                waiting.extend(node.outputs)
    return behind


def _is_sigmoid(node: gs.Node, constants: Constants) -> bool:
    """Tell whether a node is a sigmoid, or the last one of a sigmoid that is written out."""
    if node.op in _SIGMOIDS:
        return True
    # 1 / (1 + exp(−z)), (1 + tanh(z/2)) / 2 but for the division, and ½ + ½ tanh(z/2).
    if node.op == "Add" and any(tensor in constants for tensor in node.inputs):
        return any(_made_by(tensor) == "Tanh" or _is_half_of_tanh(tensor) for tensor in node.inputs)
    if node.op == "Div" and node.inputs[0] in constants:
        return _is_one_and_power(node.inputs[1])
    return node.op == "Reciprocal" and _is_one_and_power(node.inputs[0])


def begins_sigmoid(node: gs.Node, constants: Constants) -> bool:
    """Tell whether a node is the first one of a sigmoid that is written out, 1 / (1 + exp(−z))."""
    for wanted in ("Neg", "Exp", "Add"):
        readers = node.outputs[0].outputs
        if node.op != wanted or len(readers) != 1:
            return False
        node = readers[0]
    return _is_sigmoid(node, constants)


def _is_one_and_power(tensor: gs.Tensor) -> bool:
    if _made_by(tensor) != "Add":
        return False
    return any(_made_by(term) == "Exp" for term in tensor.inputs[0].inputs)


def _is_half_of_tanh(tensor: gs.Tensor) -> bool:
    """Tell whether a tensor is half of a tangent, which a half is added to in a sigmoid."""
    if _made_by(tensor) not in ("Div", "Mul"):
        return False
    node = tensor.inputs[0]
    half = {constant_number(each) for each in node.inputs} & {0.5 if node.op == "Mul" else 2.0}
    return bool(half) and any(_made_by(each) == "Tanh" for each in node.inputs)


def _made_by(tensor: gs.Tensor) -> str:
    return tensor.inputs[0].op if tensor.inputs else ""


def _boundary(
    logit: gs.Tensor,
    count: int,
    constants: Constants,
    outputs: Collection[str],
    holds: str = "logit",
) -> Boundary:
    """Return where the model itself draws the line between two classes, if it says so.

    It may compare logits or their sigmoids with constants, put the two probabilities of one logit
    side by side, or answer with that of the other class alone.
    """
    # Whether a tensor holds the logit, its probability, or something on the way between, and
    # whether that is the other class's.
    waiting: list[tuple[gs.Tensor, str, bool]] = [(logit, holds, False)]
    seen: set[int] = set()
    answers: list[bool] = []
    while waiting:
        tensor, holds, turned = waiting.pop(0)
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.name in outputs and holds == "probability":
            answers.append(turned)
        for node in tensor.outputs:
            if node.op in _SAME:
                waiting.append((node.outputs[0], holds, turned))
            elif _is_sigmoid(node, constants):
                # Written out, the first step turns the logit around.
                own = turned != (node.op in ("Div", "Reciprocal"))
                waiting.append((node.outputs[0], "probability", own))
            elif _compares(node, constants) and holds != "step":
                return _compared(node, tensor, count, holds == "probability", turned)
            elif node.op == "Concat" and len(node.inputs) == 2 and count == 1:
                return Boundary(rising=(node.inputs[1] is tensor) != turned)
            elif holds == "probability" and _is_complement(node, tensor):
                waiting.append((node.outputs[0], holds, not turned))
            elif node.op in _STEPS and holds != "probability":
                waiting.append((node.outputs[0], "step", turned != (node.op == "Neg")))
    return FALLING if answers and all(answers) else MIDDLE


def _is_complement(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Tell whether a node makes 1 − p of a probability p."""
    return node.op == "Sub" and node.inputs[1] is tensor and constant_number(node.inputs[0]) == 1


def _compared(
    node: gs.Node, tensor: gs.Tensor, count: int, is_probability: bool, turned: bool
) -> Boundary:
    """Return the boundary that a comparison with constants draws.

    Parameters
    ----------
    tensor, is_probability, turned
        What is compared: the logit or its probability, or those of the other class.
    """
    place = next((slot for slot, given in enumerate(node.inputs) if given is tensor), 0)
    bounds = constant_numbers(node.inputs[1 - place]) if len(node.inputs) == 2 else None
    bounds = [node.attrs.get("threshold", 0.0)] if node.op == "Binarizer" else bounds
    if bounds is None or len(bounds) not in (1, count):
        return MIDDLE
    if is_probability:
        if not all(0 < bound < 1 for bound in bounds):
            return MIDDLE
        bounds = [_logit(bound) for bound in bounds]
    rising = node.op.startswith(("Greater", "Binarizer")) == (place == 0)
    behind = nodes_behind(node.outputs[0])
    rising ^= sum(each.op == "Not" for each in behind) % 2 == 1
    if turned:
        return Boundary(tuple(-bound for bound in bounds), not rising)
    return Boundary(tuple(bounds), rising)


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def scale_behind(scores: gs.Tensor, constants: Constants) -> gs.Node | None:
    """Return what scales the sigmoids of scores, so that they are no probabilities, if anything."""
    for bend in nodes_behind(scores):
        # Of (1 + tanh(z/2)) / 2 the division belongs to the sigmoid.
        if bend.op == "Add" or not _is_sigmoid(bend, constants):
            continue
        waiting = list(bend.outputs)
        while waiting:
            for node in waiting.pop().outputs:
                if node.op in ("Mul", "Div") and any(
                    constant_number(tensor) not in (None, 1) for tensor in node.inputs
                ):
                    return node
                waiting += node.outputs if node.op in _SAME else []
    return None


def _compares(node: gs.Node, constants: Constants) -> bool:
    return node.op in _COMPARISONS and (
        len(node.inputs) == 1 or sum(tensor in constants for tensor in node.inputs) == 1
    )


def _picks_one(node: gs.Node) -> bool:
    """Tell whether a node is a TopK of one."""
    if node.op != "TopK":
        return False
    count = node.attrs.get("k")
    if count is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        count = node.inputs[1].values.reshape(-1)[0]
    return count is not None and int(count) == 1


def _takes_smallest(choice: gs.Node | None) -> bool:
    """Tell whether the smallest score is what is chosen."""
    if choice is None:
        return False
    return choice.op == "ArgMin" or (choice.op == "TopK" and not choice.attrs.get("largest", 1))


def turns_read(scores: gs.Tensor) -> list[gs.Node]:
    """Return by which nodes what scores become falls where they rise (minus a distance).

    Of an even number each undoes another. As far as scores change one by one: what is behind a step
    that brings them together is not looked at.
    """
    turns: list[gs.Node] = []
    tensor, positive = scores, False
    while tensor.outputs and all(node is tensor.outputs[0] for node in tensor.outputs):
        node = tensor.outputs[0]
        # A distance may be squared again (torch's cdist).
        squared = positive and node.op in ("Mul", "Pow") and _is_power(node, tensor)
        if node.op not in _RISING | {"Neg"} and not squared:
            break
        if node.op == "Neg":
            turns.append(node)
        positive = node.op in ("Relu", "Sqrt") or (positive and node.op != "Neg")
        tensor = node.outputs[0]
    return turns


def _is_power(node: gs.Node, base: gs.Tensor) -> bool:
    """Tell whether a node raises a value to a power above 0."""
    if node.op == "Mul":
        return all(each is base for each in node.inputs)
    exponent = constant_number(node.inputs[1])
    return node.inputs[0] is base and exponent is not None and exponent > 0


def _is_reversed(scores: gs.Tensor) -> bool:
    """Tell whether scores are the other way round than their node's own label."""
    node = scores.inputs[0] if scores.inputs else None
    if node is None or node.op != "SVMClassifier":
        return False
    return len(node.attrs.get("vectors_per_class", ())) == 2 and not node.attrs.get("prob_a")


def _sign(node: gs.Node | None) -> str:
    return "" if node is None else called(node)
