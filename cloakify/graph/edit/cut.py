"""Cut a model at the tensor that attacks perturb, so that this tensor becomes its float input.

Whatever else the rest of the model reads of the inputs (ids that positions are counted from, an
attention mask) belongs to the sample too. Attacks know samples of one float array, so it is packed
behind the perturbed values:

    packed [N, …]  ->  Split, Reshape, Cast  ->  tensor, ids, mask, …  ->  the rest as it stands

No gradient flows to the packed ids: there is none through a `Cast` to whole numbers, and a threat
model leaves them no room. Floats of 32 bits hold whole numbers up to 2²⁴ exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import data_inputs
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.names import Names, names_in
from cloakify.onnxfile.domains import standard_version

# The largest whole number up to which float32 holds each.
LARGEST_EXACT = 1 << 24

# What the values of the unpacking are called; a number follows where the model has such names.
SAMPLE, SIZES, PART = OWN = ("cloakify_sample", "cloakify_sizes", "cloakify_part")


@dataclass(frozen=True)
class Part:
    """One of the arrays of a packed sample.

    Attributes
    ----------
    name
        Of the tensor or of the model's input.
    shape
        Of one sample: axis 0 holds what belongs to it, 1 for most tensors.
    element_type
        An ONNX code.
    sample_axis
        Which axis of the model's tensor counts samples; here they are always first.
    """

    name: str
    shape: tuple[int, ...]
    element_type: int
    sample_axis: int = 0

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Packing:
    """How samples are packed: what is perturbed first, then what is passed along."""

    parts: tuple[Part, ...]

    @property
    def tensor_shape(self) -> tuple[int, ...]:
        """Shape of one sample's values of the first tensor."""
        return self.shapes[0]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of one sample's values of each part."""
        return tuple(
            part.shape[1:] if part.shape[0] == 1 and len(part.shape) > 1 else part.shape
            for part in self.parts
        )

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of a packed sample; that of the tensor where nothing is passed along."""
        if len(self.parts) == 1:
            return self.tensor_shape
        return (sum(part.size for part in self.parts),)

    def pack(self, arrays: Sequence[NDArray[np.generic]], samples: int) -> NDArray[np.float32]:
        """Return one array [samples, …] of the parts, whose first axes may be longer."""
        rows = [array.reshape(samples, -1).astype(np.float32) for array in arrays]
        return np.concatenate(rows, axis=1).reshape(samples, *self.sample_shape)

    def tensor_of(self, packed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the first tensor's values in packed samples, [samples, …]."""
        return self.parts_of(packed)[0]

    def parts_of(self, packed: NDArray[np.float32], count: int = 1) -> list[NDArray[np.float32]]:
        """Return the values of the first parts in packed samples, [samples, …] each."""
        flat = packed.reshape(len(packed), -1)
        ends = np.cumsum([part.size for part in self.parts[:count]])
        rows = np.split(flat[:, : ends[-1]], ends[:-1], axis=1)
        pairs = zip(rows, self.shapes, strict=False)
        return [row.reshape(len(packed), *shape) for row, shape in pairs]


def inputs_beside(model: ModelProto, tensor: str, outputs: Sequence[str]) -> list[str]:
    """Return the data inputs that ``outputs`` depend on by another way than ``tensor``.

    Raises
    ------
    ModelError
        The outputs do not depend on the tensor at all.
    """
    needed = leading_to(model.graph.node, outputs, given=[tensor]).values
    if tensor not in needed:
        raise ModelError(f"{tensor!r} does not lead to the logits {outputs[-1]!r}")
    return [value.name for value in data_inputs(model) if value.name in needed - {tensor}]


def cut_inside(
    model: ModelProto, tensor: str, packing: Packing, outputs: Sequence[str], batch: int | None
) -> tuple[ModelProto, str]:
    """Return a copy of ``model`` that starts at packed samples, and the name of its input.

    Parameters
    ----------
    tensor
        The tensor to start from; the packing's first part is its own.
    outputs
        Names of the values to return, which become the only outputs.
    batch
        The batch size that the model is fixed to, or ``None``.

    Raises
    ------
    ModelError
        The outputs need an input that is not packed.
    """
    needed = leading_to(model.graph.node, outputs, given=[tensor])
    parts = [tensor, *(part.name for part in packing.parts[1:])]
    for value in data_inputs(model):
        if value.name in needed.values and value.name not in parts:
            raise ModelError(f"the logits need input {value.name!r}, which samples do not hold")
    names = names_in(model)
    packed = names.fresh(SAMPLE)
    constants: list[TensorProto] = []
    head = _unpack(packed, parts, packing, names, constants, standard_version(model, 1))
    cut = ModelProto()
    cut.CopyFrom(model)
    del cut.graph.node[:], cut.graph.output[:], cut.graph.value_info[:]
    cut.graph.node.extend([*head, *(_without(node, parts, names) for node in needed.nodes)])
    cut.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    cut.graph.initializer.extend(constants)
    data = {value.name for value in data_inputs(model)}
    kept = [value for value in cut.graph.input if value.name not in data]
    declared = onnx.helper.make_tensor_value_info(
        packed, TensorProto.FLOAT, [batch or "N", *packing.sample_shape]
    )
    del cut.graph.input[:]
    cut.graph.input.extend([declared, *kept])
    # An initializer that is no input needs IR version 4.
    cut.ir_version = max(cut.ir_version, 4)
    return cut, packed


def turn(model: ModelProto, name: str, rank: int) -> ModelProto:
    """Return a copy of a cut model in which a value has its first two axes in the other order.

    What reads the value turns it back first, so that a gate put there does what it did.

    Parameters
    ----------
    name, rank
        The value, and how many axes it has.
    """
    turned = ModelProto()
    turned.CopyFrom(model)
    names = names_in(model)
    before, after = names.fresh(PART), names.fresh(PART)
    place = 0
    for number, node in enumerate(turned.graph.node):
        node.input[:] = [after if each == name else each for each in node.input]
        if name in node.output:
            node.output[:] = [before if each == name else each for each in node.output]
            place = number + 1
    order = [1, 0, *range(2, rank)]
    for source, result in ((name, after), (before, name)):
        label = names.fresh("cloakify_turn")
        node = onnx.helper.make_node("Transpose", [source], [result], name=label, perm=order)
        turned.graph.node.insert(place, node)
    return turned


def _without(node: NodeProto, parts: Sequence[str], names: Names) -> NodeProto:
    """Return a node that does not yield ``parts``: a node may yield other things besides."""
    if not set(parts).intersection(node.output):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.output[:] = [names.fresh(name) if name in parts else name for name in node.output]
    return copy


def _unpack(
    packed: str,
    parts: Sequence[str],
    packing: Packing,
    names: Names,
    constants: list[TensorProto],
    opset: int,
) -> list[NodeProto]:
    """Return the nodes from the packed input to the parts; their constants are appended."""

    def ints(values: Sequence[int]) -> str:
        name = names.fresh(SIZES)
        constants.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    make = onnx.helper.make_node
    nodes: list[NodeProto] = []
    pieces = [packed]
    if len(parts) > 1:
        sizes = [part.size for part in packing.parts]
        pieces = [names.fresh(PART) for _ in sizes]
        # The sizes became an input with opset 13.
        if opset >= 13:
            nodes.append(make("Split", [packed, ints(sizes)], pieces, axis=1))
        else:
            nodes.append(make("Split", [packed], pieces, axis=1, split=sizes))
    for name, part, piece in zip(parts, packing.parts, pieces, strict=True):
        shaped = names.fresh(PART)
        # The first axis counts samples, or several rows of each.
        nodes.append(make("Reshape", [piece, ints([-1, *part.shape[1:]])], [shaped]))
        if part.sample_axis:
            order = list(range(1, len(part.shape)))
            order.insert(part.sample_axis, 0)
            moved = names.fresh(PART)
            nodes.append(make("Transpose", [shaped], [moved], perm=order))
            shaped = moved
        nodes.append(make("Cast", [shaped], [name], to=part.element_type))
    for node in nodes:
        node.name = names.fresh("cloakify_unpack")
    return nodes


def check_exact(array: NDArray[np.generic], name: str) -> str | None:
    """Return what is wrong with packing an array's whole numbers as floats, or ``None``."""
    if array.dtype.kind in "iu" and array.size and int(np.abs(array).max()) > LARGEST_EXACT:
        return f"input {name!r} holds {int(array.max())}; only numbers up to 2^24 are kept exactly"
    return None


def part_of(name: str, array: NDArray[np.generic], samples: int, sample_axis: int = 0) -> Part:
    """Describe an array of some samples, these first, as a part.

    Parameters
    ----------
    sample_axis
        Where the model has them.

    Raises
    ------
    ModelError
        Its first axis does not count the samples.
    """
    if not array.ndim or array.shape[0] % samples:
        raise ModelError(
            f"{name!r} has shape {array.shape} for {samples} samples: its first axis must count "
            "them, so that samples can be attacked one by one"
        )
    shape = (array.shape[0] // samples, *array.shape[1:])
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return Part(name, shape, kind, sample_axis)
