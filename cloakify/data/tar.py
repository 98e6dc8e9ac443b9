"""Images in tar files, as webdataset packs them: ``0001.png`` beside ``0001.cls``.

Files whose path is the same up to the first dot of the name make one sample; ``.cls`` holds the
class index as digits. Where no file is called so, what is behind a name's last dot says what it
holds (``0001.image.png``, ``0001.label.cls``). Several shards count as one source, in the order of
their names.
"""

from __future__ import annotations

import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from cloakify.data.archive import Archive, Store
from cloakify.data.audio import no_audio
from cloakify.data.bounds import check_count, check_file
from cloakify.data.names import Names, Places
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.skipped import Skipped
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels
from cloakify.settings.endings import AUDIO, IMAGES

# Always fits an int64.
_LABEL_DIGITS = 18


class TarImages(EncodedSource):
    """Image files in tar shards.

    Raises
    ------
    DataError
        A shard is damaged, or holds samples without an image or label, or twice.
    """

    def __init__(self, path: Path, shards: list[Path], request: Request) -> None:
        super().__init__(path, None)
        if request.labelled:
            request.refuse_label(shown(path))
        self._shards: list[Archive] = []
        self._keys = Names()
        # Where each image's bytes lie in its shard, and how many they are.
        self._offsets, self._sizes = array("q"), array("I")
        # Of each shard the number of samples in those before it.
        self._starts = []
        labels = []
        store = Store()
        for shard in shards:
            self._starts.append(len(self._keys))
            # Its members before the next one is unpacked.
            self._shards.append(Archive(shard, store))
            index = _Index(self._shards[-1])
            if request.labelled:
                labels.append(index.labels())
            self._keys.extend(index.keys)
            self._offsets.extend(index.offsets)
            self._sizes.extend(index.sizes)
            if index.has_audio and not len(self._keys):
                raise no_audio(shown(shard))
            if index.others.count and not len(self._keys):
                raise DataError(f"{shown(shard)} holds no image{index.others.instead}: pack images")
        check_count(len(self._keys), str(path))
        if request.labelled:
            self.labels = np.concatenate(labels)

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, row: int) -> str:
        return f"{shown(self._shard(row).path)} member {shown(self._keys[row])}"

    def key(self, row: int) -> str:
        return self._keys[row]

    def names(self) -> Sequence[str]:
        # A key ends at the first dot already.
        return self._keys

    def read(self, row: int) -> bytes:
        return self._shard(row).read(self._offsets[row], self._sizes[row])

    def _shard(self, row: int) -> Archive:
        return self._shards[bisect_right(self._starts, row) - 1]


class _Index:
    """Where every image of one shard lies, and every label in it.

    Attributes
    ----------
    keys
        Of the images.
    offsets, sizes
        Of their bytes.
    has_audio
        Whether there is sound among its members.
    others
        Members that are neither images nor labels.
    """

    def __init__(self, archive: Archive) -> None:
        self._shard = archive.path
        # Those with one ending, and those with several.
        self._images = [(Names(), array("q"), array("I")) for _ in range(2)]
        self._labels = [(Names(), array("q")) for _ in range(2)]
        self.has_audio = False
        self.others = Skipped()
        for info, file in archive.members():
            self._add(info, file)
        self.keys, self.offsets, self.sizes = next(
            (images for images in self._images if len(images[0])), self._images[0]
        )
        self._class_keys, self._classes = next(
            (labels for labels in self._labels if len(labels[0])), self._labels[0]
        )
        for keys in (self.keys, self._class_keys):
            again = Places(keys).again()
            if len(again):
                key = shown(keys[int(again[0])])
                raise DataError(f"{shown(self._shard)} holds sample {key} twice: keep one")

    def labels(self) -> Labels:
        """Return the class index of each image, int64.

        Raises
        ------
        DataError
            There is none beside one.
        """
        places = Places(self._class_keys).of(self.keys)
        lacking = np.flatnonzero(places < 0)
        if len(lacking):
            raise DataError(
                f"{shown(self._shard)} has no {shown(self.keys[int(lacking[0])])}.cls beside the "
                "image: add the class index, or pass --labels model"
            )
        return np.frombuffer(self._classes, np.int64)[places]

    def _add(self, info: tarfile.TarInfo, file: IO[bytes]) -> None:
        folder, slash, name = info.name.removeprefix("./").rpartition("/")
        stem, dot, ending = name.partition(".")
        if info.isdir() or not stem or not dot:
            return
        # What stands beside an image may be one, too: ``0001.png`` and ``0001.mask.png``.
        parted = "." in ending
        kind = f".{ending.rpartition('.')[2].lower()}"
        is_image = kind in IMAGES
        self.has_audio |= kind in AUDIO
        if not is_image and kind != ".cls":
            self.others.add(info.name)
            return
        if not info.isreg() or info.issparse():
            raise DataError(
                f"{shown(self._shard)} member {shown(info.name)} is a link or sparse: "
                "pack plain files"
            )
        key = f"{folder}{slash}{stem}"
        if is_image:
            check_file(info.size, f"{shown(self._shard)} member {shown(info.name)}")
            keys, offsets, sizes = self._images[parted]
            keys.append(key)
            offsets.append(info.offset_data)
            sizes.append(info.size)
        else:
            keys, classes = self._labels[parted]
            keys.append(key)
            classes.append(self._label(info, file))

    def _label(self, info: tarfile.TarInfo, file: IO[bytes]) -> int:
        text = b""
        if info.size < 2 * _LABEL_DIGITS:
            # The reader finds its place again for each header.
            file.seek(info.offset_data)
            data = file.read(info.size)
            if len(data) != info.size:
                raise DataError(f"{shown(self._shard)} is cut short: copy or pack it again")
            text = data.strip()
        if len(text) > _LABEL_DIGITS or not text.isdigit():
            raise DataError(
                f"{shown(self._shard)} member {shown(info.name)} holds no class index: write it as "
                "digits"
            )
        return int(text)
