"""Attacked copies of samples that a user gives: which copy belongs to which sample.

Images are paired by their names below the folder, endings left off: ``cat/1.jpg`` and
``cat/1.png``. Arrays are paired by the array ``index`` beside them, which holds the row or file of
the data that each copy belongs to, as ``cloakify attack`` writes it; without one by their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.array_files import INDEX, read_index
from cloakify.data.dataset import Dataset
from cloakify.data.fitting import ImageFit
from cloakify.data.names import Places, Renamed
from cloakify.data.naming import shown, some
from cloakify.data.open_data import open_data
from cloakify.data.preprocessing import Preprocessing
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.numeric.arrays import AnyArray, Indices, floats


@dataclass(frozen=True)
class Copies:
    """One attacked copy for each sample of a data set.

    Attributes
    ----------
    data
        The copies, in their own order.
    place
        int64 [n]: which of them belongs to each of the n samples.
    """

    data: Dataset
    place: Indices

    def of(self, index: Indices) -> Copies:
        """The copies of some of the samples."""
        return replace(self, place=self.place[index])

    def load(self, index: Indices) -> NDArray[np.float32]:
        """Return the copies of these samples, float32, as the model takes them."""
        return floats(self.data.batch(self.place[index]).x)


def open_copies(
    path: str | Path,
    dataset: Dataset,
    spec: InputSpec,
    preprocessing: Preprocessing,
    fit: ImageFit,
    encoding: str | None = None,
) -> Copies:
    """Open attacked copies and pair them with the samples of a data set.

    Whether they keep to a budget and a box is not looked at here.

    Parameters
    ----------
    path
        As for `open_data`; labels are not read.
    dataset
        The clean samples; under a limit, copies of those left out may be there too.
    spec, preprocessing, fit, encoding
        As for `open_data`.

    Raises
    ------
    DataError
        They can't be read, have another shape, or can't be paired one to one.
    """
    copies = read_copies(path, spec, preprocessing, fit, encoding)
    if copies.sample_shape != dataset.sample_shape:
        raise DataError(
            f"{shown(copies.path)} holds samples of shape {copies.sample_shape}, "
            f"{shown(dataset.path)} of {dataset.sample_shape}: a copy has the shape of its sample"
        )
    if copies.names is not None:
        return Copies(copies, _by_name(copies, copies.names, dataset))
    index = _index_beside(copies)
    if index is not None:
        return Copies(copies, _by_index(copies, dataset, index))
    return Copies(copies, _by_order(copies, dataset))


def read_copies(
    path: str | Path,
    spec: InputSpec,
    preprocessing: Preprocessing,
    fit: ImageFit,
    encoding: str | None = None,
) -> Dataset:
    """Open attacked copies, without pairing them; see :func:`open_copies`."""
    fit = replace(fit, as_is=True)
    return open_data(
        path, spec, preprocessing, labels="model", fit=fit, box=None, encoding=encoding
    )


def _by_name(copies: Dataset, own: Sequence[str], dataset: Dataset) -> Indices:
    names = dataset.names
    if names is None:
        raise DataError(
            f"{shown(copies.path)} holds images with names, but {shown(dataset.path)} rows "
            f"without: give the attacked copies as arrays, in their order or with {INDEX!r}"
        )
    samples, places = Places(names), Places(own)
    for path, called, again in (
        (dataset.path, names, samples.again()),
        (copies.path, own, places.again()),
    ):
        if len(again):
            raise DataError(
                f"{shown(path)} holds {_named(called, again)} twice: names pair samples and copies"
            )
    extra = np.flatnonzero(samples.of(own) < 0)
    if len(extra):
        raise DataError(
            f"{shown(copies.path)} holds {_named(own, extra)}, which {shown(dataset.path)} does "
            "not: give copies the names of their samples, and remove those without one"
        )
    order = places.of(names)[dataset.rows]
    lacking = dataset.rows[order < 0]
    if len(lacking):
        raise _missing(copies, _named(names, lacking))
    return order


def _index_beside(copies: Dataset) -> NDArray[np.generic] | None:
    """Return the indices that lie beside copies, in each of their files, or in none."""
    parts = {file: read_index(file) for file in copies.files}
    indices = [index for index in parts.values() if index is not None]
    if indices and len(indices) < len(parts):
        lacking = next(file for file, index in parts.items() if index is None)
        raise DataError(
            f"{shown(lacking)} has no array {INDEX!r}, and other files of {shown(copies.path)} "
            "have: give all of them one, or none"
        )
    if len(indices) < 2:
        return indices[0] if indices else None
    return np.concatenate([index.ravel() for index in indices])


def _by_index(copies: Dataset, dataset: Dataset, index: NDArray[np.generic]) -> Indices:
    where = f"{shown(copies.path)} array {INDEX!r}"
    if index.shape != (len(copies),) or index.dtype.kind not in "iu":
        raise DataError(
            f"{where} is {index.dtype} of shape {index.shape}: give a whole number for each of "
            f"the {len(copies)} copies"
        )
    rows = index.astype(np.int64)
    # Numbers beyond int64 would wrap around to negative ones, and be found here too.
    strange = np.flatnonzero((rows < 0) | (rows >= dataset.total))
    if len(strange):
        raise DataError(
            f"{where} holds {_listed(index[strange])}, but {shown(dataset.path)} has the samples 0 "
            f"to {dataset.total - 1}: were the copies made of other data?"
        )
    values, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        twice = _listed(values[counts > 1])
        raise DataError(f"{where} holds {twice} twice: give one copy of each sample")
    places = np.full(dataset.total, -1)
    places[rows] = np.arange(len(rows))
    order = places[dataset.rows]
    lacking = dataset.rows[order < 0]
    if len(lacking):
        raise _missing(copies, _listed(lacking, "sample "))
    return order


def _by_order(copies: Dataset, dataset: Dataset) -> Indices:
    if len(copies) == len(dataset):
        return np.arange(len(dataset))
    if len(copies) == dataset.total:
        return dataset.rows
    used = "" if dataset.total == len(dataset) else f", of which {len(dataset)} are used"
    raise DataError(
        f"{shown(copies.path)} holds {len(copies)} attacked copies, but {shown(dataset.path)} "
        f"{dataset.total} samples{used}: give a copy of each in their order, or say with an array "
        f"{INDEX!r} which sample each belongs to"
    )


def _named(names: Sequence[str], rows: Indices) -> str:
    """Name the first few of some rows."""
    return some(Renamed(len(rows), lambda place: names[int(rows[place])]))


def _listed(numbers: AnyArray, before: str = "") -> str:
    """List the first few of some numbers."""
    return some(Renamed(len(numbers), lambda place: f"{before}{numbers[place]}"))


def _missing(copies: Dataset, which: str) -> DataError:
    return DataError(
        f"{shown(copies.path)} holds no attacked copy of {which}: give one of each sample used "
        "(--limit uses fewer)"
    )
