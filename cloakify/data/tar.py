"""Images in tar files: ``0001.png`` beside ``0001.cls``, as webdataset has it, or class folders.

Files whose path is the same up to the first dot of the name make one sample; which of them hold the
label, :mod:`cloakify.data.tar_labels` says. Where no file is called so, what is behind a name's
last dot says what it holds (``0001.image.png``, ``0001.label.cls``). Without any file of labels the
folders that the images lie in are the classes. Several shards count as one source, in the order of
their names.
"""

from __future__ import annotations

import os
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from cloakify.data.archive import Archive, Store
from cloakify.data.audio import no_audio
from cloakify.data.bounds import check_count, check_file
from cloakify.data.data_folder import is_of_samples
from cloakify.data.foreign import ANYWHERE, START, described_by
from cloakify.data.labels import TextLabels
from cloakify.data.names import Names, Places
from cloakify.data.naming import shown
from cloakify.data.packed_folders import is_hidden, packed_classes
from cloakify.data.request import Request
from cloakify.data.skipped import Skipped
from cloakify.data.source import EncodedSource
from cloakify.data.tar_labels import LARGE, SMALL, TarLabels, check_classes_of_texts, no_label
from cloakify.errors import DataError
from cloakify.settings.endings import AUDIO, IMAGES

# Files that are looked at to say what an archive holds instead of images.
_LOOKED_AT = 100


class NoImages(DataError):
    """A tar file holds no image.

    Attributes
    ----------
    holds_samples
        Whether it holds files of samples in another form.
    """

    holds_samples = False


class _Images:
    """Images of a shard: what their samples and their files are called, and where they lie."""

    def __init__(self) -> None:
        self.keys, self.files = Names(), Names()
        self.offsets, self.sizes = array("q"), array("I")

    def extend(self, other: _Images) -> None:
        """Take others behind these."""
        self.keys.extend(other.keys)
        self.files.extend(other.files)
        self.offsets.extend(other.offsets)
        self.sizes.extend(other.sizes)

    def check_once(self, where: str) -> None:
        """Raise DataError where two images make one sample."""
        again = Places(self.keys).again()
        if len(again):
            raise DataError(
                f"{where} holds sample {shown(self.keys[int(again[0])])} twice: keep one"
            )


class TarImages(EncodedSource):
    """Image files in tar shards.

    Raises
    ------
    DataError
        A shard is damaged, or holds samples without an image or label, or twice.
    """

    def __init__(self, path: Path, shards: list[Path], request: Request) -> None:
        super().__init__(path, None)
        self._shards: list[Archive] = []
        # Of each shard the number of samples in those before it.
        self._starts: list[int] = []
        self._images = _Images()
        texts = TextLabels()
        kinds: dict[str, Path] = {}
        store = Store()
        for shard in shards:
            self._starts.append(len(self._images.keys))
            # Its members before the next one is unpacked.
            self._shards.append(Archive(shard, store))
            index = _Index(self._shards[-1], request)
            if request.labelled:
                texts.extend(index.texts())
            kinds.setdefault(index.kind, shard)
            self._images.extend(index.images)
        check_count(len(self._images.keys), str(path))
        if request.labelled and len(kinds) > 1:
            first, second, *_ = map(shown, kinds.values())
            raise DataError(f"{first} and {second} say their labels in other ways: pack them alike")
        if request.labelled:
            self._label(next(iter(kinds)), texts)

    def _label(self, kind: str, texts: TextLabels) -> None:
        """Label the images by the files beside them, or by their folders."""
        where = shown(self.path)
        if kind:
            self.labels, self.class_names = texts.read(f"{where} labels ({kind})")
            if kind != ".cls":
                self.notes = (f"{where}: the labels are those in the files {kind}",)
            check_classes_of_texts(kind, len(self.class_names or ()), len(self), where)
            return
        classes = packed_classes(self.path, self._images.keys)
        self.labels, self.class_names = classes.labels, classes.names
        self.notes = (f"{where}: no labels lie beside the images, the classes are their folders",)
        self.notes += classes.notes
        if len(classes.rows) < len(self):
            self._keep(classes.rows.tolist())

    def _keep(self, rows: list[int]) -> None:
        """Leave out the images but for these, which ascend."""
        images, self._images = self._images, _Images()
        self._starts = np.searchsorted(rows, self._starts).tolist()
        self._images.keys.extend(images.keys[row] for row in rows)
        self._images.offsets.extend(images.offsets[row] for row in rows)
        self._images.sizes.extend(images.sizes[row] for row in rows)

    def __len__(self) -> int:
        return len(self._images.keys)

    def where(self, row: int) -> str:
        return f"{shown(self._shard(row).path)} member {shown(self.key(row))}"

    def key(self, row: int) -> str:
        return self._images.keys[row]

    def names(self) -> Sequence[str]:
        # A key has no ending.
        return self._images.keys

    def read(self, row: int) -> bytes:
        return self._shard(row).read(self._images.offsets[row], self._images.sizes[row])

    def _shard(self, row: int) -> Archive:
        return self._shards[bisect_right(self._starts, row) - 1]


class _Index:
    """Where every image of one shard lies, and every label in it.

    Attributes
    ----------
    images
        The images.
    kind
        Ending of the files that hold their labels; "" where there are none.

    Raises
    ------
    DataError
        There are none, but something else; one stands twice; a member is a link.
    """

    def __init__(self, archive: Archive, request: Request) -> None:
        self._archive, self._where = archive, shown(archive.path)
        # Those with one ending, and those with several.
        self._plain, self._parted = _Images(), _Images()
        self._labels = TarLabels(archive, request.label)
        self._field = request.label
        self._has_audio = False
        self._others = Skipped()
        self._first_others: list[tarfile.TarInfo] = []
        self._holds_samples = False
        for info in archive.members():
            if not is_hidden(info.name.removeprefix("./")):
                self._add(info)
        self.images = self._plain if len(self._plain.keys) else self._parted
        if not len(self.images.keys):
            if self._has_audio:
                raise no_audio(self._where)
            if self._others.count:
                raise self._no_images()
        self.kind = self._labels.kind() or ""
        self._has_folders = any(
            "/" in file for file in chain(self._plain.files, self._parted.files)
        )
        if not self.kind and self._has_folders:
            self.images = self._by_file()
        self.images.check_once(self._where)
        # Names of files are long, and not needed any more.
        self.images.files = Names()

    def texts(self) -> Iterator[str]:
        """Return the label of each image; none where they have folders alone.

        Raises
        ------
        DataError
            An image has none.
        """
        if self.kind:
            return self._labels.texts(self.kind, self.images.keys)
        if self._field is not None:
            raise DataError(
                f"--labels {shown(self._field)} is no file, and {self._where} has no .json with a "
                "field of that name beside the images: give a file with the labels"
            )
        if len(self.images.keys) and not self._has_folders:
            raise no_label(self._archive, self.images.keys[0])
        return iter(())

    def _no_images(self) -> NoImages:
        """Return the error for an archive without images, which says what it holds instead."""
        error = NoImages(
            f"{self._where} holds no image{self._others.instead}: unpack it, and give what "
            f"is in it, or pack images{self._told()}"
        )
        # Of what has its label beside it each file is a sample.
        error.holds_samples = self._holds_samples and self._labels.kind() in (None, ".txt")
        return error

    def _told(self) -> str:
        """Say what one of its files is."""
        for info in self._first_others:
            start = self._archive.read(info.offset_data, min(info.size, START))
            known = described_by(Path(info.name), start)
            if known is not None and Path(info.name).suffix not in ANYWHERE:
                return f"; {shown(info.name)} is {known[0]}: {known[1]}"
        return ""

    def _add_other(self, info: tarfile.TarInfo) -> None:
        """Count a file that is no image and tells no label."""
        self._others.add(info.name)
        if info.isreg() and not info.issparse():
            self._holds_samples |= is_of_samples(info.name)
            if len(self._first_others) < _LOOKED_AT:
                self._first_others.append(info)

    def _by_file(self) -> _Images:
        """Return all images, each a sample of its own, whatever dots are in its name."""
        samples = _Images()
        for images in (self._plain, self._parted):
            samples.extend(images)
        samples.keys = Names(os.path.splitext(file)[0] for file in samples.files)
        return samples

    def _add(self, info: tarfile.TarInfo) -> None:
        folder, slash, name = info.name.removeprefix("./").rpartition("/")
        stem, dot, ending = name.partition(".")
        if info.isdir():
            return
        if not stem or not dot:
            self._add_other(info)
            return
        # What stands beside an image may be one, too: ``0001.png`` and ``0001.mask.png``.
        parted = "." in ending
        kind = f".{ending.rpartition('.')[2].lower()}"
        self._has_audio |= kind in AUDIO
        if kind not in IMAGES and kind not in SMALL:
            self._add_other(info)
        key, plain = f"{folder}{slash}{stem}", info.isreg() and not info.issparse()
        if not plain and (kind in IMAGES or kind in SMALL):
            raise DataError(
                f"{self._where} member {shown(info.name)} is a link or sparse: pack plain files"
            )
        if kind in IMAGES:
            check_file(info.size, f"{self._where} member {shown(info.name)}")
            images = self._parted if parted else self._plain
            images.keys.append(key)
            images.files.append(f"{folder}{slash}{name}")
            images.offsets.append(info.offset_data)
            images.sizes.append(info.size)
        elif plain and kind in SMALL + LARGE:
            self._labels.add(kind, key, parted, info.offset_data, info.size)
