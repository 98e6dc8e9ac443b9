"""`RNN`, `GRU` and `LSTM` written out step by step, the sequence's length being known.

Gradient rules then follow from those of the elementary operators. With ⊙ the product of elements,
σ and τ the activations, and the biases added:

    RNN   H = τ(x Wᵀ + H' Rᵀ)
    GRU   z, r = σ(x Wzrᵀ + H' Rzrᵀ);  H = (1 − z) ⊙ h + z ⊙ H', where
          h = τ(x Whᵀ + (r ⊙ H') Rhᵀ), or τ(x Whᵀ + r ⊙ (H' Rhᵀ)) with linear_before_reset
    LSTM  i, o, f = σ(x Wᵀ + H' Rᵀ);  C = f ⊙ C' + i ⊙ τ(x Wcᵀ + H' Rcᵀ);  H = o ⊙ τ(C)

Peepholes, coupled input and forget gates, sequences of several lengths, batch-first layouts and
activations with parameters stay as they are (and have no gradient rule).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto

from cloakify.graph.control_flow import MOST_NODES
from cloakify.graph.writing import Shapes, Writer, attribute, replace_nodes

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_ACTIVATIONS = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}
# Those that take no parameters.
_PLAIN = {"Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"}
_NODES_A_STEP = 20
_SEQUENCE_LENGTHS = 4
_PEEPHOLES = 7


@dataclass
class _Direction:
    """One direction of one node: the names of its weights, and how its gates are computed."""

    writer: Writer
    activations: list[str]
    clip: str | None
    weights: str
    recurrent: str
    bias_x: str | None
    bias_h: str | None
    hidden: int
    linear_before_reset: bool
    states: list[str] = field(default_factory=list)

    def activate(self, place: int, tensor: str) -> str:
        if self.clip is not None:
            low = self.writer.op("Neg", self.clip)
            tensor = self.writer.op("Clip", tensor, low, self.clip)
        return self.writer.op(self.activations[place], tensor)


Step = Callable[[_Direction, str, list[str]], list[str]]


def write_out_recurrences(model: ModelProto, shapes: Shapes, types: Mapping[str, int]) -> bool:
    """Replace the recurrent nodes that can be, in place; tell whether any was.

    Parameters
    ----------
    model
        A model whose shape arithmetic is folded.
    shapes, types
        The shape and the element type of each tensor known.
    """
    graph = model.graph
    replacements: dict[int, list[NodeProto]] = {}
    for place, node in enumerate(graph.node):
        if node.op_type not in _GATES or node.domain not in ("", "ai.onnx"):
            continue
        if node.input[0] in shapes and _is_plain(node, shapes[node.input[0]][0]):
            writer = Writer(f"{node.op_type}_{next(name for name in node.output if name)}")
            _write(writer, node, shapes[node.input[0]], types[node.input[0]])
            replacements[place] = writer.nodes
            graph.initializer.extend(writer.constants)
    replace_nodes(graph, replacements)
    return bool(replacements)


def _is_plain(node: NodeProto, steps: int) -> bool:
    chosen = attribute(node, "activations") or []
    directions = 2 if attribute(node, "direction") == "bidirectional" else 1
    return not (
        set(chosen) - _PLAIN
        or attribute(node, "input_forget", 0)
        or attribute(node, "layout", 0)
        or _given(node, _SEQUENCE_LENGTHS)
        or (node.op_type == "LSTM" and _given(node, _PEEPHOLES))
        or steps * directions * _NODES_A_STEP > MOST_NODES
    )


def _given(node: NodeProto, place: int) -> str:
    return node.input[place] if len(node.input) > place else ""


def _write(writer: Writer, node: NodeProto, shape: tuple[int, ...], kind: int) -> None:
    steps, samples = shape[:2]
    direction = attribute(node, "direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    count = len(backwards)
    outputs: list[list[str]] = []
    lasts: list[list[str]] = []
    for place, back in enumerate(backwards):
        part = _direction(writer, node, place, count, samples, kind)
        step = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[node.op_type]
        projected = writer.op("MatMul", node.input[0], writer.op("Transpose", part.weights))
        if part.bias_x is not None:
            projected = writer.op("Add", projected, part.bias_x)
        states, found = part.states, [""] * steps
        order = range(steps)[::-1] if back else range(steps)
        for time in order:
            now = writer.op("Gather", projected, writer.constant(np.array(time, np.int64)), axis=0)
            states = step(part, now, states)
            found[time] = states[0]
        outputs.append(found)
        lasts.append(states)
    if node.output[0]:
        axis = writer.ints(0)
        rows = []
        for time in range(steps):
            sides = [writer.op("Unsqueeze", found[time], axis) for found in outputs]
            both = sides[0] if count == 1 else writer.op("Concat", *sides, axis=0)
            rows.append(writer.op("Unsqueeze", both, axis))
        writer.op("Concat", *rows, output=node.output[0], axis=0)
    for place, name in enumerate(node.output[1:]):
        if name:
            axis = writer.ints(0)
            sides = [writer.op("Unsqueeze", states[place], axis) for states in lasts]
            writer.op("Concat", *sides, output=name, axis=0)


def _direction(
    writer: Writer, node: NodeProto, place: int, count: int, samples: int, kind: int
) -> _Direction:
    hidden = attribute(node, "hidden_size")
    index = writer.constant(np.array(place, np.int64))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)

    def part(position: int) -> str | None:
        name = _given(node, position)
        return writer.op("Gather", name, index, axis=0) if name else None

    bias, bias_x, bias_h = part(3), None, None
    if bias is not None:
        bias_x, bias_h = writer.split(bias, 2, axis=0)
    states = []
    for position in (5, 6) if node.op_type == "LSTM" else (5,):
        zeros = np.zeros((samples, hidden), dtype)
        states.append(part(position) or writer.constant(zeros))
    # As given, or the default, for every direction; a list for both directions has twice as many.
    each = _ACTIVATIONS[node.op_type]
    chosen = attribute(node, "activations") or each * count
    limit = attribute(node, "clip")
    weights, recurrent = part(1), part(2)
    assert weights is not None and recurrent is not None
    return _Direction(
        writer,
        chosen[place * len(each) : (place + 1) * len(each)],
        None if limit is None else writer.constant(np.array(limit, dtype)),
        weights,
        recurrent,
        bias_x,
        bias_h,
        hidden,
        bool(attribute(node, "linear_before_reset", 0)),
        states,
    )


def _recur(part: _Direction, state: str) -> str:
    """Return ``H' Rᵀ`` with its bias."""
    inputs = [state, part.recurrent, *([part.bias_h] if part.bias_h is not None else [])]
    return part.writer.op("Gemm", *inputs, transB=1)


def _rnn(part: _Direction, now: str, states: list[str]) -> list[str]:
    return [part.activate(0, part.writer.op("Add", now, _recur(part, states[0])))]


def _lstm(part: _Direction, now: str, states: list[str]) -> list[str]:
    writer = part.writer
    sums = writer.op("Add", now, _recur(part, states[0]))
    gate_i, gate_o, gate_f, gate_c = writer.split(sums, 4, axis=1)
    kept = writer.op("Mul", part.activate(0, gate_f), states[1])
    added = writer.op("Mul", part.activate(0, gate_i), part.activate(1, gate_c))
    cell = writer.op("Add", kept, added)
    # Only what enters the gates is clipped.
    shown = writer.op(part.activations[2], cell)
    return [writer.op("Mul", part.activate(0, gate_o), shown), cell]


def _gru(part: _Direction, now: str, states: list[str]) -> list[str]:
    writer, state = part.writer, states[0]
    now_z, now_r, now_h = writer.split(now, 3, axis=1)
    if part.linear_before_reset:
        old_z, old_r, old_h = writer.split(_recur(part, state), 3, axis=1)
        reset = part.activate(0, writer.op("Add", now_r, old_r))
        old_h = writer.op("Mul", reset, old_h)
    else:
        weights = writer.split(part.recurrent, 3, axis=0)
        biases = [""] * 3 if part.bias_h is None else writer.split(part.bias_h, 3, axis=0)

        def recur(gate: int, tensor: str) -> str:
            inputs = [tensor, weights[gate], *([biases[gate]] if biases[gate] else [])]
            return writer.op("Gemm", *inputs, transB=1)

        old_z = recur(0, state)
        reset = part.activate(0, writer.op("Add", now_r, recur(1, state)))
        old_h = recur(2, writer.op("Mul", reset, state))
    update = part.activate(0, writer.op("Add", now_z, old_z))
    candidate = part.activate(1, writer.op("Add", now_h, old_h))
    # (1 − z) ⊙ h + z ⊙ H' = h + z ⊙ (H' − h)
    moved = writer.op("Mul", update, writer.op("Sub", state, candidate))
    return [writer.op("Add", candidate, moved)]
