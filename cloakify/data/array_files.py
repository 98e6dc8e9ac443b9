"""Arrays of samples: ``.npz``, ``.npy``, or a folder with ``x.npy`` and ``y.npy``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_count
from cloakify.data.joined import with_others
from cloakify.data.labels import label_name, labels_of_numbers, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.npy import NpzFile, StoredArray, open_npy
from cloakify.data.request import Request
from cloakify.data.source import RowSource
from cloakify.data.split_names import SPLITS, preferred, split_of
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels

INDEX = "index"
"""Name of the array that tells which rows or files of other data the samples belong to."""


class ArraySource(RowSource):
    """Rows of one stored array."""

    def __init__(
        self,
        path: Path,
        x: StoredArray,
        labels: Labels | None,
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__(path, labels, class_names)
        self._x = x

    def __len__(self) -> int:
        return self._x.shape[0]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return self._x.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return self._x.dtype

    def where(self, row: int) -> str:
        return f"{self._x.where} row {row}"

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        return self._x.take(rows)


class _NpyFolder:
    """The arrays of a folder of ``.npy`` files, by name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """The arrays' names, sorted."""
        return sorted(file.stem for file in self._path.glob("*.npy"))

    def open(self, name: str, *, texts: bool = False) -> StoredArray:
        """Find one array; see :meth:`NpzFile.open`."""
        return open_npy(self._path / f"{name}.npy", texts=texts)


def open_arrays(path: Path, request: Request) -> RowSource:
    """Open a ``.npz``, or a folder of ``.npy`` files.

    Samples go by the input's name or ``x``, else by the only name of samples that there is, labels
    by ``y`` or ``labels``, further inputs by their own names; one array that is alone is that of
    the samples. Of arrays whose names say which split they are of (``x_test``, ``val_images``) one
    split is taken, and said.

    Raises
    ------
    DataError
        The samples or labels are missing or damaged, or their numbers differ.
    """
    arrays = _NpyFolder(path) if path.is_dir() else NpzFile(path)
    names, input_name = arrays.names(), request.input_name
    x_name = next((name for name in (input_name, "x") if name in names), None)
    notes: tuple[str, ...] = ()
    called = {name: name for name in names}
    if x_name is None and sorted(names) == [_FIRST, _SECOND] and request.label is None:
        # numpy.savez(file, x, y): they have no names but their order.
        called, x_name = {_FIRST: "x", _SECOND: "y"}, _FIRST
        notes = (f"{shown(path)}: {_FIRST} are the samples, {_SECOND} the labels",)
    elif x_name is None:
        called, notes = _of_one_split(path, names)
        likely = [name for name, plain in called.items() if plain in _SAMPLES] or _alone(names)
        x_name = likely[0] if len(likely) == 1 else None
    if x_name is None:
        wanted = "'x'" if input_name == "x" else f"'x', or {shown(input_name)!r} as the model does"
        raise DataError(
            f"{shown(path)} holds {some(names) or 'nothing'}: name the samples {wanted}"
        )
    y = None
    y_name = _labels_among(called, request, path, x_name) if request.labelled else None
    if y_name is not None:
        y = arrays.open(y_name, texts=True)
    elif request.labelled:
        wanted = "y.npy" if isinstance(arrays, _NpyFolder) else "'y'"
        raise DataError(
            f"{shown(path)} holds no labels: add them as {wanted}, or pass --labels model to take "
            "the model's own answers"
        )
    first = source_of(path, arrays.open(x_name), y)
    first.notes = (*first.notes, *notes)
    return with_others(
        first, request.others, names, lambda name: ArraySource(path, arrays.open(name), None)
    )


# What numpy calls arrays that are given without names.
_FIRST, _SECOND = "arr_0", "arr_1"

# As scripts call them: xtrain, ytest.
_RUN_TOGETHER = re.compile(rf"\b([xy])({'|'.join(SPLITS)})\b")

# What arrays of samples are called, in small letters.
_SAMPLES = {"x", "data", "features", "image", "images", "img", "imgs", "inputs"}


def _alone(names: list[str]) -> list[str]:
    """Return the array of a file that holds no other, as KMNIST's do."""
    return names if len(names) == 1 and label_name(names) is None else []


def _of_one_split(path: Path, names: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the arrays of one split with their names without it, and say which it is.

    Where not all of them are of splits, they are all there, in small letters.
    """
    parted = {name: _apart(name) for name in names}
    splits = {name: split_of(parted[name]) for name in names}
    chosen = preferred(split or "" for split in splits.values())
    if chosen is None:
        return {name: name.lower() for name in names}, ()
    own = {
        name: "_".join(word for word in re.split("[^a-z]+", parted[name]) if word != chosen)
        for name in names
        if splits[name] == chosen
    }
    listed = sorted({split for split in splits.values() if split})
    note = f"{shown(path)} holds {', '.join(listed)}: the samples are those of {chosen}"
    return own, (note,)


def _apart(name: str) -> str:
    """Return a name in small letters with signs between its words: ``xtrain``, ``trainImages``."""
    words = re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
    return _RUN_TOGETHER.sub(r"\1_\2", words)


def _labels_among(
    called: Mapping[str, str], request: Request, path: Path, x_name: str
) -> str | None:
    """Return the array of labels; ``called`` says by which names those of a split go."""
    if request.label is not None:
        return request.label_of(list(called), shown(path), x_name)
    plain = request.label_of(list(called.values()), shown(path), called[x_name])
    return next((name for name, each in called.items() if each == plain), None)


def open_npy_file(path: Path, request: Request) -> ArraySource:
    """Open one ``.npy`` file of samples.

    Raises
    ------
    DataError
        Labels are wanted, or the file is damaged.
    """
    if request.labelled:
        request.refuse_label(shown(path))
        raise DataError(
            f"{shown(path)} holds samples without labels: pass a file with them by --labels FILE, "
            "or --labels model to take the model's own answers"
        )
    return source_of(path, open_npy(path), None)


def read_labels_of(array: StoredArray) -> tuple[Labels, tuple[str, ...] | None]:
    """Read labels from an array of numbers or of text; see :func:`labels_of_texts`.

    Raises
    ------
    DataError
        It holds none.
    """
    stored = np.asarray(array.mapped())
    if stored.dtype.kind == "S":
        # As h5py gives text.
        try:
            stored = np.char.decode(stored, "utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{array.where} holds bytes that are no text in UTF-8: save it as text "
                "(astype(str))"
            ) from None
    if stored.dtype.kind == "U":
        return labels_of_texts(stored.ravel().tolist(), array.where)
    return labels_of_numbers(stored, array.where), None


def read_index(path: Path) -> NDArray[np.generic] | None:
    """Return the array ``index`` that lies beside the samples of an array file, if there is one.

    Raises
    ------
    DataError
        It is damaged.
    """
    if path.suffix.lower() == ".npz":
        archive = NpzFile(path)
        return archive.open(INDEX).mapped() if INDEX in archive.names() else None
    file = path / f"{INDEX}.npy"
    return open_npy(file).mapped() if file.is_file() else None


def source_of(
    path: Path,
    x: StoredArray,
    y: StoredArray | None,
    labels_in: Callable[[StoredArray], tuple[Labels, tuple[str, ...] | None]] = read_labels_of,
) -> ArraySource:
    """Return the source of an array of samples and one of labels, which ``labels_in`` reads.

    Raises
    ------
    DataError
        There are no samples, their numbers differ, or labels are none.
    """
    check_count(x.shape[0], x.where)
    labels: Labels | None = None
    names: tuple[str, ...] | None = None
    if y is not None:
        if y.shape[0] != x.shape[0]:
            raise DataError(
                f"{y.where} has {y.shape[0]} labels but {x.where} has {x.shape[0]} samples: "
                "give one label for each"
            )
        labels, names = labels_in(y)
    return ArraySource(path, x, labels, names)
