"""Write an edited model: one file, and its sidecars as copies beside it.

Nothing of the sidecars is read into memory. They are copied, never linked (onnx refuses links), and
called after the output and their content; only beside its source an output shares the source's.
Weights that were edited are put into the copy where they lay.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path

from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto

from cloakify.errors import CloakifyError, ModelError
from cloakify.onnxfile.atomic import Part
from cloakify.onnxfile.laid_aside import bytes_of
from cloakify.onnxfile.mapped import is_mapped
from cloakify.onnxfile.model_file import OnnxFile, is_outside
from cloakify.onnxfile.places import check_places
from cloakify.onnxfile.publish import holds, publish, sidecar_name
from cloakify.onnxfile.sidecars import chunks, find_sidecar, place_of, sha256_of, span
from cloakify.onnxfile.walk import iter_tensors

# By sidecar, bytes to write into its copy and where.
Changes = dict[str, dict[int, bytes]]


def save_model(model: ModelProto, path: str | os.PathLike[str], source: OnnxFile) -> bytes:
    """Write ``model`` to ``path``, whole or not at all, with the sidecars of ``source`` beside it.

    Equal messages give equal bytes. An old file at ``path`` is replaced in one step, whatever its
    sidecars were, and no other file is.

    Parameters
    ----------
    model
        An edit of the source's message. Initializers that lie in sidecars there and hold their
        values here have been edited.

    Returns
    -------
    bytes
        SHA-256 of the file that was written, which another may have replaced since.

    Raises
    ------
    CloakifyError
        As :func:`~cloakify.onnxfile.places.check_places`; or the message is over protobuf's 2 GiB.
    ModelError
        The source or its sidecars can't be read any more, or have changed.
    """
    target = Path(path)
    check_places([target], source.files)
    for name in source.sidecars:
        find_sidecar(source.path, source.folder, name)
    source.check_unchanged()
    message, changes = _take_out(model, source)
    with ExitStack() as parts:
        names: dict[str, str] = {}
        made: dict[str, Part | None] = {}
        for name in source.sidecars:
            if name not in changes and _is_shared(source, name, target):
                names[name] = name
                continue
            names[name], part = _copy(source, name, target, changes.get(name, {}), parts)
            # Sidecars of one content are one file.
            made[names[name]] = made.get(names[name]) or part
        whole = parts.enter_context(Part(target))
        _write(_renamed(message, names), whole, target)
        whole.finish()
        digest = sha256_of(whole.path)
        publish(whole, made)
    return digest


def _take_out(model: ModelProto, source: OnnxFile) -> tuple[ModelProto, Changes]:
    """Put references back in the place of edited weights that lay in sidecars."""
    outside = {
        tensor.name: tensor for tensor in source.model.graph.initializer if _is_beside(tensor)
    }
    changes: Changes = {}
    if all(tensor.name not in outside or is_outside(tensor) for tensor in model.graph.initializer):
        return model, changes
    message = ModelProto()
    message.CopyFrom(model)
    for tensor in message.graph.initializer:
        reference = outside.get(tensor.name)
        if reference is None or is_outside(tensor):
            continue
        place = place_of(reference)
        changes.setdefault(place.location, {})[place.offset] = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.extend(reference.external_data)
    return message, changes


def _is_shared(source: OnnxFile, name: str, target: Path) -> bool:
    """Tell whether an output beside its source may name the source's own sidecar.

    Not where that is a link, or has several names: onnx would refuse the output.
    """
    sidecar = source.sidecar(name)
    plain = sidecar.absolute() == sidecar.resolve() and sidecar.stat().st_nlink == 1
    return plain and target.parent.samefile(source.folder)


def _copy(
    source: OnnxFile, name: str, target: Path, changes: Mapping[int, bytes], parts: ExitStack
) -> tuple[str, Part | None]:
    """Return what a sidecar is called beside the target, and its copy where there is none yet."""
    original = source.sidecar(name)
    if not changes:
        called = sidecar_name(target, source.digests[name])
        if holds(target.parent / called, source.digests[name]):
            return called, None
    part = parts.enter_context(Part(target))
    for chunk in chunks(original):
        part.file.write(chunk)
    for offset, data in changes.items():
        part.file.seek(offset)
        part.file.write(data)
    part.finish()
    digest = sha256_of(part.path)
    if not changes and digest != source.digests[name]:
        raise ModelError(f"{original}: was changed while it was in use; run it again")
    return sidecar_name(target, digest), part


def check_apart(source: OnnxFile, names: Collection[str]) -> None:
    """Refuse to edit initializers in a sidecar whose bytes other tensors read too.

    Raises
    ------
    ModelError
        There is one.
    """
    shared = find_shared(source, names)
    if shared is not None:
        raise ModelError(f"{source.path}: {shared}, so one can't be changed alone; use --emit mul")


def find_shared(file: OnnxFile, names: Collection[str]) -> str | None:
    """Say which of some initializers shares bytes of a sidecar with another tensor, if one does."""
    # (sidecar, first byte, byte behind the last, is one of them, name)
    lying = []
    for tensor in filter(is_outside, iter_tensors(file.model)):
        location = place_of(tensor).location
        between = span(place_of(tensor), file.sidecar(location))
        lying.append((location, *between, tensor.name in names, tensor.name))
    lying.sort()
    reach: dict[tuple[str, bool], tuple[int, str]] = {}
    for location, start, end, edited, name in lying:
        for other in (True, False) if edited else (True,):
            last, neighbour = reach.get((location, other), (0, ""))
            if start < last:
                return (
                    f"the weights {name!r} and {neighbour!r} lie in the same bytes of {location!r}"
                )
        reach[location, edited] = max(reach.get((location, edited), (0, "")), (end, name))
    return None


def _renamed(message: ModelProto, names: Mapping[str, str]) -> ModelProto:
    """Return the message with the sidecars' new names in it."""
    if all(old == new for old, new in names.items()):
        return message
    renamed = ModelProto()
    renamed.CopyFrom(message)
    for tensor in filter(_is_beside, iter_tensors(renamed)):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = names[entry.value]
    return renamed


def _is_beside(tensor: TensorProto) -> bool:
    """Tell whether a tensor's values lie in a sidecar, and not in the model's own file."""
    return is_outside(tensor) and not is_mapped(tensor)


def _write(message: ModelProto, part: Part, target: Path) -> None:
    try:
        for piece in bytes_of(message):
            part.file.write(piece)
    except (EncodeError, ValueError) as error:
        raise CloakifyError(f"{target}: the model is over protobuf's limit of 2 GiB") from error
