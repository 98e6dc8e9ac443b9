"""The data of one run: opened from a path, checked, and read in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cloakify.data.classes import Names, arrange, arrange_columns, by_number
from cloakify.data.digest import (
    CONTENT,
    SIZE,
    Label,
    content_digest,
    digest,
    first_of_each,
    sample_digest,
)
from cloakify.data.joined import Pack, PackedFeed
from cloakify.data.naming import shown
from cloakify.data.prefetch import prefetch
from cloakify.data.sanity import check_classes, check_columns, read_labels
from cloakify.data.source import Source
from cloakify.errors import UsageError
from cloakify.numeric.arrays import in_chunks


@dataclass(frozen=True)
class Batch:
    """Some samples.

    Attributes
    ----------
    x
        ``[b, …]``, contiguous, in the model's layout, element type and units.
    y
        int64 ``[b]``: class indices; −1 where the data has no labels. Or ``[b, K]``: 0 and 1.
    index
        int64 ``[b]``: which samples of the dataset these are.
    """

    x: NDArray[np.generic]
    y: NDArray[np.int64]
    index: NDArray[np.int64]


class Feed(Protocol):
    """Loads samples of a source as the model takes them."""

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    def load(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Samples of these rows of the source."""


@dataclass(frozen=True)
class Dataset:
    """Samples 0 … len−1 in a fixed order, decoded when a batch asks for them.

    Attributes
    ----------
    path
        What was opened.
    labels
        int64 ``[len]``, or ``[len, K]`` of 0 and 1 for independent labels; ``None`` when the
        model's answers are to be the labels.
    class_names
        Name of each class index, where the data has names.
    rows
        int64 ``[len]``: which row or file of ``path`` each sample is; differs from 0 … len−1
        under a limit.
    notes
        Lines worth telling the user.
    forms
        What of :mod:`cloakify.settings.forms` the samples are.
    """

    path: Path
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...] | None
    rows: NDArray[np.int64]
    notes: tuple[str, ...]
    forms: frozenset[str]
    _source: Source
    _feed: Feed
    _inputs: Mapping[str, Feed] = field(default_factory=dict)
    _name: str | None = None
    _digests: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample of a batch; every size is known."""
        return self._feed.sample_shape

    @property
    def sha256(self) -> str:
        """Name of the samples and their given labels (`cloakify.data.digest`); reads them all."""
        return self._name or self._content[0]

    @property
    def distinct(self) -> NDArray[np.int64]:
        """Indices of the samples without exact copies of earlier ones; reads them all."""
        return self._content[1]

    def digest_at(self, indices: NDArray[np.int64]) -> str:
        """Name of these samples alone, in this order and without labels; reads all, once."""
        digests = self._content[2] if self._digests is None else self._digests
        return hashlib.sha256(digests[indices].tobytes()).hexdigest()

    def digest_read(self, indices: NDArray[np.int64]) -> str:
        """The same; reads these samples alone, each time."""
        payloads = self._source.payloads(self.rows[indices])
        contents = b"".join(content_digest(payload) for _, payload in payloads)
        return hashlib.sha256(contents).hexdigest()

    @cached_property
    def _content(self) -> tuple[str, NDArray[np.int64], NDArray[np.uint8]]:
        given = self._source.labels
        labels = np.full(len(self), -1) if given is None else given[self.rows]
        contents = np.empty((len(self), CONTENT), np.uint8)
        samples = np.empty((len(self), SIZE), np.uint8)
        for index, (key, payload) in enumerate(self._source.payloads(self.rows)):
            contents[index] = np.frombuffer(content_digest(payload), np.uint8)
            label: Label = labels[index].tolist()
            samples[index] = np.frombuffer(sample_digest(key, payload, label), np.uint8)
        name = digest(samples)
        del samples
        return name, first_of_each(contents), contents

    @property
    def total(self) -> int:
        """How many samples ``path`` holds, those that a limit leaves out too."""
        return len(self._source)

    @property
    def files(self) -> tuple[Path, ...]:
        """What the samples were read of: ``path``, or what was found or unpacked of it."""
        return self._source.files

    @property
    def names(self) -> Sequence[str] | None:
        """Name of each of the ``total`` samples below ``path``, without its ending."""
        return self._source.names()

    @property
    def sha256_of_all(self) -> str:
        """As ``sha256``, of all samples that ``path`` holds; reads them all."""
        return replace(self, rows=np.arange(self.total), _name=None, _digests=None).sha256

    def without_copies(self) -> Dataset:
        """The samples without exact copies of earlier ones, under the name of all; reads them."""
        name, rows, labels = self.sha256, self.rows, self.labels
        _, kept, digests = self._content
        # As a rule there are none, and the arrays of all samples stay what they are.
        if len(kept) < len(self):
            rows, digests = rows[kept], digests[kept]
            labels = None if labels is None else labels[kept]
        return replace(self, labels=labels, rows=rows, _name=name, _digests=digests)

    def known(self, rows: NDArray[np.int64], labels: NDArray[np.int64], name: str) -> Dataset:
        """These samples of ``path``, under a name that was found before.

        Parameters
        ----------
        labels
            Of these samples, or none where nobody knows any yet.
        """
        given = labels if len(labels) else None
        return replace(self, rows=rows, labels=given, _name=name, _digests=None)

    def where(self, index: int) -> str:
        """How a message names a sample."""
        return self._source.where(int(self.rows[index]))

    def of_one_hot(self, num_classes: int) -> Dataset:
        """The same samples, one-hot labels as the indices of their classes; others as they are.

        Parameters
        ----------
        num_classes
            How many classes the model has, exactly one of which is right.
        """
        labels = self.labels
        if labels is None or labels.ndim == 1 or not (labels.sum(axis=1) == 1).all():
            return self
        if self.class_names is None and labels.shape[1] != num_classes:
            return self
        note = (
            f"{shown(self.path)}: labels of shape {labels.shape} with a single 1 in each row are "
            "one-hot classes"
        )
        return replace(self, labels=labels.argmax(axis=1), notes=(*self.notes, note))

    def told(self, note: str) -> Dataset:
        """Return the same with one more line to tell, if there is one."""
        return replace(self, notes=(*self.notes, note)) if note else self

    def for_classes(self, num_classes: int, given: Names | None, told: Names | None) -> Dataset:
        """The same samples, their labels the indices of a model's classes.

        Parameters
        ----------
        num_classes
            How many classes the model has.
        given, told
            Their names in its order, as the user gave them for these data, or as the model tells.

        Raises
        ------
        DataError
            The classes are not the model's.
        """
        order = given or told
        if self.labels is None:
            # The model's own answers go by the same names.
            return replace(self, class_names=order)
        labels, names = self.labels, self.class_names
        if labels.ndim == 2:
            check_columns(labels, num_classes, str(self.path))
            if names is not None and order is not None:
                labels = arrange_columns(labels, names, order, certain=given is not None)
            return replace(self, labels=labels, class_names=order or names)
        if order is not None:
            labels, names = arrange(labels, names, order, certain=given is not None)
        labels, names = by_number(labels, names, num_classes)
        check_classes(labels, names, num_classes, self.where)
        return replace(self, labels=labels, class_names=names)

    def names_of(self, labels: NDArray[np.int64]) -> list[str]:
        """What the data, as ``--classes`` has it, calls the classes of some labels."""
        names = self.class_names
        own = self._source.class_names is not None
        if names is None or not (own or all(name.isdecimal() for name in names)):
            return [str(label) for label in labels.tolist()]
        return [names[label] for label in labels.tolist()]

    def with_labels(self, labels: NDArray[np.int64]) -> Dataset:
        """The same samples with other labels, the model's own answers say; the digest stays."""
        names = self.class_names if self.labels is None else None
        return replace(self, labels=read_labels(labels, len(self), "labels"), class_names=names)

    def inputs(self, indices: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        """Load samples as the model takes them: an array ``[len(indices), …]`` for each input.

        Raises
        ------
        DataError
            A sample can't be read or does not fit the model.
        """
        return self._load_inputs(self.rows[indices])

    def _load_inputs(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
        return {name: feed.load(rows) for name, feed in self._inputs.items()}

    def packed(self, pack: Pack, sample_shape: tuple[int, ...]) -> Dataset:
        """The same samples, but batches hold what ``pack`` makes of all their inputs."""
        return replace(self, _feed=PackedFeed(self._load_inputs, pack, sample_shape))

    def batches(
        self, indices: NDArray[np.int64] | None = None, batch_size: int = 32
    ) -> Iterator[Batch]:
        """Read samples in order, the next batches while the caller works on this one.

        Parameters
        ----------
        indices
            int64, which samples; all of them when left out.
        batch_size
            Samples in a batch; the last one may have fewer.

        Raises
        ------
        DataError
            A sample can't be read or does not fit the model.
        UsageError
            ``batch_size`` is below 1.
        """
        if batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
        if indices is None:
            indices = np.arange(len(self))
        elif len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"sample indices must be in 0 … {len(self) - 1}")
        return prefetch(self.batch, in_chunks(indices, batch_size))

    def batch(self, index: NDArray[np.int64]) -> Batch:
        """Read these samples, all at once.

        Raises
        ------
        DataError
            A sample can't be read or does not fit the model.
        """
        y = np.full(len(index), -1) if self.labels is None else self.labels[index]
        return Batch(self._feed.load(self.rows[index]), y, index)
