"""Class names: lists of them as people and exporters write them, and what a model says.

>>> parse_names('{"0": "cat", "1": "dog"}')
('cat', 'dog')
>>> parse_names("cat, dog")
('cat', 'dog')
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from onnx import ModelProto, TensorProto

from cloakify.onnxfile.name_lists import KEYS, lists_in
from cloakify.onnxfile.values import values_of

# A list of classes is longer than a megabyte for no model.
_LONGEST = 1 << 20

# Attributes of the operators that name what they put out (domain ai.onnx.ml).
_ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")


def class_names(model: ModelProto, num_classes: int) -> tuple[str, ...] | None:
    """Return what a model's classes are called, in its order.

    As its metadata says, or the operators that turn the index of a class into its label: `ZipMap`,
    `LabelEncoder`, `ArrayFeatureExtractor`, and the classifiers of ai.onnx.ml.

    Returns
    -------
    tuple or None
        ``None`` where nothing is said, or something else than ``num_classes`` distinct names, or
        different things in different places.
    """
    metadata = {entry.key.casefold(): entry.value for entry in model.metadata_props}
    told = [parse_names(metadata[key]) for key in KEYS if key in metadata]
    fitting = [names for names in told if names is not None and len(names) == num_classes]
    if not fitting:
        fitting = [names for names in _of_nodes(model, num_classes) if len(names) == num_classes]
    return fitting[0] if len(set(fitting)) == 1 else None


def parse_names(text: str) -> tuple[str, ...] | None:
    """Read class names in the order of the model's classes, however they are written.

    See :mod:`cloakify.onnxfile.name_lists`.

    Returns
    -------
    tuple or None
        ``None`` where the text is none of these, a name is empty or stands twice.
    """
    return next(readings(text), None)


def readings(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the ways to read what :func:`parse_names` reads, the likeliest first."""
    if not text.strip() or len(text) > _LONGEST:
        return
    for names in lists_in(text):
        if names and all(names) and len(set(names)) == len(names):
            yield tuple(names)


def _of_nodes(model: ModelProto, num_classes: int) -> Iterator[tuple[str, ...]]:
    constants = {
        tensor.name: tensor
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) == num_classes and tensor.data_location != TensorProto.EXTERNAL
    }
    for node in model.graph.node:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        for name in _ATTRIBUTES:
            if name in attributes:
                yield _listed(attributes[name].strings or attributes[name].ints)
        if node.op_type == "LabelEncoder" and "keys_int64s" in attributes:
            keys = list(attributes["keys_int64s"].ints)
            values = attributes.get("values_strings")
            if values is not None and sorted(keys) == list(range(len(values.strings))):
                names = dict(zip(keys, _listed(values.strings), strict=True))
                yield tuple(names[key] for key in range(len(keys)))
        if node.op_type == "ArrayFeatureExtractor" and node.input[0] in constants:
            yield from _of_tensor(constants[node.input[0]])


def _of_tensor(tensor: TensorProto) -> Iterator[tuple[str, ...]]:
    if tensor.data_type == TensorProto.STRING:
        yield _listed(tensor.string_data)
    elif tensor.data_type in (TensorProto.INT32, TensorProto.INT64):
        yield _listed(values_of(tensor).ravel().tolist())


def _listed(values: Sequence[bytes] | Sequence[int]) -> tuple[str, ...]:
    return tuple(
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in values
    )
