"""Files beside a model that hold its weights: where they may be, and what lies in them.

A model is anybody's, and names its sidecars itself. They must lie in its folder, also after links
are followed, with one exception: the cache of the Hugging Face hub keeps every file of a repository
in ``blobs/`` and links to it from ``snapshots/REVISION/``
(https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto

from cloakify.errors import ModelError
from cloakify.limits.stages import stored
from cloakify.onnxfile.sizes import raw_size

CHUNK = 1 << 20

# Bytes of a sidecar from which on no more than so many to one may be holes.
LARGEST_HOLE, MOST_SPARSE = 1 << 28, 100


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes lie: in which sidecar, from where on, and how many.

    ``length`` is ``None`` where they go on to the sidecar's end.
    """

    location: str
    offset: int
    length: int | None


def place_of(tensor: TensorProto) -> Place:
    """Read where a tensor with external data lies.

    Raises
    ------
    ModelError
        That is not said, or in no numbers.
    """
    said = {entry.key: entry.value for entry in tensor.external_data}
    try:
        length = said.get("length")
        place = Place(
            said["location"], int(said.get("offset", "0")), None if length is None else int(length)
        )
        if place.offset < 0 or (place.length or 0) < 0:
            raise ValueError("a negative number")
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"the tensor {tensor.name!r} lies outside the file, but where is not said rightly"
        ) from error
    return place


def set_place(tensor: TensorProto, place: Place) -> None:
    """Have a tensor say that its bytes lie there, in place; what else it says of them stays."""
    tensor.data_location = TensorProto.EXTERNAL
    said = {"location": place.location, "offset": place.offset, "length": place.length}
    for key, value in said.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def check_stored(sidecar: Path) -> None:
    """Refuse a file that is nearly all holes: a few blocks that claim to be gigabytes.

    Raises
    ------
    ModelError
        Says so.
    """
    size, held = sidecar.stat().st_size, stored([sidecar])
    if size > LARGEST_HOLE and size > MOST_SPARSE * held:
        raise ModelError(
            f"{sidecar}: claims {size / 1e9:.1f} GB of weights, of which the disk holds "
            f"{held} bytes; the rest are holes"
        )


def check_claim(tensor: TensorProto, sidecar: Path) -> None:
    """Refuse a tensor whose place in its sidecar does not hold what its shape says.

    Raises
    ------
    ModelError
        Says what the one has and the other needs.
    """
    place = place_of(tensor)
    start, end = span(place, sidecar)
    needed, size = raw_size(tensor), sidecar.stat().st_size
    if end > size or (place.length is None and end - start < needed):
        raise ModelError(
            f"{sidecar}: has {size} bytes, but {tensor.name!r} is said to lie at {start} with "
            f"{place.length or needed} bytes; is it cut short?"
        )
    if end - start != needed and place.length is not None:
        raise ModelError(
            f"{sidecar}: {tensor.name!r} is said to have {end - start} bytes there, and by its "
            f"shape it has {needed}"
        )


def read_tensor(tensor: TensorProto, sidecar: Path) -> None:
    """Read a tensor's bytes into it, in place.

    Raises
    ------
    ModelError
        The sidecar can't be read, or is shorter than the model says.
    """
    place = place_of(tensor)
    try:
        with open(sidecar, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            length = size - place.offset if place.length is None else place.length
            if length < 0 or place.offset + length > size:
                raise ModelError(
                    f"{sidecar}: has {size} bytes, but {tensor.name!r} is said to lie at "
                    f"{place.offset} with {place.length} bytes; is it cut short?"
                )
            file.seek(place.offset)
            tensor.raw_data = file.read(length)
    except OSError as error:
        raise ModelError(f"{sidecar}: can't be read ({error.strerror or error})") from error
    tensor.ClearField("data_location")
    tensor.ClearField("external_data")


def folder_of(model: Path, names: Sequence[str]) -> Path:
    """Return the folder that a model's sidecars are named from.

    That is the folder of the model as it was given; or, where it is a link and they are not there,
    the folder of what it links to.
    """
    if model.is_symlink() and not all(os.path.lexists(model.parent / name) for name in names):
        return model.resolve().parent
    return model.parent


def find_sidecar(model: Path, folder: Path, name: str) -> Path:
    """Return a sidecar's path, links followed.

    Raises
    ------
    ModelError
        It is missing, or lies where it must not.
    """
    said = f"{model}: its weights are said to be in {name!r}"
    try:
        root = folder.resolve()
        sidecar = (root / name).resolve()
        is_file = sidecar.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        # Names from the file are anybody's: too long, with a zero byte, through a loop of links.
        raise ModelError(f"{said}: {error}") from error
    named = Path(os.path.normpath(root / name))
    allowed = [root, *(_shared(root) if named.is_relative_to(root) else ())]
    if not any(sidecar.is_relative_to(place) for place in allowed):
        raise ModelError(f"{said}, outside its folder; move them there")
    if os.path.isabs(name):
        # It would be taken for weights that were mapped here.
        raise ModelError(f"{said}, an absolute path; ONNX wants one below the model's folder")
    if not is_file:
        raise ModelError(f"{said}, which is missing; copy it there, too")
    return sidecar


def span(place: Place, sidecar: Path) -> tuple[int, int]:
    """Return where in its sidecar a tensor's bytes begin, and where they end."""
    if place.length is not None:
        return place.offset, place.offset + place.length
    return place.offset, max(place.offset, sidecar.stat().st_size)


def chunks(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield a file's bytes, or those from ``start`` on up to ``end``.

    Raises
    ------
    ModelError
        It can't be read.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK if end is None else min(CHUNK, end - start)):
                start += len(chunk)
                yield chunk
    except OSError as error:
        raise ModelError(f"{path}: can't be read ({error.strerror or error})") from error


def sha256_of(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes.

    Raises
    ------
    ModelError
        It can't be read.
    """
    digest = hashlib.sha256()
    for chunk in chunks(path):
        digest.update(chunk)
    return digest.digest()


def _shared(folder: Path) -> Iterator[Path]:
    """Yield where links from a folder of the hub's cache lead: the snapshot, and the blobs."""
    for snapshot in (folder, *folder.parents):
        cache = snapshot.parent
        if cache.name == "snapshots" and (cache.parent / "blobs").is_dir():
            yield from (snapshot, cache.parent / "blobs")
            return
