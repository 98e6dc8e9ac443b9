"""The proof that external weights are the same bytes, whatever the files with them are called."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from onnx import ModelProto, TensorProto

from cloakify.onnxfile import OnnxFile
from cloakify.onnxfile.mapped import is_mapped
from cloakify.onnxfile.model_file import is_outside
from cloakify.onnxfile.save import find_shared
from cloakify.onnxfile.sidecars import chunks, place_of, span
from cloakify.onnxfile.walk import iter_tensors


def align_sidecars(
    source: OnnxFile, hardened: OnnxFile, edited: Collection[str] = ()
) -> tuple[ModelProto, list[str]]:
    """Return the hardened model with the source's names of sidecars in it, and what differs there.

    Parameters
    ----------
    edited
        Names of initializers that were edited. They are read into the model, for whoever knows
        what they must be; in the sidecars their bytes are passed over.
    """
    model = ModelProto()
    model.CopyFrom(hardened.load_some(edited))
    ours, theirs = _outside(source.model), _outside(hardened.model)
    if len(ours) != len(theirs):
        return model, [
            f"external weights are in {list(hardened.sidecars)}, not {list(source.sidecars)}"
        ]
    # Otherwise what is passed over would be another weight's, too.
    shared = [text for file in (source, hardened) if (text := find_shared(file, edited))]
    if shared:
        return model, shared[:1]
    # Those of edited weights, too: there are bytes that no weight reads.
    pairs = [
        (place_of(our).location, place_of(their).location)
        for our, their in zip(ours, theirs, strict=True)
    ]
    differ = dict.fromkeys(
        ours
        for ours, theirs in dict.fromkeys(pairs)
        if _digest(source, ours, edited) != _digest(hardened, theirs, edited)
    )
    left = [pair for pair, their in zip(pairs, theirs, strict=True) if their.name not in edited]
    for (location, _), tensor in zip(left, _outside(model), strict=True):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    return model, [f"the external weights in {location!r} differ" for location in differ]


def _outside(model: ModelProto) -> list[TensorProto]:
    return [t for t in iter_tensors(model) if is_outside(t) and not is_mapped(t)]


def _digest(file: OnnxFile, location: str, edited: Collection[str]) -> bytes:
    """Return the SHA-256 of a sidecar's bytes; of one that was edited, without what was."""
    sidecar = file.sidecar(location)
    passed = sorted(
        span(place_of(tensor), sidecar)
        for tensor in iter_tensors(file.model)
        if is_outside(tensor) and tensor.name in edited and place_of(tensor).location == location
    )
    if not passed:
        return file.digests[location]
    digest = hashlib.sha256(repr(passed).encode())
    at = 0
    for start, end in passed:
        for chunk in chunks(sidecar, at, max(at, start)):
            digest.update(chunk)
        at = max(at, end)
    for chunk in chunks(sidecar, at):
        digest.update(chunk)
    return digest.digest()
