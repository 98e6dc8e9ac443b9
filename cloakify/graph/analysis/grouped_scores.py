"""Scores that are cut into groups, of each of which one is chosen: several answers a sample.

    Reshape(z, [N, K, 2]) → Softmax, ArgMax, … along the pairs     K labels, each yes or no
    Reshape(z, [N, G, C]) → Softmax, ArgMax, …                     G answers of C classes each

The first are independent labels, with the logits z₁ − z₀; the others are no classifier's. Exporters
of PyTorch write either order of the axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_graphsurgeon as gs

from cloakify.errors import UsageError
from cloakify.graph.analysis.score_walk import SAME
from cloakify.graph.analysis.task import Task, TaskReading
from cloakify.graph.model.names import called

_CHOICES = {"ArgMax", "Hardmax", "LogSoftmax", "Softmax", "TopK"}
_RESHAPES = {"Reshape", "Unsqueeze", "Squeeze", "Cast", *SAME}
# From this opset on a softmax is along one axis, and no longer over all that follow.
_OF_ONE_AXIS = 13


@dataclass(frozen=True)
class Groups:
    """Groups of scores.

    Attributes
    ----------
    count, classes
        How many groups there are, and how many scores each has.
    classes_last
        Whether the scores of a group stand side by side, and not those of the same class.
    choice
        The node that chooses in each.
    """

    count: int
    classes: int
    classes_last: bool
    choice: gs.Node

    def reading(self, task: Task | None) -> TaskReading:
        """Return what they mean: independent labels, a choice of its own for each.

        Raises
        ------
        UsageError
            Another task is wanted.
        """
        reading = TaskReading(Task.MULTILABEL, f"{called(self.choice)} of {self.count} pairs")
        if task not in (None, Task.MULTILABEL):
            raise UsageError(f"--task {task}: the answers are labels ({reading.sign})")
        return reading


def groups_of(graph: gs.Graph, scores: gs.Tensor, count: int) -> Groups | None:
    """Find the groups that one is chosen from each of; ``None`` where all are one group.

    Parameters
    ----------
    scores, count
        Class scores [N, count], and how many there are.
    """
    waiting = [scores]
    while waiting:
        tensor = waiting.pop()
        for node in tensor.outputs:
            if node.op in _CHOICES and node.inputs[0] is tensor:
                groups = _chosen(graph, node, count)
                if groups is not None:
                    return groups
            elif node.op in _RESHAPES and node.inputs[0] is tensor:
                waiting.append(node.outputs[0])
    return None


def _chosen(graph: gs.Graph, node: gs.Node, count: int) -> Groups | None:
    shape = node.inputs[0].shape
    axis = _axis(graph, node)
    if shape is None or axis is None:
        return None
    axis += len(shape) * (axis < 0)
    sizes = {place: size for place, size in enumerate(shape) if place and size != 1}
    if len(sizes) != 2 or axis not in sizes:
        return None
    classes = sizes.pop(axis)
    ((other, groups),) = sizes.items()
    if not isinstance(classes, int) or not isinstance(groups, int) or groups * classes != count:
        return None
    return Groups(groups, classes, axis > other, node)


def _axis(graph: gs.Graph, node: gs.Node) -> int | None:
    """Return the axis that a choice is along; ``None`` where it is over several."""
    if node.op in ("ArgMax", "TopK"):
        return int(node.attrs.get("axis", 0 if node.op == "ArgMax" else -1))
    if (graph.opset or 0) >= _OF_ONE_AXIS:
        return int(node.attrs.get("axis", -1))
    axis = int(node.attrs.get("axis", 1))
    last = node.inputs[0].shape is not None and axis in (-1, len(node.inputs[0].shape) - 1)
    return axis if last else None
