"""Sequences of tensors whose course is known before any data: written out as plain nodes.

Exporters of PyTorch and converters leave them behind for Python's lists: a tensor is split into one
(`SplitToSequence`), tensors are put together or added (`SequenceConstruct`, `SequenceInsert`), and
then picked (`SequenceAt`), counted (`SequenceLength`) or joined (`ConcatFromSequence`). Where
lengths and positions are constants, that is a `Split`, an `Identity`, a number and a `Concat`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.graph.model.dataflow import values_read
from cloakify.graph.model.names import Names, names_in
from cloakify.graph.model.rewrite import Shapes, Writer, attribute, given, replace_nodes
from cloakify.onnxfile import values_of
from cloakify.onnxfile.domains import is_standard

MAKERS = frozenset(
    {
        *("SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"),
        "SplitToSequence",
    }
)
"""What makes a sequence of tensors, or of another sequence."""

READERS = frozenset({"ConcatFromSequence", "SequenceAt", "SequenceLength"})
"""What makes a tensor of one."""

# Entries of one sequence. An attack's session would take seconds to open beyond that.
MOST_ENTRIES = 1000

# Gives the name of an entry, which is made when somebody asks for it first.
_Entry = Callable[[], str]


@dataclass
class _Known:
    """What is known on the way through a graph."""

    names: Names
    shapes: Shapes
    constants: dict[str, TensorProto]
    sequences: dict[str, list[_Entry]] = field(default_factory=dict)
    writers: dict[int, Writer] = field(default_factory=dict)

    def writer(self, place: int) -> Writer:
        """Return what collects the nodes that take the place of one."""
        return self.writers.setdefault(place, Writer(self.names, "sequence"))

    def value(self, name: str) -> np.ndarray | None:
        tensor = self.constants.get(name)
        return None if tensor is None else values_of(tensor)


def write_out_sequences(model: ModelProto, shapes: Shapes) -> bool:
    """Replace what can be, in place; tell whether anything was.

    Parameters
    ----------
    model
        A model whose shape arithmetic is folded.
    shapes
        The shapes known.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    known = _Known(names_in(model), shapes, constants)
    written: set[int] = set()
    for place, node in enumerate(graph.node):
        if not is_standard(node):
            continue
        if node.op_type in MAKERS:
            entries = _entries(known, place, node)
            if entries is not None and len(entries) <= MOST_ENTRIES:
                known.sequences[node.output[0]] = entries
        elif node.op_type in READERS and _read(known, place, node):
            written.add(place)
    kept = {place: [node] for place, node in enumerate(graph.node) if place not in written}
    _drop_unread(model, kept)
    if len(kept) == len(graph.node):
        return False
    replacements = {place: kept.get(place, []) for place in range(len(graph.node))}
    for place, writer in known.writers.items():
        replacements[place] = [*writer.nodes, *replacements[place]]
        graph.initializer.extend(writer.constants)
    replace_nodes(graph, replacements)
    return True


def _drop_unread(model: ModelProto, kept: dict[int, list[NodeProto]]) -> None:
    """Leave out the sequences that nobody reads any more."""
    read = {value.name for value in model.graph.output}
    for place in sorted(kept, reverse=True):
        (node,) = kept[place]
        if node.op_type in MAKERS and is_standard(node) and node.output[0] not in read:
            del kept[place]
        else:
            read.update(values_read(node))


def _entries(known: _Known, place: int, node: NodeProto) -> list[_Entry] | None:
    """Return the entries of a sequence that a node makes, if they are known."""
    if node.op_type == "SequenceEmpty":
        return []
    if node.op_type == "SequenceConstruct":
        return [_named(name) for name in node.input]
    if node.op_type == "SplitToSequence":
        return _split(known, place, node)
    entries = known.sequences.get(node.input[0])
    if entries is None:
        return None
    inserts = node.op_type == "SequenceInsert"
    size = len(entries) + inserts
    at = _position(known, given(node, 2 if inserts else 1), size, size - 1)
    if at is None:
        return None
    if inserts:
        return [*entries[:at], _named(node.input[1]), *entries[at:]]
    return [*entries[:at], *entries[at + 1 :]]


def _position(known: _Known, name: str, size: int, last: int) -> int | None:
    """Return a position counted from the front, the last one where none is given."""
    if not name:
        return last
    value = known.value(name)
    if value is None or value.size != 1 or not -size <= int(value.item()) < size:
        return None
    return int(value.item()) % size


def _named(name: str) -> _Entry:
    return lambda: name


def _split(known: _Known, place: int, node: NodeProto) -> list[_Entry] | None:
    """Return the parts of a tensor, which are made when somebody asks for one."""
    shape = known.shapes.get(node.input[0])
    if shape is None:
        return None
    axis = attribute(node, "axis", 0) % len(shape)
    sizes, squeezes = [1] * shape[axis], False
    if given(node, 1):
        told = known.value(node.input[1])
        if told is None:
            return None
        sizes = told.reshape(-1).tolist()
        if told.ndim == 0:
            whole, rest = divmod(shape[axis], int(told))
            sizes = [int(told)] * whole + [rest] * (rest > 0)
    else:
        squeezes = not attribute(node, "keepdims", 1)
    parts: list[str] = []

    def part(index: int) -> str:
        if not parts:
            writer = known.writer(place)
            made = writer.split(node.input[0], sizes, axis)
            if squeezes:
                made = [writer.op("Squeeze", each, writer.ints(axis)) for each in made]
            parts.extend(made)
        return parts[index]

    return [partial(part, index) for index in range(len(sizes))]


def _read(known: _Known, place: int, node: NodeProto) -> bool:
    """Write out what makes a tensor of a known sequence; tell whether that could be done."""
    entries, output = known.sequences.get(node.input[0]), node.output[0]
    if entries is None:
        return False
    writer = known.writer(place)
    if node.op_type == "SequenceLength":
        writer.op("Identity", writer.constant(np.array(len(entries), np.int64)), output=output)
        return True
    if node.op_type == "SequenceAt":
        at = _position(known, node.input[1], len(entries), 0)
        if at is not None:
            writer.op("Identity", entries[at](), output=output)
        return at is not None
    if not entries:
        return False
    axis = attribute(node, "axis")
    parts = [entry() for entry in entries]
    if attribute(node, "new_axis", 0):
        parts = [writer.op("Unsqueeze", each, writer.ints(axis)) for each in parts]
    writer.op("Concat", *parts, output=output, axis=axis)
    return True
