"""Where an attack enters a classifier: its input, or the first tensor that can be moved a little.

Token ids and bytes can't be perturbed by a small ε. What can is the first float tensor that they
become, and that is what is attacked then: the rows of the embedding table that the ids choose
(``Gather(table, ids)``), those of the unit matrix where they are one-hot encoded (``OneHot``, or
``Cast(ids == 0…V−1)``), or the bytes as numbers (``Cast``). A model with several inputs is attacked
at one of them, or at several of floats at once; the others (an attention mask, token types) are
passed along.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.attack_inputs import OPTION, read_attack_inputs
from cloakify.graph.analysis.inputs import InputSpec, data_inputs, input_spec, only_one
from cloakify.graph.analysis.sample_axis import sample_axes
from cloakify.graph.model.constants import Constants
from cloakify.graph.model.dataflow import SIZES, values_read
from cloakify.graph.model.imported import import_graph, infer_shapes
from cloakify.graph.model.weights import set_weights_aside
from cloakify.onnxfile import FLOATS

Kind = Literal["input", "embedding", "numbers"]

# What looks rows of a table up by number: the table's slot, and the numbers'.
_LOOKUPS = {"Gather": (0, 1), "GatherND": (0, 1), "EmbedLayerNormalization": (2, 0)}
# Where whole numbers become floats one by one.
_CASTS = {"Cast", "DequantizeLinear"}
# Whole numbers that count or find others: what they choose is not what the ids stand for.
_OTHER_NUMBERS = ("CumSum", "Reduce", "Arg", "NonZero", "Range", "TopK")
# Inputs of these names hold ids too, but not the tokens'.
_BESIDE = ("type", "segment", "position", "mask")


@dataclass(frozen=True)
class AttackPoint:
    """The tensor that attacks perturb.

    Attributes
    ----------
    input
        The data input that leads to it.
    others
        Inputs that are passed along with each sample.
    tensor
        Its name: that of the input itself, or of a value inside the graph.
    kind
        ``input``; ``embedding`` for rows of a table; ``numbers`` for whole numbers made floats.
    node, op_type
        The node that yields it; empty for an input.
    rows
        How many rows the table has, where that is known; of one-hot codes how long they are.
    also
        Of the others those that are perturbed, too; of inputs alone.
    units
        In which unit ε is of the input, and of each of those.
    """

    input: InputSpec
    others: tuple[InputSpec, ...]
    tensor: str
    kind: Kind
    node: str = ""
    op_type: str = ""
    rows: int | None = None
    also: tuple[InputSpec, ...] = ()
    units: tuple[float, ...] = (1.0,)

    @property
    def perturbed(self) -> tuple[str, ...]:
        """The names of all tensors that attacks perturb."""
        return (self.tensor, *(spec.name for spec in self.also))

    @property
    def bounded(self) -> tuple[str, ...]:
        """The names of those of :attr:`also` that hold values of the same kind as the input.

        Beside images other numbers are none.
        """
        kind = self.input.channel_axis is None
        return tuple(spec.name for spec in self.also if kind or spec.channel_axis is not None)

    @property
    def is_plain(self) -> bool:
        """Whether the model takes one input of floats, samples first, which is what is attacked."""
        return self.kind == "input" and not self.others and not self.input.sample_axis

    def as_taken(
        self, samples: Mapping[str, NDArray[np.generic]]
    ) -> dict[str, NDArray[np.generic]]:
        """Return arrays [n, …], one for each input, as the model takes them."""
        axes = {spec.name: spec for spec in (self.input, *self.others)}
        return {name: axes[name].as_taken(array) for name, array in samples.items()}

    def __str__(self) -> str:
        if self.kind == "input":
            told = [
                repr(name) if unit == 1 else f"{name!r} (ε in units of {unit:g})"
                for name, unit in zip(self.perturbed, self.units, strict=True)
            ]
            return f"input{'s' * (len(told) > 1)} {', '.join(told)}"
        return (
            f"the output of {self.op_type} {self.node!r}, first floats behind {self.input.name!r}"
        )


def find_attack_point(
    model: ModelProto, wanted: str | None = None, *, any_of_floats: bool = False
) -> AttackPoint:
    """Find where attacks enter ``model``.

    Of whole-number inputs that choose rows of tables, the one with the largest table is attacked.

    Parameters
    ----------
    wanted
        Which inputs of floats to attack; see
        :func:`~cloakify.graph.analysis.attack_inputs.read_attack_inputs`.
    any_of_floats
        Whether of several inputs of floats the first will do, as where nothing is attacked.

    Raises
    ------
    ModelError
        There is no data input, there are several of floats of which none is wanted, or whole
        numbers do not become floats before they are computed with.
    UsageError
        The model has no such input, or it takes no floats.
    """
    inputs = data_inputs(model)
    if not inputs:
        only_one(inputs)
    types = {value.name: value.type.tensor_type.elem_type for value in inputs}
    for name, kind in types.items():
        if kind == TensorProto.STRING:
            raise ModelError(f"input {name!r} takes text; {_behind_text(model)}")
    floats = [value for value in inputs if types[value.name] in FLOATS]
    candidates = [value.name for value in floats if not _is_beside(value.name)]
    if wanted is not None:
        units = read_attack_inputs(wanted, types, candidates)
        return _at_inputs(_specs(model, inputs), units)
    if len(inputs) == 1 and floats:
        (spec,) = _specs(model, inputs).values()
        return AttackPoint(spec, (), spec.name, "input")
    if len(candidates) > 1 and not any_of_floats:
        names = ", ".join(map(repr, candidates))
        raise ModelError(
            f"the model takes floats by {len(candidates)} inputs, {names}: say with {OPTION} which "
            "one is attacked, or which ones at once (all for all of them); the others are passed "
            "along"
        )
    specs = _specs(model, inputs)
    return _at_inputs(specs, {candidates[0]: 1.0}) if candidates else _inside(model, specs, types)


def _behind_text(model: ModelProto) -> str:
    """Say what to export in the place of a model that takes text."""
    for node in model.graph.node:
        if node.op_type in ("TfIdfVectorizer", "OneHotEncoder", "LabelEncoder"):
            return (
                f"export what stands behind {node.op_type} {_called(node)!r} as a model of its "
                "own, which takes numbers"
            )
    return "export the model to take token ids"


def _at_inputs(specs: Mapping[str, InputSpec], units: Mapping[str, float]) -> AttackPoint:
    """Return the point at some inputs, images first: what is known of samples is known of these."""
    names = sorted(units, key=lambda name: specs[name].channel_axis is None)
    main = names[0]
    return AttackPoint(
        specs[main],
        _without(specs, main),
        main,
        "input",
        also=tuple(specs[name] for name in names[1:]),
        units=tuple(units[name] for name in names),
    )


def _specs(model: ModelProto, inputs: Iterable[ValueInfoProto]) -> dict[str, InputSpec]:
    axes = sample_axes(model)
    return {value.name: input_spec(value, axes.get(value.name, 0)) for value in inputs}


def _inside(
    model: ModelProto, specs: Mapping[str, InputSpec], types: Mapping[str, int]
) -> AttackPoint:
    """Walk from the whole-number inputs to the first floats."""
    whole = {name for name, kind in types.items() if kind not in FLOATS and not _is_mask(name)}
    known = _element_types(model)
    constants = Constants(import_graph(model))
    tables = constants.shapes
    # What each value is a version of: an input's numbers, or something derived from them.
    direct: dict[str, str] = {name: name for name in whole if types[name] != TensorProto.BOOL}
    derived: set[str] = set(whole)
    # One-hot codes that are no floats yet: of which input, and how long.
    codes: dict[str, tuple[str, int]] = {}
    lookups: list[tuple[bool, int, AttackPoint]] = []
    casts: list[AttackPoint] = []
    met: list[str] = []
    for node in model.graph.node:
        read = [name for name in values_read(node) if name in derived]
        if not read or node.op_type in SIZES:
            continue
        for tensor in filter(None, node.output):
            kind = known.get(tensor, TensorProto.FLOAT)
            if kind not in FLOATS:
                derived.add(tensor)
                source = _same_numbers(node, direct, kind)
                if source is not None:
                    direct[tensor] = source
                code = _code(node, direct, codes, constants)
                if code is not None:
                    codes[tensor] = code
                continue
            met.append(f"{node.op_type} {_called(node)!r}")
            entry = _entry(node, tensor, direct, specs, tables)
            code = _code(node, direct, codes, constants)
            if code is not None:
                entry = _point(node, tensor, code[0], "embedding", specs, code[1])
            if entry is not None and entry.kind == "embedding":
                # One-hot codes are the rows of a unit matrix.
                size = code[1] ** 2 if code else _table_size(node, tables)
                lookups.append((not _is_beside(entry.input.name), size, entry))
            elif entry is not None:
                casts.append(entry)
            break
    if lookups:
        # The first of equal ones.
        return max(lookups, key=lambda candidate: candidate[:2])[2]
    if len(casts) == 1:
        return casts[0]
    names = ", ".join(map(repr, specs))
    raise ModelError(
        f"input {names} takes no floats, and no tensor behind it can be attacked: cloakify "
        "looks for a table that they choose rows of (Gather), or one Cast to floats, and met "
        f"{', '.join(met[:4]) or 'neither'}; export the model with a float input"
    )


def _entry(
    node: NodeProto,
    tensor: str,
    direct: Mapping[str, str],
    specs: Mapping[str, InputSpec],
    tables: Mapping[str, tuple[int, ...]],
) -> AttackPoint | None:
    """Describe a node's floats as an entry, or return ``None`` where they are none."""
    if node.op_type in _LOOKUPS:
        table, slot = _LOOKUPS[node.op_type]
        if len(node.input) <= max(table, slot) or node.input[table] not in tables:
            return None
        source = direct.get(node.input[slot])
        if source is None:
            return None
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        shape = tables[node.input[table]]
        rows = shape[axis] if node.op_type != "GatherND" else None
        return _point(node, tensor, source, "embedding", specs, rows)
    if node.op_type in _CASTS and node.input[0] in direct:
        return _point(node, tensor, direct[node.input[0]], "numbers", specs, None)
    return None


def _point(
    node: NodeProto,
    tensor: str,
    source: str,
    kind: Kind,
    specs: Mapping[str, InputSpec],
    rows: int | None,
) -> AttackPoint:
    others = _without(specs, source)
    return AttackPoint(specs[source], others, tensor, kind, _called(node), node.op_type, rows)


def _table_size(node: NodeProto, tables: Mapping[str, tuple[int, ...]]) -> int:
    return math.prod(tables[node.input[_LOOKUPS[node.op_type][0]]])


def _code(
    node: NodeProto,
    direct: Mapping[str, str],
    codes: Mapping[str, tuple[str, int]],
    constants: Constants,
) -> tuple[str, int] | None:
    """Return the input whose numbers a node one-hot encodes, and how long the codes are.

    It is written as `OneHot`, or as a comparison with every number that there is. Codes that are
    no floats yet are passed on by a `Cast`, and chosen by in a `Where`.
    """
    if node.op_type in ("Cast", "Where"):
        return codes.get(node.input[0])
    if node.op_type == "OneHot":
        depth = constants.integers(node.input[1])
        rows = depth[0] if depth is not None and len(depth) == 1 else None
        source = direct.get(node.input[0])
    elif node.op_type == "Equal":
        known = [constants.integers(name) for name in node.input]
        listed = next((values for values in known if values is not None), [])
        # One number alone tells padding from the rest.
        rows = len(listed) if len(listed) > 1 and len({*listed}) == len(listed) else None
        source = next((direct[name] for name in node.input if name in direct), None)
    else:
        return None
    return None if source is None or rows is None else (source, rows)


def _same_numbers(node: NodeProto, direct: Mapping[str, str], kind: int) -> str | None:
    """Return the input whose numbers a node passes on, moved or shifted, or ``None``."""
    if kind == TensorProto.BOOL or node.op_type.startswith(_OTHER_NUMBERS):
        return None
    sources = {direct[name] for name in node.input if name in direct}
    return sources.pop() if len(sources) == 1 else None


def _element_types(model: ModelProto) -> dict[str, int]:
    """Return the element types that onnx infers, or that the file declares."""
    skeleton, _ = set_weights_aside(model)
    skeleton = infer_shapes(skeleton)
    values: Iterable[onnx.ValueInfoProto] = (*model.graph.value_info, *skeleton.graph.value_info)
    return {
        value.name: value.type.tensor_type.elem_type
        for value in values
        if value.type.tensor_type.elem_type != TensorProto.UNDEFINED
    }


def _without(specs: Mapping[str, InputSpec], main: str) -> tuple[InputSpec, ...]:
    return tuple(spec for name, spec in specs.items() if name != main)


def _called(node: NodeProto) -> str:
    return node.name or node.output[0]


def _is_beside(name: str) -> bool:
    return any(word in name.lower() for word in _BESIDE)


def _is_mask(name: str) -> bool:
    return "mask" in name.lower()
