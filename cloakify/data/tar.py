"""Images in tar files, as webdataset packs them: ``0001.png`` beside ``0001.cls``.

Files whose path is the same up to the first dot of the name make one sample; ``.cls`` holds the
class index as digits. Several shards count as one source, in the order of their names.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from cloakify.data.bounds import check_count, check_file
from cloakify.data.folder import EXTENSIONS
from cloakify.data.naming import shown
from cloakify.data.request import Request
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError

# Bytes of a member's name or attributes.
_LARGEST_HEADER = 1 << 20

# Always fits an int64.
_LABEL_DIGITS = 18

# Zeros that tar may fill its last record up with: twenty blocks as a rule, more where somebody
# asked for it.
_PADDING = 1 << 20


@dataclass(frozen=True)
class _Member:
    """Where one file's bytes lie in a shard."""

    shard: Path
    offset: int
    size: int


class TarImages(EncodedSource):
    """Image files in tar shards, read in place.

    Raises
    ------
    DataError
        A shard is damaged, compressed, or holds samples without an image or label, or twice.
    """

    def __init__(self, path: Path, shards: list[Path], request: Request) -> None:
        super().__init__(path, None)
        labelled = request.labelled
        if labelled:
            request.refuse_label(shown(path))
        self._keys: list[str] = []
        self._images: list[_Member] = []
        labels: list[int] = []
        for shard in shards:
            images, classes = _index(shard)
            for key, image in images.items():
                if labelled:
                    if key not in classes:
                        raise DataError(
                            f"{shown(shard)} has no {shown(key)}.cls beside the image: add the "
                            "class index, or pass --labels model"
                        )
                    labels.append(classes[key])
                self._keys.append(key)
                self._images.append(image)
        check_count(len(self._keys), f"{path}")
        if labelled:
            self.labels = np.array(labels, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, row: int) -> str:
        return f"{shown(self._images[row].shard)} member {shown(self._keys[row])}"

    def key(self, row: int) -> str:
        return self._keys[row]

    def names(self) -> list[str]:
        # A key ends at the first dot already.
        return self._keys

    def read(self, row: int) -> bytes:
        return _read(self._images[row])


class _Headers(io.FileIO):
    """A tar file of whose headers each is read as long as it is of a sane size.

    Long names and attributes are read whole, and are as long as their headers claim.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, or raise a TarError."""
        if size is not None and size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return super().read(-1 if size is None else size)


def _index(shard: Path) -> tuple[dict[str, _Member], dict[str, int]]:
    """Find every image, and read every label, of one shard."""
    images: dict[str, _Member] = {}
    classes: dict[str, int] = {}
    try:
        # "r:" refuses compression, which would make every read start at the beginning.
        with _Headers(shard, "r") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                folder, slash, name = info.name.removeprefix("./").rpartition("/")
                stem, dot, ending = name.partition(".")
                if info.isdir() or not stem or not dot:
                    continue
                key = f"{folder}{slash}{stem}"
                is_image = f".{ending.lower()}" in EXTENSIONS
                if not is_image and ending != "cls":
                    continue
                if not info.isreg() or info.issparse():
                    raise DataError(
                        f"{shown(shard)} member {shown(info.name)} is a link or sparse: "
                        "pack plain files"
                    )
                if key in (images if is_image else classes):
                    raise DataError(
                        f"{shown(shard)} holds sample {shown(key)} twice ({shown(info.name)}): "
                        "keep one"
                    )
                member = _Member(shard, info.offset_data, info.size)
                if is_image:
                    images[key] = member
                else:
                    classes[key] = _label(file, member, info.name)
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
        raise DataError(
            f"{shown(shard)} can't be read ({error.strerror}): check the file"
        ) from None
    return images, classes


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


def _label(file: IO[bytes], member: _Member, name: str) -> int:
    text = b""
    if member.size < 2 * _LABEL_DIGITS:
        # The reader finds its place again for each header.
        file.seek(member.offset)
        data = file.read(member.size)
        if len(data) != member.size:
            raise _cut_short(member)
        text = data.strip()
    if len(text) > _LABEL_DIGITS or not text.isdigit():
        raise DataError(
            f"{shown(member.shard)} member {shown(name)} holds no class index: write it as digits"
        )
    return int(text)


def _read(member: _Member) -> bytes:
    check_file(member.size, f"an image in {shown(member.shard)}")
    try:
        with open(member.shard, "rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise DataError(
            f"{shown(member.shard)} can't be read ({error.strerror}): check the file"
        ) from None
    if len(data) != member.size:
        raise _cut_short(member)
    return data


def _cut_short(member: _Member) -> DataError:
    return DataError(f"{shown(member.shard)} is cut short: copy or pack it again")
