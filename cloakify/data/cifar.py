"""CIFAR-10's and CIFAR-100's binary versions: of each sample its labels, and its pixels, as bytes.

Files of CIFAR-10 (`data_batch_1.bin` to `data_batch_5.bin`, `test_batch.bin`) have a byte for the
class, those of CIFAR-100 (`train.bin`, `test.bin`) one for the coarse class before it; then come
32×32 of red, of green, and of blue (https://www.cs.toronto.edu/~kriz/cifar.html). They have no
header: names and sizes tell them.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.array_files import ArraySource
from cloakify.data.bounds import check_count
from cloakify.data.labels import labels_of_numbers
from cloakify.data.naming import shown
from cloakify.data.npy import StoredArray
from cloakify.data.request import Request
from cloakify.data.text_files import opened_text
from cloakify.errors import DataError
from cloakify.onnxfile import parse_names

_SAMPLE = (3, 32, 32)
_PIXELS = math.prod(_SAMPLE)
_TEN = re.compile(r"(data_batch_\d|test_batch)\.bin", re.IGNORECASE)
_HUNDRED = re.compile(r"(train|test)\.bin", re.IGNORECASE)
# What the labels of each are called, the file that names the classes, and how many there are.
_OF_TEN = (("label",), "batches.meta.txt", 10)
_OF_HUNDRED = (("coarse_label", "fine_label"), "{}_names.txt", 100)
# Characters of a file of names.
_LONGEST = 1 << 14


class _Records(ArraySource):
    """Pixels behind labels."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return _SAMPLE

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        return self._x.take(rows)[:, -_PIXELS:].reshape(-1, *_SAMPLE)


def is_cifar(name: str) -> bool:
    """Tell whether a file is called as one of them is."""
    return bool(_TEN.fullmatch(name) or _HUNDRED.fullmatch(name))


def open_cifar(path: Path, request: Request) -> ArraySource:
    """Open one file; uint8 [n, 3, 32, 32].

    Of CIFAR-100 labels are the fine ones, or those that are asked for by ``coarse_label``.

    Raises
    ------
    DataError
        It has not the size that samples make, or a label is no class.
    """
    fields, names, classes = _OF_TEN if _TEN.fullmatch(path.name) else _OF_HUNDRED
    where, size = shown(path), os.path.getsize(path)
    width = len(fields) + _PIXELS
    if size % width:
        raise DataError(
            f"{where} has {size} bytes, and samples as the binary version of CIFAR-{classes} has "
            f"them take {width} each: fetch it again, or, if it is something else, save x and y by "
            "numpy.savez"
        )
    check_count(size // width, where)
    stored = StoredArray(where, (size // width, width), np.dtype(np.uint8), path, 0, False)
    if not request.labelled:
        return _Records(path, stored, None)
    field = fields[-1] if request.label is None else request.label_of(list(fields), where)
    assert field is not None
    labels = labels_of_numbers(np.array(stored.mapped()[:, fields.index(field)]), where)
    if labels.max() >= classes:
        row = int(labels.argmax())
        raise DataError(
            f"{where} row {row} has label {labels[row]}, which no class of CIFAR-{classes} is: "
            "fetch it again, or, if it is something else, save x and y by numpy.savez"
        )
    beside = path.parent / names.format(field)
    return _Records(path, stored, labels, _names(beside, labels))


def _names(path: Path, labels: NDArray[np.int64]) -> tuple[str, ...] | None:
    """Return the classes' names, where a file beside the samples tells them."""
    if not path.is_file():
        return None
    with opened_text(path) as file:
        names = parse_names(file.read(_LONGEST).strip())
    return names if names is not None and labels.max() < len(names) else None
