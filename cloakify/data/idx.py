"""IDX files, as MNIST, Fashion-MNIST, KMNIST, QMNIST and EMNIST are published: arrays of numbers.

Two zeros, a code of the type, the number of axes, the size of each as four bytes, and the numbers,
the largest byte of each first (http://yann.lecun.com/exdb/mnist). Plain files are read in place;
what is compressed is unpacked once into a temporary file. Labels lie in a file beside the images,
which is called as they are; QMNIST's say more of each sample than its class.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cloakify.data.archive import Store, unpack
from cloakify.data.array_files import ArraySource, read_labels_of, source_of
from cloakify.data.labels import labels_of_numbers
from cloakify.data.listing import entries
from cloakify.data.naming import shown
from cloakify.data.npy import StoredArray, wrong_size
from cloakify.data.request import Request
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels
from cloakify.settings.endings import COMPRESSED

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 8
# train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz, emnist-letters-test-images-idx3-ubyte.gz,
# qmnist-test-labels-idx2-int.gz
_NAME = re.compile(
    r"(.*?)(images|labels)[-._]idx([1-4])[-._](ubyte|int)(\.(gz|bz2|xz|zst))?", re.IGNORECASE
)
# Columns of QMNIST's labels, of which the first is the class; the others say whose hand a digit is
# of, and which one (https://github.com/facebookresearch/qmnist, 2.2).
_OF_QMNIST = 8


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
    match = _NAME.fullmatch(name)
    return match is not None and match[2].lower() == "images"


def each_once(files: Sequence[Path]) -> list[Path]:
    """Leave out packed files beside what they unpack to, and copies by another spelling."""
    once = {_spelling(file.name): file for file in sorted(files, key=_is_compressed, reverse=True)}
    return sorted(once.values())


def open_idx(path: Path, request: Request) -> ArraySource:
    """Open images, and the labels beside them where labels are asked for.

    Raises
    ------
    DataError
        There are no labels beside them, their numbers differ, or a file is damaged or cut short.
    """
    match = _NAME.fullmatch(path.name)
    if match is not None and match[2].lower() == "labels":
        images = shown(path.name.replace("labels", "images").replace("idx1", "idx3"))
        raise DataError(f"{shown(path)} holds labels: give the images ({images})")
    labels = None
    if request.labelled:
        request.refuse_label(shown(path))
        labels = read_idx(_labels_beside(path))
    source = source_of(path, read_idx(path), labels, labels_in)
    if "emnist" in path.name.lower():
        source.notes = (
            *source.notes,
            f"{shown(path)}: EMNIST's pictures lie transposed, and are taken as they lie, as "
            "torchvision and TensorFlow's data sets give them",
        )
    return source


def labels_in(array: StoredArray) -> tuple[Labels, tuple[str, ...] | None]:
    """Read labels from the array of an IDX file, which may be QMNIST's.

    Raises
    ------
    DataError
        It holds none.
    """
    if array.dtype == ">i4" and array.shape[1:] == (_OF_QMNIST,):
        # Of independent labels, which there could be as many of, all are 0 or 1.
        columns = array.mapped()
        if (columns.max(axis=0) > 1).any():
            return labels_of_numbers(np.array(columns[:, 0]), array.where), None
    return read_labels_of(array)


def goes_with(images: str, other: str) -> bool:
    """Tell whether one file is called as the labels of another one are."""
    own, beside = (_NAME.fullmatch(name) for name in (images, other))
    if own is None or beside is None:
        return False
    kinds = own[2].lower(), beside[2].lower()
    return kinds == ("images", "labels") and _spelling(own[1]) == _spelling(beside[1])


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
    header = _array(head)
    if header is None:
        raise DataError(f"{where} is no IDX file: fetch it again")
    shape, dtype, offset = header
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
    match = _NAME.fullmatch(path.name)
    beside = [
        path.parent / entry.name
        for entry in entries(path.parent)
        if goes_with(path.name, entry.name)
    ]
    if beside:
        return each_once(beside)[0]
    called = "file of labels" if match is None else shown(f"{match[1]}labels-idx1-ubyte")
    raise DataError(
        f"{shown(path)} has no {called} beside it: put it there, or give the labels by --labels "
        "FILE, or --labels model to take the model's own answers"
    )


def _spelling(name: str) -> str:
    lowered = name.lower()
    stem, kind = os.path.splitext(lowered)
    return re.sub("[-._]", "-", stem if kind in COMPRESSED else lowered)


def _is_compressed(path: Path) -> bool:
    return path.name.lower().endswith(COMPRESSED)
