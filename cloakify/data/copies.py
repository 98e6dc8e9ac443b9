"""Attacked copies of samples that a user gives: which copy belongs to which sample.

Images are paired by their names below the folder, endings left off: ``cat/1.jpg`` and
``cat/1.png``. Arrays are paired by the array ``index`` beside them, which holds the row or file of
the data that each copy belongs to, as ``cloakify attack`` writes it; without one by their order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.array_files import INDEX, read_index
from cloakify.data.dataset import Dataset
from cloakify.data.fitting import ImageFit
from cloakify.data.naming import shown, some
from cloakify.data.open_data import open_data
from cloakify.data.preprocessing import Preprocessing
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.numeric.arrays import Indices, floats


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
) -> Copies:
    """Open attacked copies and pair them with the samples of a data set.

    Whether they keep to a budget and a box is not looked at here.

    Parameters
    ----------
    path
        As for `open_data`; labels are not read.
    dataset
        The clean samples; under a limit, copies of those left out may be there too.
    spec, preprocessing, fit
        As for `open_data`.

    Raises
    ------
    DataError
        They can't be read, have another shape, or can't be paired one to one.
    """
    copies = read_copies(path, spec, preprocessing, fit)
    if copies.sample_shape != dataset.sample_shape:
        raise DataError(
            f"{shown(copies.path)} holds samples of shape {copies.sample_shape}, "
            f"{shown(dataset.path)} of {dataset.sample_shape}: a copy has the shape of its sample"
        )
    if any(copies.names):
        return Copies(copies, _by_name(copies, dataset))
    index = read_index(copies.path)
    if index is not None:
        return Copies(copies, _by_index(copies, dataset, index))
    return Copies(copies, _by_order(copies, dataset))


def read_copies(
    path: str | Path, spec: InputSpec, preprocessing: Preprocessing, fit: ImageFit
) -> Dataset:
    """Open attacked copies, without pairing them; see :func:`open_copies`."""
    fit = replace(fit, as_is=True)
    return open_data(path, spec, preprocessing, labels="model", fit=fit, box=None)


def _by_name(copies: Dataset, dataset: Dataset) -> Indices:
    names = dataset.names
    if not any(names):
        raise DataError(
            f"{shown(copies.path)} holds images with names, but {shown(dataset.path)} rows "
            f"without: give the attacked copies as arrays, in their order or with {INDEX!r}"
        )
    _refuse_twice(dataset.path, names)
    _refuse_twice(copies.path, copies.names)
    places = {name: place for place, name in enumerate(copies.names)}
    extra = sorted(places.keys() - set(names))
    if extra:
        raise DataError(
            f"{shown(copies.path)} holds {some(extra)}, which {shown(dataset.path)} does not: "
            "give copies the names of their samples, and remove those without one"
        )
    wanted = [names[row] for row in dataset.rows.tolist()]
    _refuse_missing(copies, [name for name in wanted if name not in places])
    return np.array([places[name] for name in wanted], np.int64)


def _refuse_twice(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{shown(path)} holds {some(twice)} twice: names pair samples and copies")


def _by_index(copies: Dataset, dataset: Dataset, index: NDArray[np.generic]) -> Indices:
    where = f"{shown(copies.path)} array {INDEX!r}"
    if index.shape != (len(copies),) or index.dtype.kind not in "iu":
        raise DataError(
            f"{where} is {index.dtype} of shape {index.shape}: give a whole number for each of "
            f"the {len(copies)} copies"
        )
    rows = [int(row) for row in index]
    strange = [str(row) for row in rows if not 0 <= row < dataset.total]
    if strange:
        raise DataError(
            f"{where} holds {some(strange)}, but {shown(dataset.path)} has the samples 0 to "
            f"{dataset.total - 1}: were the copies made of other data?"
        )
    twice = [str(row) for row, count in Counter(rows).items() if count > 1]
    if twice:
        raise DataError(f"{where} holds {some(twice)} twice: give one copy of each sample")
    places = {row: place for place, row in enumerate(rows)}
    wanted = dataset.rows.tolist()
    _refuse_missing(copies, [f"sample {row}" for row in wanted if row not in places])
    return np.array([places[row] for row in wanted], np.int64)


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


def _refuse_missing(copies: Dataset, missing: list[str]) -> None:
    if missing:
        raise DataError(
            f"{shown(copies.path)} holds no attacked copy of {some(missing)}: give one of each "
            "sample used (--limit uses fewer)"
        )
