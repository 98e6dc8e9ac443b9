"""Weights that stay where they lie on disk: a working copy names their place by an absolute path.

Read into a message, every copy of it would hold them again, protobuf's limits would count, and so
would each session's own copy. Mapped, all sessions of a process read the same pages, and the system
drops what it has no room for.

Files that are opened name no absolute paths outside their folder, so a tensor that does was mapped
here, or names the file that it would be mapped to.
"""

from __future__ import annotations

import math
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
from cloakify.onnxfile.sidecars import Place, check_claim, place_of, set_place, span
from cloakify.onnxfile.sizes import raw_size

# Bytes of all weights from which on they are mapped: below, copies of them are small beside what
# the programs themselves take. Tensors of fewer bytes than the second number are read all the same:
# they may be shapes and axes.
MAPPED_MODEL, MAPPED_TENSOR = 1 << 24, 1 << 16

Key = tuple[Any, ...]

# What is in use, by the file as it was: mappings, and values.
_files: WeakValueDictionary[Key, np.memmap[Any, np.dtype[np.uint8]]] = WeakValueDictionary()
_values: WeakValueDictionary[Key, NDArray[Any]] = WeakValueDictionary()
_opening = Lock()


def can_map(tensor: TensorProto) -> bool:
    """Tell whether a tensor in a sidecar is large, and of numbers that numpy has a type for."""
    return raw_size(tensor) >= MAPPED_TENSOR and is_plain(tensor)


def is_plain(tensor: TensorProto) -> bool:
    """Tell whether numpy has a number type for it: it has none for bfloat16, 4-bit integers, …"""
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return dtype.kind in "fiu" and dtype.isbuiltin == 1


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
    set_place(tensor, Place(str(sidecar.absolute()), start, end - start))


def is_mapped(tensor: TensorProto) -> bool:
    """Tell whether a tensor's values are to be read from the absolute place that it names."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return False
    return any(
        entry.key == "location" and os.path.isabs(entry.value) for entry in tensor.external_data
    )


def mapped_values(tensor: TensorProto) -> NDArray[Any]:
    """Return a mapped tensor's values, not to be written to; all that ask share them.

    They are the pages of its file, or where they begin between two numbers a copy: not every
    processor reads such.

    Raises
    ------
    ModelError
        The file is gone, or has become too short.
    """
    place = place_of(tensor)
    path, start = place.location, place.offset
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    with _opening:
        try:
            status = os.stat(path)
            if start + (place.length or 0) > status.st_size:
                raise ModelError(f"{path}: was cut short while it was in use; run it again")
            key = (path, status.st_ino, status.st_mtime_ns, start, dtype, shape)
            values = _values.get(key)
            if values is None:
                values = _read(path, start, dtype, shape, key[:3])
                _values[key] = values
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: can't be read ({error})") from error
        return values


def _read(
    path: str, start: int, dtype: np.dtype[Any], shape: tuple[int, ...], file: Key
) -> NDArray[Any]:
    count = math.prod(shape)
    if start % dtype.itemsize:
        return np.fromfile(path, dtype, count, offset=start).reshape(shape)
    whole = _files.get(file)
    if whole is None:
        # Written to by nobody; but the runtime takes no arrays that can't be.
        whole = np.memmap(path, np.uint8, mode="c")
        _files[file] = whole
    return whole[start : start + count * dtype.itemsize].view(dtype).reshape(shape)
