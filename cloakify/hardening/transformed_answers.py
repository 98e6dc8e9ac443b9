"""Whether all that a transformed file answers with follows from its scores as in its source.

That its scores are those of the hardened model is not enough: labels, probabilities and further
outputs are made of them, and are what is used.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from cloakify.errors import HeadError, ModelError
from cloakify.graph.edit.taps import head_model, tap, value_of_rank
from cloakify.numeric.arrays import AnyArray, Doubles
from cloakify.printable import in_percent
from cloakify.runtime import Device, Session

Feeds = Mapping[str, NDArray[np.generic]]

# Share of labels that may be others: what lies on a border falls to either side.
BORDERLINE = {"floats of 32 bits": 0.02, "floats of 16 bits": 0.05, "quantised numbers": 0.1}


def check_answers(
    source: ModelProto,
    changed: ModelProto,
    file: ModelProto,
    scores: tuple[str, str],
    feeds: Feeds,
    device: Device,
    *,
    tolerance: float,
    borderline: float,
) -> None:
    """Compare each output of a file with what the source makes of the file's own scores.

    Where an output is made of more than these, with that of the source with the mask.

    Parameters
    ----------
    source, changed, file
        Without a mask or gates, with them, and what the file became.
    scores
        Names of the scores in source and file, which were found to be alike.
    tolerance
        Of floats: see :func:`apart`.
    borderline
        Of labels: which share of them may be others.

    Raises
    ------
    ModelError
        An output is another, is none of the source's, or can't be compared.
    """
    pairs = []
    for shown, there in _paired_outputs(source, file):
        (first, keys), (second, other_keys) = _array_of(source, shown), _array_of(file, there)
        if keys != other_keys:
            raise ModelError(f"its output {there!r} has other keys than the source's {shown!r}")
        if (first, second) != scores:
            pairs.append((there, first, second))
    if not pairs:
        return
    names = [*dict.fromkeys([scores[1], *(second for _, _, second in pairs)])]
    made = dict(zip(names, run_as_typed(file, names, feeds, device), strict=True))
    (like,) = run_as_typed(source, [scores[0]], feeds, device)
    own = made[scores[1]].astype(like.dtype)
    for there, first, second in pairs:
        actual, expected = made[second], _made_of_scores(source, first, scores[0], own, device)
        if expected is None:
            (expected,) = run_as_typed(changed, [first], feeds, device)
        if actual.shape != expected.shape:
            raise ModelError(
                f"its output {there!r} has the shape {actual.shape}, not {expected.shape}"
            )
        is_label = expected.dtype.kind in "biuOSU"
        off = float((actual != expected).mean()) if is_label else apart(actual, expected)
        if not off <= (borderline if is_label else tolerance):
            by = in_percent(off, 0 if is_label else 2)
            how = f"{by} of it differ" if is_label else f"off by {by} of its spread"
            raise ModelError(
                f"its output {there!r} is not what the source makes of the same scores: {how}"
            )


def run_as_typed(
    model: ModelProto, names: list[str], feeds: Feeds, device: Device
) -> list[NDArray[np.generic]]:
    """Run a model on samples in its own types; its inputs may have other names, in one order.

    Raises
    ------
    ModelError
        It has other inputs than there are samples for, or does not run on them.
    """
    session = Session(tap(model, names), device)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    if len(session.inputs) != len(feeds) and not feeds.keys() >= set(session.inputs):
        raise ModelError(f"it has {len(session.inputs)} inputs, and the source {len(feeds)}")
    given = dict(zip(session.inputs, feeds.values(), strict=False)) | {
        name: feeds[name] for name in session.inputs if name in feeds
    }
    fed = {
        name: array.astype(onnx.helper.tensor_dtype_to_np_dtype(kinds[name]))
        for name, array in given.items()
    }
    outputs = run_in_batches(session, fed, batch_of(model))
    return [outputs[name] for name in names]


def batch_of(model: ModelProto) -> int | None:
    """Return how many samples a model takes at once, where all its inputs leave it no choice."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    shapes = [value.type.tensor_type.shape.dim for value in inputs]
    sizes = {dims[0].dim_value if dims else 0 for dims in shapes}
    return sizes.pop() or None if len(sizes) == 1 else None


def run_in_batches(
    session: Session, feeds: Feeds, size: int | None
) -> dict[str, NDArray[np.generic]]:
    """Run a model on so many samples at once, and put side by side what it answers.

    Raises
    ------
    ModelError
        It does not run on them.
    """
    count = max(map(len, feeds.values()))
    if size is None or size >= count:
        return session.run(feeds)
    parts = [
        session.run({name: array[start : start + size] for name, array in feeds.items()})
        for start in range(0, count, size)
    ]
    return {
        name: np.concatenate([np.atleast_1d(part[name]) for part in parts]) for name in parts[0]
    }


def size_of(values: Doubles) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.square(values).mean()))


def spread_of(values: Doubles) -> float:
    """Return the root mean square of values [n, …] around each sample's mean.

    One number a sample has no mean of its own; around that of all then.
    """
    axis = tuple(range(1, values.ndim)) if values[:1].size > 1 else 0
    around = values - values.mean(axis=axis, keepdims=True)
    return max(size_of(around), float(np.finfo(np.float32).tiny))


def apart(actual: AnyArray, expected: AnyArray) -> float:
    """Return the root mean square of the differences of two arrays, relative to the spread.

    What is infinite or no number in both alike does not differ, nor counts for the spread.
    """
    one, two = actual.astype(np.float64), expected.astype(np.float64)
    same = (one == two) | (np.isnan(one) & np.isnan(two))
    if same.all():
        return 0.0
    with np.errstate(invalid="ignore"):
        difference = size_of(np.where(same, 0.0, one - two))
    return difference / spread_of(np.where(np.isfinite(two), two, 0.0))


def _paired_outputs(source: ModelProto, file: ModelProto) -> list[tuple[str, str]]:
    """Return the name of each output of the file behind that of the source's which it is.

    By name, where all are the source's, of which some may be left out; else by place.
    """
    ours, theirs = ([value.name for value in model.graph.output] for model in (source, file))
    if set(theirs) <= set(ours):
        if sorted(theirs, key=ours.index) != theirs:
            raise ModelError(f"its outputs are in another order: {theirs}, not {ours}")
        return [(name, name) for name in theirs]
    if len(theirs) != len(ours):
        strange = next(name for name in theirs if name not in ours)
        raise ModelError(f"it has an output {strange!r}, which the source has not")
    return list(zip(ours, theirs, strict=True))


def _array_of(model: ModelProto, output: str) -> tuple[str, bytes]:
    """Return the array that an output is made of, and how maps are made of it, if they are.

    Raises
    ------
    ModelError
        It is no array, nor what `ZipMap` makes of one.
    """
    (value,) = (each for each in model.graph.output if each.name == output)
    if not value.type.WhichOneof("value") or value.type.HasField("tensor_type"):
        return output, b""
    for node in model.graph.node:
        if output in node.output and node.op_type == "ZipMap":
            return node.input[0], b"".join(
                each.SerializeToString(deterministic=True)
                for each in sorted(node.attribute, key=lambda each: each.name)
            )
    raise ModelError(f"its output {output!r} is no array, and can't be compared")


def _made_of_scores(
    source: ModelProto, output: str, scores: str, values: AnyArray, device: Device
) -> AnyArray | None:
    """Return what a model makes of scores; ``None`` where it takes more than these."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    try:
        part = head_model(source, value_of_rank(scores, kind, values.ndim), output)
        if all(scores not in node.input for node in part.graph.node):
            return None
        made = run_in_batches(Session(part, device), {scores: values}, batch_of(source))
        return made[output]
    except (HeadError, ModelError):
        return None
