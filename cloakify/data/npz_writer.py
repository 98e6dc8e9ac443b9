"""Write a ``.npz`` file with an array whose rows come one batch after another.

`numpy.savez` wants the whole array in memory. The file is the same: uncompressed members in the
``.npy`` format, without a time of their own, so that the same arrays make the same bytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray


class NpzWriter:
    """Writes arrays, one after another, to an open binary file; ends with the ``with`` block."""

    def __init__(self, file: BinaryIO) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)

    def __enter__(self) -> NpzWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def put(self, name: str, array: NDArray[np.generic]) -> None:
        """Write a whole array."""
        with self._archive.open(_entry(name), "w", force_zip64=True) as member:
            npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)

    @contextmanager
    def rows(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
    ) -> Iterator[Callable[[NDArray[np.generic]], None]]:
        """Yield what writes the next rows of an array.

        Parameters
        ----------
        shape
            Of the whole array.

        Raises
        ------
        ValueError
            Rows of another shape were given, or not as many as announced.
        """
        header = {
            "descr": npy_format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        written = 0
        with self._archive.open(_entry(name), "w", force_zip64=True) as member:
            npy_format.write_array_header_1_0(member, header)

            def write(part: NDArray[np.generic]) -> None:
                nonlocal written
                if part.shape[1:] != shape[1:]:
                    raise ValueError(f"rows of shape {part.shape[1:]} for {name!r} of {shape}")
                written += len(part)
                member.write(part.astype(dtype, copy=False).tobytes())

            yield write
        if written != shape[0]:
            raise ValueError(f"{written} rows were written for {name!r} of {shape}")


def _entry(name: str) -> zipfile.ZipInfo:
    # Without a date of its own an entry has 1980's.
    return zipfile.ZipInfo(f"{name}.npy")
