"""Weights that stay where they lie on disk: a working copy names their place by an absolute path.

Read into a message, every copy of it would hold them again, protobuf's limits would count, and so
would each session's own copy. Mapped, all sessions of a process read the same pages, and the system
drops what it has no room for.

Files that are opened name no absolute paths outside their folder, so a tensor that does was mapped
here, or names the file that it would be mapped to.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from cloakify.errors import ModelError
from cloakify.onnxfile.sidecars import check_claim, place_of, span

# Bytes of all weights in sidecars from which on they are mapped: below, a session's copy in the
# order in which the processor reads it fastest is worth its memory. Tensors of fewer bytes than the
# second number are read all the same: they may be shapes and axes.
MAPPED_MODEL, MAPPED_TENSOR = 1 << 30, 1 << 16

_files: WeakValueDictionary[tuple[str, int, int], np.memmap[Any, np.dtype[np.uint8]]] = (
    WeakValueDictionary()
)
_opening = Lock()


def can_map(tensor: TensorProto) -> bool:
    """Tell whether a tensor in a sidecar is large, and of numbers that numpy has a type for."""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    size = dtype.itemsize * int(np.prod(tensor.dims, dtype=np.float64))
    return size >= MAPPED_TENSOR and dtype.kind in "fiu" and dtype.isbuiltin == 1


def map_tensor(tensor: TensorProto, sidecar: Path) -> None:
    """Have a tensor name its place by an absolute path, in place.

    Raises
    ------
    ModelError
        The sidecar does not hold what the tensor's shape says.
    """
    check_claim(tensor, sidecar)
    start, end = span(place_of(tensor), sidecar)
    del tensor.external_data[:]
    place = {"location": str(sidecar.absolute()), "offset": str(start), "length": str(end - start)}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=value)


def is_mapped(tensor: TensorProto) -> bool:
    """Tell whether a tensor's values are to be read from the absolute place that it names."""
    return tensor.data_location == TensorProto.EXTERNAL and os.path.isabs(place_of(tensor).location)


def mapped_values(tensor: TensorProto) -> NDArray[Any]:
    """Return a mapped tensor's values: the pages of its file, not to be written to.

    Raises
    ------
    ModelError
        The file is gone, or has become too short.
    """
    place = place_of(tensor)
    whole = _mapped_file(place.location)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    part = whole[place.offset : place.offset + (place.length or 0)]
    if len(part) != place.length:
        raise ModelError(f"{place.location}: was cut short while it was in use; run it again")
    values = part.view(dtype).reshape(tuple(tensor.dims))
    # What begins between two numbers is copied: not every processor reads such.
    return values if values.flags.aligned else values.copy()


def _mapped_file(path: str) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return a file's bytes; all that ask for the same file share one mapping."""
    with _opening:
        try:
            status = os.stat(path)
            key = (path, status.st_ino, status.st_mtime_ns)
            found = _files.get(key)
            if found is None:
                # Written to by nobody; but the runtime takes no arrays that can't be.
                found = np.memmap(path, np.uint8, mode="c")
                _files[key] = found
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: can't be read ({error})") from error
        return found
