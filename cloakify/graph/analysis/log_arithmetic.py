"""Arithmetic on logarithms of values of a graph, as nodes to add to it.

Each method adds what makes the logarithm of a sum, mean or product from the logarithms of its
parts, and returns the name of what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

# What the values that are made here are called, and numbered.
PREFIX = "cloakify_log"

# From this opset on the axes of most reductions are an input; those of sums have been one earlier.
_AXES_INPUT = 18
_SUMMED_AXES_INPUT = 13

Attributes = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class LogStep:
    """A node that is to be added: what it reads, its one or several outputs, and its attributes."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = ()


class LogArithmetic:
    """Collects nodes that compute with logarithms.

    Parameters
    ----------
    opset
        The graph's: where its nodes have their axes depends on it.
    """

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._steps: list[LogStep] = []

    def add(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """Add a node of one output, and return that."""
        return self.add_several(op_type, inputs, tuple(attributes.items()))[0]

    def leading(self, output: str) -> tuple[LogStep, ...]:
        """Return the steps that lead to a value."""
        needed, kept = {output}, []
        for step in reversed(self._steps):
            if needed & {*step.outputs}:
                needed |= {*step.inputs}
                kept.append(step)
        return tuple(reversed(kept))

    def add_several(
        self, op_type: str, inputs: Sequence[str], attributes: Attributes, outputs: int = 1
    ) -> tuple[str, ...]:
        """Add a node of so many outputs, and return these."""
        names = tuple(f"{PREFIX}_{len(self._steps)}_{place}" for place in range(outputs))
        self._steps.append(LogStep(op_type, tuple(inputs), names, attributes))
        return names

    def multiplied(self, node: gs.Node, name: str) -> str:
        """Return the logarithm of a product along the axes of a node."""
        given = [tensor.name for tensor in node.inputs[1:]]
        attributes = dict(node.attrs)
        listed = attributes.pop("axes", None)
        if listed is not None and self._opset >= _SUMMED_AXES_INPUT:
            given = [self.add("Constant", value_ints=listed)]
        elif listed is not None:
            attributes["axes"] = listed
        return self.add("ReduceSum", name, *given, **attributes)

    def missing(self, name: str) -> str:
        """Return log(1 − p) of log p: with t = tanh(½ log p), which is exact near p = 1, too.

        1 − p = −2 t / (1 − t); all constants are of the type of log p.
        """
        zero = self.add("Sub", name, name)
        t = self.add("Tanh", self.add("Mean", name, zero))
        below = self.add("Sub", self.add("Exp", zero), t)
        return self.add("Log", self.add("Div", self.add("Neg", self.add("Add", t, t)), below))

    def summed(self, node: gs.Node, name: str, axes: Sequence[int]) -> str:
        """Return the logarithm of a sum along the axes of a node."""
        keep: Attributes = (("keepdims", node.attrs.get("keepdims", 1)),)
        if self._opset < _AXES_INPUT or len(node.inputs) < 2:
            return self.add_several("ReduceLogSumExp", [name], (("axes", tuple(axes)), *keep))[0]
        return self.add_several("ReduceLogSumExp", [name, node.inputs[1].name], keep)[0]

    def averaged(self, node: gs.Node, name: str, axes: Sequence[int]) -> str:
        """Return that of a mean along them: m + log mean exp(x − m); m is the largest."""
        given = [tensor.name for tensor in node.inputs[1:]]
        others: Attributes = () if given else (("axes", tuple(axes)),)

        def reduced(op_type: str, value: str, keepdims: int) -> str:
            attributes = (*others, ("keepdims", keepdims))
            return self.add_several(op_type, [value, *given], attributes)[0]

        keepdims = int(node.attrs.get("keepdims", 1))
        largest = reduced("ReduceMax", name, 1)
        powers = self.add("Exp", self.add("Sub", name, largest))
        mean = self.add("Log", reduced("ReduceMean", powers, keepdims))
        return self.add("Add", mean, reduced("ReduceMax", name, keepdims))

    def mean(self, names: Sequence[str]) -> str:
        """Return that of a mean of several values: m + log mean exp(x − m); m is the largest."""
        largest = self.add("Max", *names)
        powers = [self.add("Exp", self.add("Sub", name, largest)) for name in names]
        return self.add("Add", largest, self.add("Log", self.add("Mean", *powers)))

    def added(self, names: Sequence[str]) -> str:
        """Return log(exp(a) + exp(b) + …): b + log(1 + exp(a − b)), which has slopes throughout."""
        total = names[0]
        for name in names[1:]:
            total = self.add("Add", name, self.add("Softplus", self.add("Sub", total, name)))
        return total


def attributes_of(node: gs.Node) -> Attributes:
    """Return a node's attributes, by name."""
    return tuple(sorted(node.attrs.items(), key=lambda entry: entry[0]))
