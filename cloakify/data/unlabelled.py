"""Samples without labels, which help to tune gates: the source answers to them for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from cloakify.data import Batch, Dataset
from cloakify.data.digest import CONTENT, content_digest, first_of_each
from cloakify.data.naming import shown
from cloakify.errors import DataError
from cloakify.numeric.arrays import Element, Flags, Indices

# Samples that are read together to look for copies.
READ = 256


@dataclass(frozen=True)
class Unlabelled:
    """Further samples behind those of the data, to be tuned on and for nothing else.

    Attributes
    ----------
    data
        The samples that everything else is done with, 0 … n−1.
    more
        The others, labelled with the source's answers.
    kept
        int64 [m]: those of them that are no copies of the data's; they are n … n+m−1 here.
    """

    data: Dataset
    more: Dataset
    kept: Indices

    @property
    def indices(self) -> Indices:
        """Where the further samples are, int64 [m]."""
        return len(self.data) + np.arange(len(self.kept))

    @property
    def note(self) -> str:
        """What a user should be told of them."""
        left_out = len(self.more) - len(self.kept)
        told = f"{len(self.kept)} samples without labels are tuned on as well"
        return f"{told}; {left_out} are copies and left out" if left_out else told

    def batch(self, index: Indices) -> Batch:
        """Read samples of either kind, all at once; see :meth:`Dataset.batch`."""
        own = self._are_own(index)
        if own.all():
            return self.data.batch(index)
        other = self.more.batch(self._of_more(index[~own]))
        if not own.any():
            return Batch(other.x, other.y, index)
        first = self.data.batch(index[own])
        return Batch(_woven(own, first.x, other.x), _woven(own, first.y, other.y), index)

    def digest_at(self, index: Indices) -> str:
        """Name of these samples, of either kind; see :meth:`Dataset.digest_at`."""
        return " ".join(data.digest_at(some) for data, some in self._by_kind(index))

    def digest_read(self, index: Indices) -> str:
        """The same; reads these samples alone, each time."""
        return " ".join(data.digest_read(some) for data, some in self._by_kind(index))

    def _by_kind(self, index: Indices) -> Iterator[tuple[Dataset, Indices]]:
        """Yield the data that there are samples of, and which of its samples they are."""
        own = self._are_own(index)
        if own.any():
            yield self.data, index[own]
        if not own.all():
            yield self.more, self._of_more(index[~own])

    def _are_own(self, index: Indices) -> Flags:
        return np.less(index, len(self.data))

    def _of_more(self, index: Indices) -> Indices:
        """Return which of ``more`` these samples are."""
        return self.kept[index - len(self.data)]


def without_copies(data: Dataset, more: Dataset) -> Unlabelled:
    """Put samples without labels behind others, but for exact copies of these or of each other.

    What is tuned on must not be among what is chosen or reported on.

    Raises
    ------
    DataError
        They have another shape, can't be read, or are all copies.
    """
    if data.sample_shape != more.sample_shape:
        raise DataError(
            f"{shown(more.path)} holds samples of shape {more.sample_shape}, "
            f"{shown(data.path)} of {data.sample_shape}: --unlabelled takes more of the same kind"
        )
    contents = np.frombuffer(b"".join(chain(_names(data), _names(more))), np.uint8)
    first = first_of_each(contents.reshape(-1, CONTENT))
    kept = first[first >= len(data)] - len(data)
    if not len(kept):
        raise DataError(
            f"{shown(more.path)}: every sample is a copy of one of {shown(data.path)}; "
            "--unlabelled takes others"
        )
    return Unlabelled(data, more, kept)


def _names(dataset: Dataset) -> Iterator[bytes]:
    """Yield for each sample what tells it from others: a digest of it as the model takes it."""
    for batch in dataset.batches(None, READ):
        for x in batch.x:
            yield content_digest(x.tobytes())


def _woven(own: Flags, first: NDArray[Element], other: NDArray[Element]) -> NDArray[Element]:
    """Put rows together: the first's where ``own`` says so, the other's elsewhere."""
    rows = np.empty((len(own), *first.shape[1:]), first.dtype)
    rows[own], rows[~own] = first, other
    return rows
