"""IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST are published: arrays of numbers.

Two zeros, a code of the type, the number of axes, the size of each as four bytes, and the numbers,
the largest byte of each first (http://yann.lecun.com/exdb/mnist). Plain files are read in place;
what gzip has packed is unpacked once into a temporary file. Labels lie in a file beside the images,
which is called as they are.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cloakify.data.archive import Store, unpack
from cloakify.data.array_files import ArraySource, source_of
from cloakify.data.listing import entries
from cloakify.data.naming import shown
from cloakify.data.npy import StoredArray, wrong_size
from cloakify.data.request import Request
from cloakify.errors import DataError

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 8
# train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz, emnist-letters-test-images-idx3-ubyte.gz
_NAME = re.compile(r"(.*?)(images|labels)[-._]idx([1-4])[-._]ubyte(\.gz)?", re.IGNORECASE)


def is_idx(path: Path) -> bool:
    """Tell whether a file is an IDX file: by its name, or by what it begins with and its size."""
    if _NAME.fullmatch(path.name):
        return True
    try:
        return _array(*_head(path)) is not None
    except OSError:
        return False


def is_idx_images(name: str) -> bool:
    """Tell whether a file is called as images in IDX files are."""
    found = _NAME.fullmatch(name)
    return found is not None and found[2].lower() == "images"


def each_once(files: Sequence[Path]) -> list[Path]:
    """Leave out packed files beside what they unpack to, and copies by another spelling."""
    once = {_spelling(file.name): file for file in sorted(files, key=_is_packed, reverse=True)}
    return sorted(once.values())


def open_idx(path: Path, request: Request) -> ArraySource:
    """Open images, and the labels beside them where labels are asked for.

    Raises
    ------
    DataError
        There are no labels beside them, their numbers differ, or a file is damaged or cut short.
    """
    found = _NAME.fullmatch(path.name)
    if found is not None and found[2].lower() == "labels":
        images = shown(path.name.replace("labels", "images").replace("idx1", "idx3"))
        raise DataError(f"{shown(path)} holds labels: give the images ({images})")
    labels = None
    if request.labelled:
        request.refuse_label(shown(path))
        labels = read_idx(_labels_beside(path))
    return source_of(path, read_idx(path), labels)


def read_idx(path: Path) -> StoredArray:
    """Read the header of an IDX file.

    Raises
    ------
    DataError
        It is damaged or cut short, or unpacks to more than is believed.
    """
    where = shown(path)
    store = Store()
    stored: Path | BinaryIO = path if unpack(path, store) is None else store.file
    try:
        head, size = _head(stored)
    except OSError as error:
        raise DataError(f"{where} can't be read ({error.strerror}): check the file") from None
    found = _array(head)
    if found is None:
        raise DataError(f"{where} is no IDX file: fetch it again")
    shape, dtype, offset = found
    if size != offset + math.prod(shape) * dtype.itemsize:
        raise wrong_size(where, size - offset, shape, dtype)
    return StoredArray(where, shape, dtype, stored, offset, False)


def _head(stored: Path | BinaryIO) -> tuple[bytes, int]:
    """Return the first bytes of a file, and its size."""
    if isinstance(stored, Path):
        with open(stored, "rb") as file:
            return _head(file)
    size = stored.seek(0, io.SEEK_END)
    stored.seek(0)
    return stored.read(4 + 4 * _MOST_AXES), size


def _array(
    head: bytes, size: int | None = None
) -> tuple[tuple[int, ...], np.dtype[np.generic], int] | None:
    """Return shape, type and where the numbers begin; ``None`` of what is no IDX file.

    ``size`` is that of the whole file, where another size shows that it is none.
    """
    if len(head) < 8 or head[:2] != b"\0\0" or head[2] not in _TYPES:
        return None
    axes = head[3]
    offset = 4 + 4 * axes
    if not 1 <= axes <= _MOST_AXES or len(head) < offset:
        return None
    shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, offset, 4))
    dtype = np.dtype(_TYPES[head[2]])
    if size is not None and size != offset + math.prod(shape) * dtype.itemsize:
        return None
    return shape, dtype, offset


def _labels_beside(path: Path) -> Path:
    """Return the file of the labels of a file of images."""
    found = _NAME.fullmatch(path.name)
    wanted = None if found is None else _spelling(f"{found[1]}labels-idx1-ubyte")
    beside = [
        path.parent / entry.name
        for entry in entries(path.parent)
        if wanted is not None and _spelling(entry.name) == wanted
    ]
    if beside:
        return each_once(beside)[0]
    called = "file of labels" if found is None else shown(f"{found[1]}labels-idx1-ubyte")
    raise DataError(
        f"{shown(path)} has no {called} beside it: put it there, or give the labels by --labels "
        "FILE, or --labels model to take the model's own answers"
    )


def _spelling(name: str) -> str:
    return re.sub("[-._]", "-", name.lower().removesuffix(".gz"))


def _is_packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")
