"""Open and save ONNX files; weights that live in sidecar files stay there.

The message is loaded without its external weights, so a 10 GB model is edited without reading
them; the sidecars are copied beside the output (onnx >= 1.21 rejects linked ones).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from cloakify.errors import CloakifyError, ModelError
from cloakify.onnxfile.atomic import atomic_write
from cloakify.onnxfile.order import disorder
from cloakify.onnxfile.places import check_places

CHUNK = 1 << 20

# Bytes of the largest message that protobuf reads or writes.
MESSAGE_LIMIT = (1 << 31) - 1

# Integers of a constant that an analysis may have to read; more of them are a table.
FEW_INTEGERS = 1 << 12
INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL})

# Element types of real numbers.
FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)


@dataclass(frozen=True)
class OnnxFile:
    """An opened `.onnx` file.

    Attributes
    ----------
    path
        Where it was read from.
    model
        The message; tensors with external data hold only their location.
    sidecars
        Names of the external data files, relative to the folder of ``path``, sorted.
    content
        The message as bytes where it is not what ``path`` holds: a mask was taken out of it.
    """

    path: Path
    model: ModelProto
    sidecars: tuple[str, ...]
    content: bytes | None = None

    @property
    def files(self) -> list[Path]:
        """The file and its sidecars."""
        return [self.path, *(self.path.parent / name for name in self.sidecars)]

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes and then of each sidecar's own SHA-256, by their names."""
        digest = hashlib.sha256(self.content or b"")
        if self.content is None:
            for chunk in _chunks(self.path):
                digest.update(chunk)
        for name in self.sidecars:
            # Of the sidecars' bytes in a row nobody could tell where one ends.
            digest.update(self.sidecar_digest(name))
        return digest.hexdigest()

    def sidecar_digest(self, name: str) -> bytes:
        """Return the SHA-256 of a sidecar's bytes."""
        digest = hashlib.sha256()
        for chunk in _chunks(self.path.parent / name):
            digest.update(chunk)
        return digest.digest()

    @cached_property
    def outline(self) -> ModelProto:
        """The message with the axes, shapes, indices and factors that lie in sidecars read into it.

        What the graph computes can't be told without those, nor with the weights any better. It is
        the message itself where no sidecar holds any.

        Raises
        ------
        ModelError
            A sidecar is shorter than the model says.
        """
        if not any(map(_is_small_outside, iter_tensors(self.model))):
            return self.model
        model = ModelProto()
        model.CopyFrom(self.model)
        with self._readable():
            for tensor in filter(_is_small_outside, iter_tensors(model)):
                onnx.external_data_helper.load_external_data_for_tensor(
                    tensor, str(self.path.parent)
                )
                tensor.data_location = TensorProto.DEFAULT
                tensor.ClearField("external_data")
        return model

    def load_weights(self) -> ModelProto:
        """Return a copy of the model with the external weights read into it.

        Raises
        ------
        ModelError
            A sidecar is shorter than the model says.
        """
        model = ModelProto()
        model.CopyFrom(self.model)
        if self.sidecars:
            with self._readable():
                onnx.load_external_data_for_model(model, str(self.path.parent))
        return model

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise ModelError(f"{self.path}: its weights can't be read: {error}") from error


def _is_small_outside(tensor: TensorProto) -> bool:
    """Tell whether a sidecar holds a single number, or integers that may be axes or indices."""
    most = FEW_INTEGERS if tensor.data_type in INTEGERS else 1
    return tensor.data_location == TensorProto.EXTERNAL and math.prod(tensor.dims) <= most


def open_model(path: str | os.PathLike[str]) -> OnnxFile:
    """Read an ONNX file without its external weights.

    Raises
    ------
    ModelError
        The file is missing, is no ONNX model, or names a sidecar that is missing or lies outside
        the model's folder; or its nodes are not in the order of computation.
    """
    place = Path(path)
    # A device or a pipe need never end.
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise ModelError(f"{place}: is no regular file; save the model to one")
    try:
        if place.stat().st_size > MESSAGE_LIMIT:
            raise ModelError(f"{place}: is over 2 GiB, which no ONNX message is; is it a sidecar?")
        # Read as bytes: onnx.load would guess a text format from an unusual suffix.
        model = onnx.load_model_from_string(place.read_bytes())
    except OSError as error:
        raise ModelError(f"{place}: can't be read ({error.strerror or error})") from error
    except DecodeError as error:
        raise ModelError(f"{place}: is not an ONNX model (its bytes are no ModelProto)") from error
    if not model.HasField("graph") or not model.graph.node or not model.opset_import:
        raise ModelError(f"{place}: is not an ONNX model (it has no graph or no opset)")
    _check_texts(place, model)
    problem = disorder(model)
    if problem is not None:
        raise ModelError(f"{place}: {problem}; ONNX wants each value made once, before it is read")
    sidecars = tuple(sorted(_sidecar_names(model)))
    for name in sidecars:
        _check_sidecar(place, name)
    return OnnxFile(place, model, sidecars)


def _check_texts(place: Path, model: ModelProto) -> None:
    """Refuse strings that are no text, which nothing that reads graphs can cope with."""
    for graph in iter_graphs(model.graph):
        for node in graph.node:
            for attribute in node.attribute:
                try:
                    for text in (attribute.s, *attribute.strings):
                        text.decode()
                except UnicodeDecodeError as error:
                    raise ModelError(
                        f"{place}: {node.op_type} {node.name!r} has bytes for text in "
                        f"{attribute.name!r}; is that an operator that the exporter left as it was?"
                    ) from error


def _check_sidecar(place: Path, name: str) -> None:
    root = place.parent.resolve()
    try:
        sidecar = (root / name).resolve()
        found = sidecar.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        # Names from the file are anybody's: too long, with a zero byte, through a loop of links.
        raise ModelError(f"{place}: its weights are said to be in {name!r}: {error}") from error
    if not sidecar.is_relative_to(root):
        raise ModelError(f"{place}: its weights are said to be in {name!r}, outside its folder")
    if not found:
        raise ModelError(f"{place}: its weights are said to be in {name!r}, which is missing")


def save_model(model: ModelProto, path: str | os.PathLike[str], source: OnnxFile) -> None:
    """Write ``model`` to ``path``, whole or not at all, with the sidecars of ``source`` beside it.

    Equal messages give equal bytes.

    Raises
    ------
    CloakifyError
        As :func:`~cloakify.onnxfile.places.check_places`; a sidecar would replace another model's,
        or the message is over protobuf's 2 GiB.
    """
    target = Path(path)
    check_places([target], source.files)
    try:
        data = model.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as error:
        raise CloakifyError(f"{target}: the model is over protobuf's limit of 2 GiB") from error
    if target.parent.resolve() != source.path.parent.resolve():
        _copy_sidecars(source, target)
    with atomic_write(target) as file:
        file.write(data)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's bytes, whole or not at all.

    Raises
    ------
    ModelError
        The source can't be read.
    CloakifyError
        The target can't be written.
    """
    with atomic_write(target) as writer:
        for chunk in _chunks(source):
            writer.write(chunk)


def _copy_sidecars(source: OnnxFile, target: Path) -> None:
    replaced = target.exists()
    for name in source.sidecars:
        original, copy = source.path.parent / name, target.parent / name
        if copy.exists() and _same_bytes(original, copy):
            continue
        if copy.exists() and not replaced:
            raise CloakifyError(
                f"{copy}: holds the weights of another model; choose another folder for the output"
            )
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CloakifyError(f"{copy.parent}: {error.strerror or error}") from error
        copy_file(original, copy)


def _same_bytes(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    return all(a == b for a, b in zip(_chunks(one), _chunks(other), strict=False))


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror or error})") from error


def iter_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield ``graph`` and every graph in an attribute of its nodes, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from iter_graphs(attribute.g)
            elif attribute.type == AttributeProto.GRAPHS:
                for inner in attribute.graphs:
                    yield from iter_graphs(inner)


def iter_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every constant tensor: initializers and tensor attributes, functions included."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of(function.attribute_proto)
        for node in function.node:
            yield from _tensors_of(node.attribute)


def _tensors_of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _tensors_of(node.attribute)


def _tensors_of(attributes: Iterable[AttributeProto]) -> Iterator[TensorProto]:
    """Yield the tensors in attributes, at any depth."""
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for part in (*sparse, *attribute.sparse_tensors):
            yield from (part.values, part.indices)
        graphs = [attribute.g] if attribute.HasField("g") else []
        for graph in (*graphs, *attribute.graphs):
            yield from _tensors_of_graph(graph)


def _sidecar_names(model: ModelProto) -> set[str]:
    return {
        entry.value
        for tensor in iter_tensors(model)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
