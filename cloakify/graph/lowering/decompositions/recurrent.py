"""`RNN`, `GRU` and `LSTM` written out step by step, the sequence's length being known.

Gradient rules then follow from those of the elementary operators. With ⊙ the product of elements,
σ and τ the activations, and the biases added:

    RNN   H = τ(x Wᵀ + H' Rᵀ)
    GRU   z, r = σ(x Wzrᵀ + H' Rzrᵀ);  H = (1 − z) ⊙ h + z ⊙ H', where
          h = τ(x Whᵀ + (r ⊙ H') Rhᵀ), or τ(x Whᵀ + r ⊙ (H' Rhᵀ)) with linear_before_reset
    LSTM  i, o, f = σ(x Wᵀ + H' Rᵀ);  C = f ⊙ C' + i ⊙ τ(x Wcᵀ + H' Rcᵀ);  H = o ⊙ τ(C)

Peepholes add p ⊙ C' inside of the gates i and f, p ⊙ C inside of o; input_forget puts 1 − i in the
place of f. A sequence that is shorter than others keeps its state behind its end, where Y is 0;
one of no length ends in zeros. All that as ONNX Runtime has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto

from cloakify.graph.lowering.control_flow import MOST_NODES
from cloakify.graph.lowering.decompositions.recurrent_activation import Activation, read_activations
from cloakify.graph.model.rewrite import Shapes, Writer, attribute, given

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_NODES_A_STEP = 20
_SEQUENCE_LENGTHS = 4
_PEEPHOLES = 7


@dataclass
class _Direction:
    """One direction of one node: the names of its weights, and how its gates are computed."""

    writer: Writer
    dtype: np.dtype
    activations: list[Activation]
    clip: str | None
    weights: str
    recurrent: str
    bias_x: str | None
    bias_h: str | None
    linear_before_reset: bool
    peepholes: list[str]
    input_forget: bool
    states: list[str] = field(default_factory=list)

    def activate(self, place: int, tensor: str) -> str:
        if self.clip is not None:
            low = self.writer.op("Neg", self.clip)
            tensor = self.writer.op("Clip", tensor, low, self.clip)
        return self.activations[place].write(self.writer, tensor, self.dtype)


Step = Callable[[_Direction, str, list[str]], list[str]]


def unsupported_reason(node: NodeProto, shapes: Shapes) -> str | None:
    """Tell why a recurrent node can't be written out; ``None`` if it can."""
    chosen = read_activations(node)
    if isinstance(chosen, str):
        return chosen
    if node.input[0] not in shapes:
        return "reads a sequence of unknown length"
    steps = shapes[node.input[0]][1 if attribute(node, "layout", 0) else 0]
    limit = MOST_NODES // _NODES_A_STEP // _directions(node)
    if steps > limit:
        return f"takes {steps} steps, more than the {limit} that are written out"
    return None


def _directions(node: NodeProto) -> int:
    return 2 if attribute(node, "direction") == "bidirectional" else 1


def write(writer: Writer, node: NodeProto, shapes: Shapes, types: Mapping[str, int]) -> None:
    """Write a recurrent node out; :func:`unsupported_reason` must have had nothing against it."""
    shape, kind = shapes[node.input[0]], types[node.input[0]]
    x, batch_first = node.input[0], attribute(node, "layout", 0)
    if batch_first:
        x = writer.op("Transpose", x, perm=[1, 0, 2])
        shape = (shape[1], shape[0], shape[2])
    steps, samples = shape[:2]
    lengths = _Lengths(writer, given(node, _SEQUENCE_LENGTHS), kind)
    direction = attribute(node, "direction", "forward")
    backwards = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    outputs: list[list[str]] = []
    lasts: list[list[str]] = []
    for place, back in enumerate(backwards):
        part = _direction(writer, node, place, samples, kind)
        step = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[node.op_type]
        projected = writer.op("MatMul", x, writer.op("Transpose", part.weights))
        if part.bias_x is not None:
            projected = writer.op("Add", projected, part.bias_x)
        states, hidden = part.states, [""] * steps
        order = range(steps)[::-1] if back else range(steps)
        for time in order:
            now = writer.op("Gather", projected, writer.constant(np.array(time, np.int64)), axis=0)
            after = step(part, now, states)
            hidden[time] = lengths.where_inside(time, after[0])
            states = [
                lengths.where_inside(time, new, old) for new, old in zip(after, states, strict=True)
            ]
        outputs.append(hidden)
        lasts.append([lengths.where_inside(0, state) for state in states])
    if node.output[0]:
        axis = writer.ints(0)
        rows = []
        for time in range(steps):
            sides = [writer.op("Unsqueeze", side[time], axis) for side in outputs]
            both = sides[0] if len(sides) == 1 else writer.op("Concat", *sides, axis=0)
            rows.append(writer.op("Unsqueeze", both, axis))
        _yield(writer, rows, node.output[0], [2, 0, 1, 3] if batch_first else [])
    for place, name in enumerate(node.output[1:]):
        if name:
            axis = writer.ints(0)
            sides = [writer.op("Unsqueeze", states[place], axis) for states in lasts]
            _yield(writer, sides, name, [1, 0, 2] if batch_first else [])


def _yield(writer: Writer, rows: list[str], output: str, perm: list[int]) -> None:
    """Stack rows along axis 0, and order the axes by ``perm`` if there is one."""
    if perm:
        writer.op("Transpose", writer.op("Concat", *rows, axis=0), output=output, perm=perm)
    else:
        writer.op("Concat", *rows, output=output, axis=0)


class _Lengths:
    """Tells the steps inside of each sequence from those behind its end."""

    def __init__(self, writer: Writer, lengths: str, kind: int) -> None:
        self._writer = writer
        self._inside: dict[int, str] = {}
        if lengths:
            self._column = writer.op("Unsqueeze", lengths, writer.ints(1))
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
            self._zero = writer.constant(np.zeros((), dtype))
        self._given = bool(lengths)

    def where_inside(self, time: int, tensor: str, otherwise: str = "") -> str:
        """Return ``tensor`` [N, …] for the samples that have step ``time``, else ``otherwise``.

        By default that is zeros.
        """
        if not self._given:
            return tensor
        if time not in self._inside:
            number = self._writer.constant(np.array(time, np.int32))
            self._inside[time] = self._writer.op("Greater", self._column, number)
        return self._writer.op("Where", self._inside[time], tensor, otherwise or self._zero)


def _direction(writer: Writer, node: NodeProto, place: int, samples: int, kind: int) -> _Direction:
    hidden = attribute(node, "hidden_size")
    index = writer.constant(np.array(place, np.int64))
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)

    def part(position: int, axis: int = 0) -> str | None:
        name = given(node, position)
        return writer.op("Gather", name, index, axis=axis) if name else None

    bias, bias_x, bias_h = part(3), None, None
    if bias is not None:
        bias_x, bias_h = writer.split(bias, 2, axis=0)
    states = []
    for position in (5, 6) if node.op_type == "LSTM" else (5,):
        zeros = np.zeros((samples, hidden), dtype)
        initial = part(position, axis=attribute(node, "layout", 0))
        states.append(initial or writer.constant(zeros))
    activations = read_activations(node)
    limit = attribute(node, "clip")
    peepholes = part(_PEEPHOLES) if node.op_type == "LSTM" else None
    weights, recurrent = part(1), part(2)
    assert weights is not None and recurrent is not None and not isinstance(activations, str)
    return _Direction(
        writer,
        dtype,
        activations[place],
        None if limit is None else writer.constant(np.array(limit, dtype)),
        weights,
        recurrent,
        bias_x,
        bias_h,
        bool(attribute(node, "linear_before_reset", 0)),
        [] if peepholes is None else writer.split(peepholes, 3, axis=0),
        bool(attribute(node, "input_forget", 0)),
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

    def peep(gate: str, place: int, cell: str) -> str:
        if not part.peepholes:
            return gate
        return writer.op("Add", gate, writer.op("Mul", part.peepholes[place], cell))

    taken = part.activate(0, peep(gate_i, 0, states[1]))
    added = writer.op("Mul", taken, part.activate(1, gate_c))
    if part.input_forget:
        # (1 − i) ⊙ C' + i ⊙ c = C' + i ⊙ c − i ⊙ C'
        kept = writer.op("Sub", states[1], writer.op("Mul", taken, states[1]))
    else:
        kept = writer.op("Mul", part.activate(0, peep(gate_f, 2, states[1])), states[1])
    cell = writer.op("Add", kept, added)
    # Only what enters the gates is clipped.
    shown = part.activations[2].write(writer, cell, part.dtype)
    return [writer.op("Mul", part.activate(0, peep(gate_o, 1, cell)), shown), cell]


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
