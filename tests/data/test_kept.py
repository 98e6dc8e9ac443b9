"""Samples that are kept in temporary files: there may be no room for them."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest

from cloakify.data import kept
from cloakify.data.kept import KeptImages, KeptRows, KeptTexts
from cloakify.errors import DataError


class Full(io.RawIOBase):
    """A file on a full disk; what is buffered before it, it does not know of."""

    def readable(self) -> bool:
        return True

    writable = seekable = readable

    def seek(self, place: int, whence: int = 0) -> int:
        return place

    def tell(self) -> int:
        return 0

    def write(self, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def rows() -> object:
    held = KeptRows("here")
    held.add(np.ones((2, 3)), "here")
    return held.stored()


def texts() -> object:
    held = KeptTexts()
    held.extend(["one", "two"])
    return held[1]


def images() -> object:
    held = KeptImages()
    held.add(b"image")
    return held.source(Path("here"), None, None)


@pytest.mark.parametrize("keep", [rows, texts, images])
def test_a_full_disk_is_told_before_anything_is_read(monkeypatch, keep) -> None:
    monkeypatch.setattr(kept, "temporary_file", lambda: io.BufferedRandom(Full()))
    with pytest.raises(DataError, match=r"can't be kept in .* \(No space left.*: set TMPDIR"):
        keep()
