"""Whether a file that was transformed after hardening still has its mask in force.

Gates are looked for in :mod:`~cloakify.hardening.transformed_gates`.

What deployment does to a hardened file (optimise, fuse, quantise, convert to 16 bits) leaves no
byte to compare. What can be said is less than a proof, and is said as less:

- the mask's values are in the file, as factors of a product or within the weights of its head;
- on samples the file answers as the source with that mask does, to a tolerance, and not as the
  source without it: in its scores, and in all outputs, each of which the source has as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from cloakify.errors import HeadError, ModelError
from cloakify.graph.analysis.classifier_search import ClassifierSearch, find_classifier
from cloakify.graph.analysis.head import Head
from cloakify.graph.edit.mask import insert_mask, mask_digest
from cloakify.hardening.layers_matched import FULL, HALF, QUANTISED, arithmetic_of
from cloakify.hardening.transformed_answers import (
    BORDERLINE,
    Feeds,
    check_answers,
    run_as_typed,
    size_of,
    spread_of,
)
from cloakify.masking.linear_head import LinearHead, read_head
from cloakify.numeric.arrays import Array, Doubles, as_rows, floats
from cloakify.onnxfile import FLOATS, values_of
from cloakify.printable import in_percent
from cloakify.runtime import Device

# Largest root mean square of the differences, relative to that of the logits around their mean.
TOLERANCE = {FULL: 1e-3, HALF: 0.03, QUANTISED: 0.2}

# The source without the mask must be so many times as far away.
APART = 2.0

# Factors are 0 or 1 where they are this close to it: quantised ones are not quite.
NEAR = 0.02
NEAR_IN_WEIGHTS = 0.2

_PRODUCTS = {"Mul": 1, "QLinearMul": 3}


@dataclass(frozen=True)
class Transformed:
    """A mask that is in force in a file which is no longer what was hardened.

    Attributes
    ----------
    where
        What holds the mask's values.
    removed, total
        How many features are masked, of how many.
    named
        Whether the file's metadata name this very mask, by its digest.
    arithmetic
        What the file computes in: a key of :data:`TOLERANCE`.
    difference, without_mask
        From the logits of the source with the mask, and of the source alone: root mean squares,
        relative to that of the logits around each sample's mean.
    tolerance
        How large ``difference`` may be.
    agreement
        Share of the samples on which the class is that of the source with the mask.
    samples
        How many there were.
    kind
        What was found; of gates, ``removed`` of ``total`` are 0.
    """

    where: str
    removed: int
    total: int
    named: bool
    arithmetic: str
    difference: float
    without_mask: float
    tolerance: float
    agreement: float
    samples: int
    kind: Literal["mask", "gates"] = "mask"

    def to_dict(self) -> dict[str, object]:
        """Return a JSON document."""
        return asdict(self)

    def __str__(self) -> str:
        is_mask = self.kind == "mask"
        these = "the one" if is_mask else "those"
        named = f"{these} that its metadata name" if self.named else "not named by its metadata"
        masked = f"{self.removed} of {self.total} features masked {self.where}"
        return (
            f"{masked if is_mask else self.where}, {named}; on "
            f"{self.samples} random samples its logits ({self.arithmetic}) are off by "
            f"{in_percent(self.difference, 2)} of their spread from the source with the "
            f"{self.kind} ({in_percent(self.tolerance)} pass), by "
            f"{in_percent(self.without_mask, 2)} from the source without, and the class is the "
            f"same on {in_percent(self.agreement, 0)}"
        )


def find_transformed(
    source: ModelProto,
    head: Head,
    file: ModelProto,
    said: Mapping[str, str],
    feeds: Feeds,
    device: Device,
) -> Transformed:
    """Find the mask in a file that was made from a hardened one, and tell that it is in force.

    Parameters
    ----------
    source, head
        What was hardened, weights within it.
    file
        What the hardened file became, weights within it.
    said
        The file's metadata, which may have been lost.
    feeds
        Samples for the source's inputs.

    Raises
    ------
    ModelError
        There is no mask to be found in it, or it is not in force, with the reason.
    """
    mask, where = _find_mask(source, head, file, feeds, device)
    removed = int((mask == 0).sum())
    meant = said.get("mask.removed", "")
    # Rounding may make more weights 0, and never fewer.
    if meant.isdecimal() and int(meant) > removed:
        raise ModelError(
            f"its metadata speak of {meant} masked features, and the mask found {where} is of "
            f"{removed}"
        )
    masked = insert_mask(source, head, mask, {})
    arithmetic = arithmetic_of(source, file)
    what = f"the mask found {where}"
    judged = compared(source, masked, file, feeds, device, what, arithmetic)
    named = said.get("mask.sha256") == mask_digest(mask)
    return Transformed(where, removed, len(mask), named, *judged)


def compared(
    source: ModelProto,
    changed: ModelProto,
    file: ModelProto,
    feeds: Feeds,
    device: Device,
    what: str,
    arithmetic: str,
) -> tuple[str, float, float, float, float, int]:
    """Compare a file's scores on samples with those of the source with what was found in the file.

    Parameters
    ----------
    changed
        The source with that.
    what
        What it is, as an error names it.
    arithmetic
        What the file computes in, a key of :data:`TOLERANCE`.

    Returns
    -------
    The fields of :class:`Transformed` from ``arithmetic`` on.

    Raises
    ------
    ModelError
        It is not in force: the file answers otherwise, or as well as the source without.
    """
    names = _compared(source, file)
    expected, without, actual = (
        _values(model, name, feeds, device)
        for model, name in zip((changed, source, file), (names[0], *names), strict=True)
    )
    if actual.shape != expected.shape:
        raise ModelError(f"its scores have the shape {actual.shape}, not {expected.shape}")
    spread = spread_of(expected)
    difference, apart = (size_of(actual - other) / spread for other in (expected, without))
    tolerance = TOLERANCE[arithmetic]
    if not difference <= tolerance:
        raise ModelError(
            f"its logits ({arithmetic}) are off by {in_percent(difference, 2)} of their spread "
            f"from the source with {what}, and {in_percent(tolerance)} pass"
        )
    if not apart >= APART * difference:
        raise ModelError(
            f"its logits are as near to those of the source without {what} "
            f"({in_percent(apart, 2)}) as to those with it ({in_percent(difference, 2)})"
        )
    agreement = float((_classes(actual) == _classes(expected)).mean())
    # Where other values than the scores were compared, they need not be what labels are made of.
    borderline = BORDERLINE[arithmetic] + 1 - agreement
    check_answers(
        source, changed, file, names, feeds, device, tolerance=tolerance, borderline=borderline
    )
    return arithmetic, difference, apart, tolerance, agreement, len(actual)


def _find_mask(
    source: ModelProto, head: Head, file: ModelProto, feeds: Feeds, device: Device
) -> tuple[Array, str]:
    """Return a mask [D] of 0 and 1 that a file has, and where."""
    for node, values in _factors(file, head.num_features):
        mask = np.rint(values)
        if np.abs(values - mask).max() <= NEAR and set(mask.tolist()) == {0.0, 1.0}:
            return floats(mask), f"by {node.op_type} {node.name or node.output[0]!r}"
    try:
        own = find_classifier(file).head
    except HeadError as error:
        raise ModelError(f"no product holds a mask's factors, and {error}") from None
    assert own is not None
    if (own.num_features, own.num_classes) != (head.num_features, head.num_classes):
        raise ModelError(
            f"no product holds a mask's factors, and its head {own.node!r} has other features"
        )
    weights = []
    for model, each in ((source, head), (file, own)):
        features = run_as_typed(model, [each.features], feeds, device)[0]
        weights.append(read_head(model, each, features.ndim, device.host))
    mask = _within_weights(*weights)
    if 0 not in mask:
        raise ModelError(f"no product holds a mask's factors, nor do the weights of {own.node!r}")
    return mask, f"within the weights of {own.node!r}"


def _factors(file: ModelProto, count: int) -> Iterator[tuple[NodeProto, Doubles]]:
    """Yield products by as many constants as there are features, dequantised."""
    constants = {tensor.name: tensor for tensor in file.graph.initializer}
    makers = {name: node for node in file.graph.node for name in node.output}
    for node in file.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        for slot in (0, _PRODUCTS[node.op_type]):
            values = _constant(node, slot, constants, makers)
            if values is not None and values.size == count:
                yield node, values.reshape(-1)


def _constant(
    node: NodeProto,
    slot: int,
    constants: Mapping[str, TensorProto],
    makers: Mapping[str, NodeProto],
) -> Doubles | None:
    """Return the real values of an input that is a constant, or ``None``."""
    inputs = list(node.input)
    maker = makers.get(inputs[slot])
    if node.op_type == "QLinearMul":
        parts = inputs[slot : slot + 3]
    elif maker is None:
        parts = inputs[slot : slot + 1]
    elif maker.op_type == "DequantizeLinear":
        parts = list(maker.input)
    elif maker.op_type in ("Cast", "Identity"):
        return _constant(maker, 0, constants, makers)
    else:
        held = [entry.t for entry in maker.attribute if entry.name == "value"]
        return values_of(held[0]).astype(np.float64) if held else None
    if any(name and name not in constants for name in parts):
        return None
    stored, *scale = (values_of(constants[name]).astype(np.float64) for name in parts if name)
    if not scale:
        return stored
    zero = scale[1] if len(scale) > 1 else 0.0
    return np.asarray((stored - zero) * scale[0])


def _within_weights(before: LinearHead, after: LinearHead) -> Array:
    """Return by what each feature's weights were multiplied: 0 or 1."""
    size = np.square(before.weight).sum(axis=1)
    share = (after.weight * before.weight).sum(axis=1) / np.where(size > 0, size, 1)
    mask = np.where(size > 0, np.rint(share), 1)
    off = np.abs(after.weight - mask[:, None] * before.weight).max(initial=0.0)
    largest = np.abs(before.weight).max(initial=0.0)
    if not off <= NEAR_IN_WEIGHTS * largest or not set(mask.tolist()) <= {0.0, 1.0}:
        raise ModelError("the weights of its head are not the source's, masked or not")
    return floats(mask)


def _compared(source: ModelProto, file: ModelProto) -> tuple[str, str]:
    """Return what is compared of source and file: their logits, or where the file has none outputs.

    A quantised softmax leaves no logits that are floats, and where several layers' scores come
    together, a tool may have made one layer of them: what they are put together to is another
    value then.
    """
    first, second = (find_classifier(model, needs_head=False) for model in (source, file))
    outputs = [value.name for value in file.graph.output]
    alike = {_scores_are(each) for each in (first, second)}
    floats_out = {value.name for value in source.graph.output if _holds_floats(value)}
    common = [value.name for value in file.graph.output if _holds_floats(value)]
    common = [name for name in common if name in floats_out]
    if len(alike) > 1 and common:
        return common[0], common[0]
    if second.head is None and first.head is not None and second.scores.shipped in outputs:
        place = outputs.index(second.scores.shipped)
        return source.graph.output[place].name, second.scores.shipped
    return first.scores.shipped, second.scores.shipped


def _scores_are(search: ClassifierSearch) -> tuple[bool, bool]:
    """Tell of a model's scores whether they are probabilities, and several layers'."""
    several = search.head is not None and bool(search.head.read_by) and not search.head.cosine
    return bool(search.scores.parts) or search.scores.probabilities, several


def _holds_floats(value: ValueInfoProto) -> bool:
    return value.type.tensor_type.elem_type in FLOATS


def _values(model: ModelProto, name: str, feeds: Feeds, device: Device) -> Doubles:
    (values,) = run_as_typed(model, [name], feeds, device)
    return as_rows(values).astype(np.float64)


def _classes(scores: Doubles) -> NDArray[np.int64]:
    return scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(np.int64)
