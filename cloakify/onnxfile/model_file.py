"""Open ONNX files; weights that live in sidecar files stay there.

The message is loaded without its external weights, so a 10 GB model is edited without reading them.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from cloakify.errors import ModelError, UsageError
from cloakify.onnxfile.laid_aside import MESSAGE_LIMIT, lay_aside
from cloakify.onnxfile.mapped import MAPPED_MODEL, can_map, is_mapped, map_tensor
from cloakify.onnxfile.order import put_in_order
from cloakify.onnxfile.other_formats import other_format
from cloakify.onnxfile.sidecars import (
    check_claim,
    check_stored,
    find_sidecar,
    folder_of,
    place_of,
    read_tensor,
    sha256_of,
)
from cloakify.onnxfile.sizes import raw_size
from cloakify.onnxfile.walk import iter_tensors
from cloakify.onnxfile.wellformed import check_well_formed

# One letter is a drive of Windows.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

# Integers of a constant that an analysis may have to read; more of them are a table.
FEW_INTEGERS = 1 << 12
INTEGERS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL})

# Element types of real numbers, and of those of 16 bits.
HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
FLOATS = HALVES | {TensorProto.FLOAT, TensorProto.DOUBLE}


State = tuple[int, ...]


@dataclass(frozen=True)
class Opened:
    """What a file and its sidecars were when they were opened.

    Attributes
    ----------
    digest
        SHA-256 of the message's bytes, to be copied before it is gone on with.
    states
        Of the file and each sidecar, in their order: see :func:`state_of`.
    """

    digest: hashlib._Hash
    states: tuple[State | None, ...]


def state_of(path: Path) -> State | None:
    """Return what tells a file from what is written in its place; ``None`` where it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class OnnxFile:
    """An opened `.onnx` file.

    Attributes
    ----------
    path
        Where it was read from.
    model
        The message; tensors with external data hold only their location, as do those of many
        weights in the file itself (:mod:`~cloakify.onnxfile.laid_aside`).
    sidecars
        Names of the external data files, relative to ``folder``, sorted.
    folder
        Where the sidecars lie: as a rule the folder of ``path``.
    content
        The message as bytes where it is not what ``path`` holds: a mask was taken out of it.
    opened
        What the files were when they were opened.
    reordered
        Whether the file has nodes in another order than that of computation, which ``model`` has.
    """

    path: Path
    model: ModelProto
    sidecars: tuple[str, ...]
    folder: Path
    content: bytes | None = None
    opened: Opened | None = None
    reordered: bool = False

    @property
    def files(self) -> list[Path]:
        """The file and its sidecars."""
        return [self.path, *map(self.sidecar, self.sidecars)]

    def sidecar(self, name: str) -> Path:
        """Return where a sidecar lies."""
        return self.folder / name

    @property
    def sha256(self) -> str:
        """SHA-256 of the file's bytes and then of each sidecar's own SHA-256, by their names."""
        if self.content is None and self.opened is not None:
            digest = self.opened.digest.copy()
        else:
            digest = hashlib.sha256(self.content or b"")
        for name in self.sidecars:
            # Of the sidecars' bytes in a row nobody could tell where one ends.
            digest.update(self.digests[name])
        return digest.hexdigest()

    @cached_property
    def digests(self) -> dict[str, bytes]:
        """SHA-256 of each sidecar's bytes, by its name, as they were when first asked for."""
        return {name: sha256_of(self.sidecar(name)) for name in self.sidecars}

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
        return self._with(_is_small_outside)

    def check_unchanged(self) -> None:
        """Raise ModelError where a file is not what it was when it was opened.

        Weights may have been read at any time since.
        """
        if self.opened is None:
            return
        for path, state in zip(self.files, self.opened.states, strict=True):
            if state_of(path) == state:
                continue
            # Somebody may have touched it, or put the same there again.
            same = path == self.path and sha256_of(path) == self.opened.digest.digest()
            if not same:
                raise ModelError(f"{path}: was changed while it was in use; run it again")

    def load_weights(self) -> ModelProto:
        """Return a copy of the model to work with: external weights read, or mapped if many.

        It is not to be saved: it names the place of mapped ones on this machine.

        Raises
        ------
        ModelError
            A sidecar is shorter than the model says.
        """
        return self._with(is_outside, mapping=True)

    def load_some(self, names: Collection[str]) -> ModelProto:
        """Return the model with the external weights of these names read into a copy of it.

        Raises
        ------
        ModelError
            A sidecar is shorter than the model says.
        """
        return self._with(lambda tensor: is_outside(tensor) and tensor.name in names)

    def _with(self, wanted: Callable[[TensorProto], bool], *, mapping: bool = False) -> ModelProto:
        if not any(map(wanted, iter_tensors(self.model))):
            return self.model
        model = ModelProto()
        model.CopyFrom(self.model)
        # The runtime takes weights from elsewhere for the main graph alone.
        outside = [t for t in model.graph.initializer if is_outside(t) and not is_mapped(t)]
        if not mapping or sum(map(raw_size, outside)) < MAPPED_MODEL:
            outside = []
        for tensor in filter(can_map, outside):
            map_tensor(tensor, self.sidecar(place_of(tensor).location))
        for tensor in filter(wanted, iter_tensors(model)):
            if mapping and is_mapped(tensor):
                continue
            try:
                read_tensor(tensor, self.sidecar(place_of(tensor).location))
            except ModelError as error:
                raise ModelError(f"{self.path}: its weights can't be read: {error}") from error
        return model


def is_outside(tensor: TensorProto) -> bool:
    """Tell whether a tensor's values lie in a sidecar."""
    return tensor.data_location == TensorProto.EXTERNAL


def _is_small_outside(tensor: TensorProto) -> bool:
    """Tell whether a sidecar holds a single number, or integers that may be axes or indices."""
    most = FEW_INTEGERS if tensor.data_type in INTEGERS else 1
    return is_outside(tensor) and math.prod(tensor.dims) <= most


def open_model(path: str | os.PathLike[str]) -> OnnxFile:
    """Read an ONNX file without its external weights.

    Parameters
    ----------
    path
        The file, or a folder with one: `model.onnx` in it or in its `onnx/`, or the only one there.

    Raises
    ------
    ModelError
        The file is missing, is no ONNX model, or names a sidecar that is missing or lies outside
        the model's folder; or its nodes have no order of computation.
    """
    place = find_model_file(Path(path))
    # A device or a pipe need never end.
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise ModelError(f"{place}: is no regular file; save the model to one")
    try:
        if place.stat().st_size > MESSAGE_LIMIT:
            raise ModelError(f"{place}: is over 2 GiB, which no ONNX message is; is it a sidecar?")
        # Before it is read: what is written meanwhile is to be noticed.
        state = state_of(place)
        # Read as bytes: onnx.load would guess a text format from an unusual suffix.
        content = place.read_bytes()
        digest = hashlib.sha256(content)
        model = onnx.load_model_from_string(content)
    except OSError as error:
        raise ModelError(f"{place}: can't be read ({error.strerror or error})") from error
    except DecodeError as error:
        raise _no_model(place, content, "its bytes are no ModelProto") from error
    if not model.HasField("graph") or not model.graph.node or not model.opset_import:
        raise _no_model(place, content, "it has no graph or no opset")
    del content
    try:
        check_well_formed(model)
        reordered = put_in_order(model)
    except ModelError as error:
        raise ModelError(f"{place}: {error}") from error
    sidecars = tuple(sorted(_sidecar_names(model)))
    folder = folder_of(place, sidecars)
    paths = {name: find_sidecar(place, folder, name) for name in sidecars}
    states = (state, *map(state_of, paths.values()))
    for sidecar in paths.values():
        check_stored(sidecar)
    for tensor in filter(is_outside, iter_tensors(model)):
        check_claim(tensor, paths[place_of(tensor).location])
    opened = Opened(digest, states)
    laid = lay_aside(model, place)
    return OnnxFile(place, laid, sidecars, folder, opened=opened, reordered=reordered)


def _no_model(path: Path, content: bytes, lacking: str) -> ModelError:
    """Return the error for a file that is none, by what it is, or else by what it lacks."""
    other = other_format(content, path.name)
    what = f", but {other}" if other else f" ({lacking})"
    return ModelError(f"{path}: is not an ONNX model{what}")


def path_of(model: object) -> Path:
    """Return the path that a caller gives for a model.

    Raises
    ------
    UsageError
        It is none: a model in memory, of whatever framework.
    """
    if not isinstance(model, str | os.PathLike):
        raise UsageError(
            f"a model is the path of its .onnx file, not {type(model).__name__}: export or save it "
            "to one"
        )
    return Path(model)


def find_model_file(path: Path) -> Path:
    """Return a model's file: the path itself, or the one in a folder as model repositories have it.

    Raises
    ------
    ModelError
        A folder holds no `.onnx` file, or several and none of them is called `model.onnx`; or it is
        no path, but a URL.
    """
    if not path.is_dir():
        # A path has lost one of its slashes.
        if _URL.match(str(path)) and not path.exists():
            raise ModelError(
                f"{path}: looks like a URL, and models are opened from files: download it, and "
                "what lies beside it"
            )
        return path
    files: list[Path] = []
    for folder in (path, path / "onnx"):
        if (folder / "model.onnx").is_file():
            return folder / "model.onnx"
        if folder.is_dir():
            files += sorted(
                file
                for file in folder.iterdir()
                if file.suffix == ".onnx" and ".hardened" not in file.name and file.is_file()
            )
    if len(files) == 1:
        return files[0]
    listed = ", ".join(file.name for file in files[:3])
    if files:
        raise ModelError(f"{path}: holds {len(files)} models ({listed}, …): name the file")
    raise ModelError(f"{path}: is a folder without an .onnx file in it or in its onnx/")


def _sidecar_names(model: ModelProto) -> set[str]:
    return {place_of(tensor).location for tensor in iter_tensors(model) if is_outside(tensor)}
