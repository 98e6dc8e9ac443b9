"""Images in tar files, as webdataset packs them: ``0001.png`` beside ``0001.cls``.

Files whose path is the same up to the first dot of the name make one sample; ``.cls`` holds the
class index as digits. Several shards count as one source, in the order of their names.
"""

from __future__ import annotations

import io
import tarfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from cloakify.data.bounds import check_count, check_file
from cloakify.data.names import Names, Places
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels
from cloakify.settings.endings import IMAGES

# Bytes of a member's name or attributes.
_LARGEST_HEADER = 1 << 20

# Always fits an int64.
_LABEL_DIGITS = 18

# Zeros that tar may fill its last record up with: twenty blocks as a rule, more where somebody
# asked for it.
_PADDING = 1 << 20


class TarImages(EncodedSource):
    """Image files in tar shards, read in place.

    Raises
    ------
    DataError
        A shard is damaged, compressed, or holds samples without an image or label, or twice.
    """

    def __init__(self, path: Path, shards: list[Path], request: Request) -> None:
        super().__init__(path, None)
        if request.labelled:
            request.refuse_label(shown(path))
        self._shards = shards
        self._keys = Names()
        # Where each image's bytes lie in its shard, and how many they are.
        self._offsets, self._sizes = array("q"), array("I")
        # Of each shard the number of samples in those before it.
        self._starts = []
        labels = []
        for shard in shards:
            self._starts.append(len(self._keys))
            index = _Index(shard)
            if request.labelled:
                labels.append(index.labels())
            self._keys.extend(index.keys)
            self._offsets.extend(index.offsets)
            self._sizes.extend(index.sizes)
        check_count(len(self._keys), f"{path}")
        if request.labelled:
            self.labels = np.concatenate(labels)

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, row: int) -> str:
        return f"{shown(self._shard(row))} member {shown(self._keys[row])}"

    def key(self, row: int) -> str:
        return self._keys[row]

    def names(self) -> Sequence[str]:
        # A key ends at the first dot already.
        return self._keys

    def read(self, row: int) -> bytes:
        shard = self._shard(row)
        try:
            with open(shard, "rb") as file:
                file.seek(self._offsets[row])
                data = file.read(self._sizes[row])
        except OSError as error:
            raise _unreadable(shard, error) from None
        if len(data) != self._sizes[row]:
            raise _cut_short(shard)
        return data

    def _shard(self, row: int) -> Path:
        return self._shards[int(np.searchsorted(self._starts, row, side="right")) - 1]


class _Headers(io.FileIO):
    """A tar file of whose headers each is read as long as it is of a sane size.

    Long names and attributes are read whole, and are as long as their headers claim.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, or raise a TarError."""
        if size is not None and size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(-1 if size is None else size)


class _Index:
    """Where every image of one shard lies, and every label in it.

    Attributes
    ----------
    keys
        Of the images.
    offsets, sizes
        Of their bytes.
    """

    def __init__(self, shard: Path) -> None:
        self._shard = shard
        self.keys, self.offsets, self.sizes = Names(), array("q"), array("I")
        self._class_keys, self._classes = Names(), array("q")
        try:
            # "r:" refuses compression, which would make every read start at the beginning.
            with _Headers(shard, "r") as file, tarfile.open(fileobj=file, mode="r:") as archive:
                for info in archive:
                    self._add(file, info)
                    # Or it keeps a kilobyte for each.
                    archive.members.clear()  # type: ignore[attr-defined]
                end = archive.offset
            _check_end(shard, end)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise DataError(
                f"{shown(shard)} can't be read as a plain tar file ({shown(str(error))}): "
                "unpack it if it is compressed, else pack it again"
            ) from None
        except OSError as error:
            raise _unreadable(shard, error) from None
        for keys in (self.keys, self._class_keys):
            again = Places(keys).again()
            if len(again):
                raise DataError(
                    f"{shown(shard)} holds sample {shown(keys[int(again[0])])} twice: keep one"
                )

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

    def _add(self, file: IO[bytes], info: tarfile.TarInfo) -> None:
        folder, slash, name = info.name.removeprefix("./").rpartition("/")
        stem, dot, ending = name.partition(".")
        if info.isdir() or not stem or not dot:
            return
        is_image = f".{ending.lower()}" in IMAGES
        if not is_image and ending != "cls":
            return
        if not info.isreg() or info.issparse():
            raise DataError(
                f"{shown(self._shard)} member {shown(info.name)} is a link or sparse: "
                "pack plain files"
            )
        key = f"{folder}{slash}{stem}"
        if is_image:
            check_file(info.size, f"{shown(self._shard)} member {shown(info.name)}")
            self.keys.append(key)
            self.offsets.append(info.offset_data)
            self.sizes.append(info.size)
        else:
            self._class_keys.append(key)
            self._classes.append(self._label(file, info))

    def _label(self, file: IO[bytes], info: tarfile.TarInfo) -> int:
        text = b""
        if info.size < 2 * _LABEL_DIGITS:
            # The reader finds its place again for each header.
            file.seek(info.offset_data)
            data = file.read(info.size)
            if len(data) != info.size:
                raise _cut_short(self._shard)
            text = data.strip()
        if len(text) > _LABEL_DIGITS or not text.isdigit():
            raise DataError(
                f"{shown(self._shard)} member {shown(info.name)} holds no class index: write it as "
                "digits"
            )
        return int(text)


def _check_end(shard: Path, end: int) -> None:
    """Raise DataError unless an archive ends by a block of zeros, as tar ends one, and no more.

    Python's reader takes whatever it can't make sense of behind the first member for the end: a
    file that was cut off, a damaged header, and of two archives in a row the second.

    Parameters
    ----------
    end
        Where the reader stopped.
    """
    with open(shard, "rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(end)
        rest = file.read(_PADDING)
    if len(rest) < tarfile.BLOCKSIZE or rest.count(0) != len(rest) or size - end > _PADDING:
        raise DataError(
            f"{shown(shard)} is cut short, damaged, or holds more behind its end: "
            "copy or pack it again"
        )


def _cut_short(shard: Path) -> DataError:
    return DataError(f"{shown(shard)} is cut short: copy or pack it again")


def _unreadable(shard: Path, error: OSError) -> DataError:
    return DataError(f"{shown(shard)} can't be read ({error.strerror}): check the file")
