"""Logarithms of probabilities that a model mixes, from the scores that they are made of.

    ½ (softmax(a) + softmax(b))       ->   log p, up to a number that all classes share
    ½ (σ(a) + σ(b))                   ->   log p − log(1 − p)
    1 − (1 − σ(a)) (1 − σ(b))         ->   the same: a noisy or

A soft vote answers with a mean of probabilities, and a cross-entropy is of their logarithms: those
of rounded probabilities say nothing where one is as good as certain. So what makes the mixture is
written out once more on logarithms: a softmax is a log-softmax there, a sigmoid −log(1 + exp(−z)),
a sum log(exp(a) + exp(b)), a product a sum. What can't be written so is no mixture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from cloakify.graph.analysis.head import WHOLE_CLASSIFIERS
from cloakify.graph.analysis.log_arithmetic import LogArithmetic, LogStep, attributes_of
from cloakify.graph.analysis.score_walk import axes_of
from cloakify.graph.analysis.shares import answers_with_shares, brings_to_one, cuts_little
from cloakify.graph.model.constants import Constants, constant_number, constant_numbers
from cloakify.graph.model.dataflow import leading_to
from cloakify.onnxfile.domains import is_standard

# What leaves numbers what they are, wherever it puts them.
_MOVES = {
    *("Cast", "Dropout", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
    *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
}
# What takes logits.
_LOGITS = {"LogSoftmax", "Softmax"}
_OPPOSITE = {"Max": "Min", "Min": "Max", "ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax"}
# How near to one the weights of a mean add up.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class LogScores:
    """How logits are made of what a mixture of probabilities is made of.

    Attributes
    ----------
    steps
        What is to be added to the graph, in order.
    output
        The logits, of the shape of the probabilities.
    node
        A node that makes the probabilities; ``None`` where these are powers of e, which anything
        may be.
    of_labels
        Whether each is the probability of a label (or of the one class), and no share of a whole.
    """

    steps: tuple[LogStep, ...]
    output: str
    node: gs.Node | None
    of_labels: bool


@dataclass(frozen=True)
class _Log:
    """The logarithm of a value, by name.

    Attributes
    ----------
    name
        log p.
    rest
        log(mass − p), where p is a mean of sigmoids.
    mass
        What the weights of that mean add up to.
    kinds
        Of the sigmoids: whether p rises with them.
    node
        A node that made probabilities.
    fixed
        Whether it is a constant.
    """

    name: str
    rest: str | None = None
    node: gs.Node | None = None
    fixed: bool = False
    mass: float = 1.0
    kinds: frozenset[bool] = frozenset()

    @property
    def is_probability(self) -> bool:
        """Whether 1 − p, too, is known: p is a mean of sigmoids whose weights add up to one."""
        return self.rest is not None and abs(self.mass - 1) < _ROUNDING


def log_scores(graph: gs.Graph, scores: gs.Tensor, constants: Constants) -> LogScores | None:
    """Describe the logits of scores that are mixed probabilities; ``None`` where they are none.

    The logarithm of a mixture is taken for it. What a softmax follows are logits, whatever they are
    made of.
    """
    node = scores.inputs[0] if scores.inputs else None
    while node is not None and node.op in ("Log", "Identity") and node.inputs[0].inputs:
        scores, node = node.inputs[0], node.inputs[0].inputs[0]
    if node is not None and node.op in WHOLE_CLASSIFIERS:
        # Alone it is judged by its scores.
        return None
    writer = _Writer(graph.opset or 0, constants)
    for node in leading_to(graph.nodes, [scores.name]).nodes:
        writer.write(node)
    log = writer.known.get(scores.name)
    if log is None or any(reader.op in _LOGITS for reader in scores.outputs):
        return None
    of_labels = len(log.kinds) == 1 and log.is_probability
    output = log.name
    if of_labels and log.rest is not None:
        output = writer.add("Sub", log.name, log.rest)
    return LogScores(writer.leading(output), output, log.node, of_labels)


class _Writer(LogArithmetic):
    """Writes the logarithm of each value that has one, in the graph's order."""

    def __init__(self, opset: int, constants: Constants) -> None:
        super().__init__(opset)
        self._constants = constants
        self.known: dict[str, _Log] = {}

    def write(self, node: gs.Node) -> None:
        """Write the logarithms of a node's outputs, if they have any."""
        if not node.outputs or not node.inputs:
            return
        made: Sequence[_Log | None] = []
        first = self.known.get(node.inputs[0].name)
        if first is not None and brings_to_one(node):
            name = self.add("LogSoftmax", first.name, axis=1)
            made = [replace(first, name=name, rest=None, mass=1.0, kinds=frozenset())]
        elif is_standard(node):
            made = self._made(node)
        elif answers_with_shares(node):
            logs = [self.add("Log", each.name) for each in node.outputs[1:]]
            made = [None, *(_Log(name, node=node) for name in logs)]
        for output, log in zip(node.outputs, made, strict=False):
            if log is not None:
                self.known[output.name] = log

    def _made(self, node: gs.Node) -> Sequence[_Log | None]:
        if node.op in _LEAVES:
            return [_LEAVES[node.op](self, node)]
        first = self.known.get(node.inputs[0].name)
        if node.op in _MOVES:
            return [] if first is None else self._moved(node, first)
        if node.op in ("ReduceMean", "ReduceSum"):
            return [None if first is None else self._reduced(node, first)]
        if node.op == "ReduceProd":
            return [None if first is None else self._multiplied(node, first)]
        if node.op in ("Concat", "Where", *_OPPOSITE):
            return [self._side_by_side(node)]
        if node.op == "Clip":
            return [first if cuts_little(node) else None]
        rule = _ARITHMETIC.get(node.op)
        return [] if rule is None else [rule(self, node)]

    def softmax(self, node: gs.Node) -> _Log:
        """Write a softmax."""
        (name,) = self.add_several("LogSoftmax", [node.inputs[0].name], attributes_of(node))
        return _Log(name, node=node)

    def power(self, node: gs.Node) -> _Log:
        """Write a power of e, whose logarithm is there."""
        return _Log(node.inputs[0].name)

    def sigmoid(self, node: gs.Node) -> _Log:
        """Write a sigmoid: log σ(z) = −log(1 + exp(−z)), and log(1 − σ(z)) = −log(1 + exp(z))."""
        score = node.inputs[0].name
        log = self.add("Neg", self.add("Softplus", self.add("Neg", score)))
        rest = self.add("Neg", self.add("Softplus", score))
        return _Log(log, rest, node, kinds=frozenset({True}))

    def _moved(self, node: gs.Node, log: _Log) -> list[_Log]:
        """Move logarithms as a node moves what they are of."""
        others = [tensor.name for tensor in node.inputs[1:]]
        count = len(node.outputs)

        def moved(name: str) -> tuple[str, ...]:
            return self.add_several(node.op, [name, *others], attributes_of(node), count)

        logs = moved(log.name)
        rests: Sequence[str | None] = [None] * count if log.rest is None else moved(log.rest)
        pairs = zip(logs, rests, strict=True)
        return [replace(log, name=name, rest=rest) for name, rest in pairs]

    def _side_by_side(self, node: gs.Node) -> _Log | None:
        """Join logarithms, or choose among them."""
        given = node.inputs[1:] if node.op == "Where" else node.inputs
        logs = [self.known.get(tensor.name) for tensor in given]
        known = [log for log in logs if log is not None]
        if len(known) < len(logs):
            return None
        before = [node.inputs[0].name] if node.op == "Where" else []

        def joined(op_type: str, names: Sequence[str]) -> str:
            return self.add_several(op_type, [*before, *names], attributes_of(node))[0]

        name = joined(node.op, [log.name for log in known])
        rests = [log.rest for log in known if log.rest is not None]
        alike = len({log.mass for log in known}) == 1 and len(rests) == len(known)
        rest = joined(_OPPOSITE.get(node.op, node.op), rests) if alike else None
        kinds = frozenset[bool]().union(*(log.kinds for log in known))
        node_of = next((log.node for log in known if log.node), None)
        return replace(known[0], name=name, rest=rest, node=node_of, kinds=kinds)

    def _reduced(self, node: gs.Node, log: _Log) -> _Log | None:
        """Write a sum or mean along axes."""
        axes = axes_of(node)
        if axes is None:
            return None
        summed = self.summed if node.op == "ReduceSum" else self.averaged
        name = summed(node, log.name, axes)
        rest = None if log.rest is None else summed(node, log.rest, axes)
        mass = log.mass
        if node.op == "ReduceSum":
            shape = node.inputs[0].shape
            sizes = [None if shape is None else shape[axis] for axis in axes]
            known = [size for size in sizes if isinstance(size, int)]
            rest = rest if len(known) == len(sizes) else None
            mass *= math.prod(known)
        return replace(log, name=name, rest=rest, mass=mass)

    def _multiplied(self, node: gs.Node, log: _Log) -> _Log:
        """Write a product along axes, and of probabilities what is missing to one."""
        name = self.multiplied(node, log.name)
        return replace(log, name=name, rest=self.missing(name) if log.is_probability else None)

    def total(self, node: gs.Node) -> _Log | None:
        """Write a sum, or a mean of values that are added one by one."""
        logs = [self._log_of(tensor) for tensor in node.inputs]
        known = [log for log in logs if log is not None]
        if len(known) < len(logs) or not any(tensor.name in self.known for tensor in node.inputs):
            return None
        share = 1 / len(known) if node.op == "Mean" else 1.0
        added = self.mean if node.op == "Mean" else self.added
        name = added([log.name for log in known])
        rests = [log.rest for log in known if log.rest is not None]
        rest = added(rests) if len(rests) == len(known) else None
        kinds = frozenset[bool]().union(*(log.kinds for log in known))
        mass = share * sum(log.mass for log in known)
        first = next((log for log in known if log.node), known[0])
        return _Log(name, rest, first.node, False, mass, kinds)

    def product(self, node: gs.Node) -> _Log | None:
        """Write a product or quotient of probabilities, or one with a positive constant."""
        first, second = (self._log_of(tensor) for tensor in node.inputs[:2])
        if first is None or second is None or (first.fixed and second.fixed):
            return None
        op_type = "Add" if node.op == "Mul" else "Sub"
        name = self.add(op_type, first.name, second.name)
        scaled = next((log for log in (first, second) if log.fixed), None)
        one = second if first.fixed else first
        if scaled is None and node.op == "Mul" and None not in (first.rest, second.rest):
            masses = {round(log.mass, 3) for log in (first, second)}
            if masses == {1.0}:
                kinds = first.kinds | second.kinds
                return replace(one, name=name, rest=self.missing(name), kinds=kinds)
        if scaled is None or (node.op == "Div" and one is second):
            return replace(one, name=name, rest=None, kinds=frozenset())
        rest = None
        if one.rest is not None and constant_number(_constant_of(node, self.known)) is not None:
            rest = self.add(op_type, one.rest, scaled.name)
        factor = scaled.mass if node.op == "Mul" else 1 / scaled.mass
        return replace(one, name=name, rest=rest, mass=one.mass * factor)

    def complement(self, node: gs.Node) -> _Log | None:
        """Write 1 − p of a mean of sigmoids."""
        log = self.known.get(node.inputs[1].name)
        if log is None or log.rest is None or constant_number(node.inputs[0]) != 1:
            return None
        if not log.is_probability:
            return None
        kinds = frozenset(not kind for kind in log.kinds)
        return replace(log, name=log.rest, rest=log.name, kinds=kinds)

    def raised(self, node: gs.Node) -> _Log | None:
        """Write a power of probabilities with a constant."""
        log = self.known.get(node.inputs[0].name)
        exponent = constant_number(node.inputs[1])
        if log is None or exponent is None or exponent == 0:
            return None
        name = self.add("Mul", log.name, node.inputs[1].name)
        return replace(log, name=name, rest=None, kinds=frozenset())

    def _log_of(self, tensor: gs.Tensor) -> _Log | None:
        """Return a value's logarithm, that of a positive constant as well."""
        if tensor.name in self.known or tensor not in self._constants:
            return self.known.get(tensor.name)
        numbers = constant_numbers(tensor)
        if not numbers or min(numbers) <= 0:
            return None
        return _Log(self.add("Log", tensor.name), fixed=True, mass=max(numbers))


_LEAVES: dict[str, Callable[[_Writer, gs.Node], _Log]] = {
    "Exp": _Writer.power,
    "Sigmoid": _Writer.sigmoid,
    "Softmax": _Writer.softmax,
}
_ARITHMETIC: dict[str, Callable[[_Writer, gs.Node], _Log | None]] = {
    "Add": _Writer.total,
    "Div": _Writer.product,
    "Mean": _Writer.total,
    "Mul": _Writer.product,
    "Pow": _Writer.raised,
    "Sub": _Writer.complement,
    "Sum": _Writer.total,
}


def _constant_of(node: gs.Node, known: dict[str, _Log]) -> gs.Tensor:
    """Return the one of two inputs that is a constant."""
    return node.inputs[1] if node.inputs[0].name in known else node.inputs[0]
