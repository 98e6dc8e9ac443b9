"""Formats that are not read, by name: what a file seems to be, and how to make of it what is.

A file is known by its first bytes, else by its ending; no more of it is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cloakify.data.naming import shown, some
from cloakify.errors import DataError
from cloakify.settings.endings import COLUMNS, COMPRESSED, PLAIN_TABLES

# What is to be made of arrays and of tables: of data, and of a list of labels.
_ARRAYS, _COLUMNS = "{arrays}", "{table}"
_OF_DATA = {
    _ARRAYS: (
        "save x and y by numpy.savez, or give a function that yields them (--data load.py:samples)"
    ),
    _COLUMNS: ".csv (with a header) or .parquet",
}
_OF_LABELS = {
    _ARRAYS: "save the labels by numpy.save, or as a .csv of names and labels",
    _COLUMNS: ".csv",
}
_UNPACK = "unpack it, and give the folder or file"
_TABLE = f"save it as {_COLUMNS}"

# By what files begin with; the longer first where one begins with another.
_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89HDF\r\n\x1a\n", "HDF5", f"read it by h5py, and {_ARRAYS}"),
    (
        b"MATLAB 5.0",
        "a MATLAB file",
        f"read it by scipy.io.loadmat, bring the samples' axis to the front, count classes from 0 "
        f"on, and {_ARRAYS}",
    ),
    (b"SQLite format 3\0", "a SQLite database", _TABLE),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"BZh", "packed by bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "packed by xz", _UNPACK),
)
_PICKLE = (
    "a Python pickle",
    f"loading one runs code, which cloakify never does; where you trust it, load it, and {_ARRAYS}",
)
# The Python versions of CIFAR-10 and CIFAR-100.
_CIFAR = re.compile(r"data_batch_\d|test_batch|batches\.meta|train|test|meta")
_CIFAR_PICKLE = (
    _PICKLE[0],
    "loading one runs code, which cloakify never does; take CIFAR's binary version, which is read, "
    f"or, where you trust this one, load it, and {_ARRAYS}",
)
_TORCH = (
    "saved by torch",
    "such files are pickles, and loading one may run code; load it by torch.load(…, "
    f"weights_only=True), and {_ARRAYS}",
)
_ENDINGS: dict[str, tuple[str, str]] = {
    **dict.fromkeys((".pt", ".pth"), _TORCH),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), _PICKLE),
    **dict.fromkeys((".h5", ".hdf5"), _STARTS[0][1:]),
    ".mat": _STARTS[1][1:],
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("a spreadsheet", _TABLE)),
    ".arff": ("ARFF", f"read it by scipy.io.arff.loadarff, and {_TABLE}"),
    **dict.fromkeys(
        (".svmlight", ".libsvm", ".svm"),
        (
            "in svmlight's format",
            f"read it by sklearn.datasets.load_svmlight_file, make x dense, and {_ARRAYS}",
        ),
    ),
    ".safetensors": ("safetensors", f"read it by safetensors.numpy.load_file, and {_ARRAYS}"),
    ".tfrecord": ("TFRecord", f"read it by tf.data.TFRecordDataset, and {_ARRAYS}"),
    **dict.fromkeys(
        (".mdb", ".lmdb"), ("an LMDB database", f"read it by the package lmdb, and {_ARRAYS}")
    ),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"),
        (
            "a video",
            "take frames of it (ffmpeg writes them as .png) into the folders of their classes",
        ),
    ),
    ".zip": ("a zip archive", "give it itself, or what it unpacks to"),
    ".gz": ("packed by gzip", _UNPACK),
    ".json": ("one JSON value", "write an object a line, as .jsonl, or a table as .csv"),
    **dict.fromkeys(
        (".txt", ".data", ".dat"), ("text", "call it .csv if it is a table with a header")
    ),
    **dict.fromkeys(
        (".avif", ".heic", ".heif", ".jp2", ".jxl", ".svg", ".ico", ".tga", ".psd", ".dcm", ".exr"),
        ("an image in a format that is not decoded", "convert it to .png"),
    ),
}


START = 16
"""Bytes of a file that are looked at."""

ANYWHERE = (".txt", ".data", ".dat", ".json")
"""Endings of notes that lie beside anything."""


def described(path: Path) -> tuple[str, str] | None:
    """Return what a file is, and what to do with it; ``None`` where it is not known.

    Parameters
    ----------
    path
        A regular file.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except OSError:
        start = b""
    return described_by(path, start)


def described_by(
    path: Path, start: bytes, made: Mapping[str, str] = MappingProxyType(_OF_DATA)
) -> tuple[str, str] | None:
    """Return the same of a file that is called ``path`` and begins with these :data:`START` bytes.

    ``made`` says what is to be made of arrays and tables.
    """
    known = _known(path, start)
    if known is None:
        return None
    what, todo = known
    for place, text in made.items():
        todo = todo.replace(place, text)
    return what, todo


def _known(path: Path, start: bytes) -> tuple[str, str] | None:
    for begins, what, todo in _STARTS:
        if start.startswith(begins):
            return what, todo
    ending = path.suffix.lower()
    if start[:2] == b"\x1f\x8b":
        return _ENDINGS[".gz"]
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    if start[:4] == b"PK\x03\x04":
        return _ENDINGS[".zip"]
    # Of protocols 2 to 5.
    if len(start) > 1 and start[0] == 0x80 and 2 <= start[1] <= 5:
        return _CIFAR_PICKLE if _CIFAR.fullmatch(path.name) else _PICKLE
    return _ENDINGS[".tfrecord"] if ".tfrecord" in path.name.lower() else None


def not_read(path: Path) -> DataError:
    """Return the error for a file that is no data."""
    known = described(path)
    if known is not None:
        what, todo = known
        return DataError(f"{shown(path)} is {what}, which is not read: {todo}")
    if path.suffix == ".py":
        name = shown(path)
        return DataError(f"{name} is a program: {name}:FUNCTION runs a function that yields (x, y)")
    return DataError(
        f"{shown(path)} is no data that cloakify reads: give a folder of class folders with "
        "images, a .npz, .npy, .csv, .jsonl, .zip, .tar, .tar.gz, .parquet or .arrow file"
    )


def no_list(path: Path) -> DataError | None:
    """Return the error for a file that is no list of labels; ``None`` where it may be one."""
    kind = path.suffix.lower()
    if kind in (*ANYWHERE, *COMPRESSED, *PLAIN_TABLES):
        return None
    if kind in COLUMNS:
        return DataError(f"{shown(path)} is no list of labels that is read: save it as .csv")
    try:
        with open(path, "rb") as file:
            known = described_by(path, file.read(START), _OF_LABELS)
    except OSError as error:
        return DataError(f"{shown(path)} can't be read ({error.strerror})")
    if known is None:
        return None
    return DataError(f"{shown(path)} is {known[0]}, and no list of labels: {known[1]}")


def instead_of_images(folder: Path, names: list[str]) -> str:
    """Return what a folder's files are, for the error that there are no images, or nothing.

    Parameters
    ----------
    folder
        The folder.
    names
        Some of its files, the likeliest first.
    """
    archives = [name for name in names if name.lower().endswith(".zip")]
    if len(archives) > 1:
        return (
            f"; it holds archives ({some(archives)}): give one of them, or, if they are parts of "
            f"one data set, '{shown(folder / '*.zip')}'"
        )
    for name in names:
        path = folder / name
        known = described(path) if path.is_file() else None
        if known is not None and path.suffix.lower() not in ANYWHERE:
            return f"; {shown(name)} is {known[0]}: {known[1]}"
    return ""
