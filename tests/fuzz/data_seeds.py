"""The data that are mutated: a few samples in every format that cloakify reads."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import numpy as np
from PIL import Image

# The files of a data set by their names; the first one's name, or its first folder, is what the
# verb is given.
Files = dict[str, bytes]

SIDE, COUNT = 8, 6


def data_seeds() -> dict[str, Callable[[], Files]]:
    """Return what makes each seed, by name."""
    images = {
        "png": {},
        "jpg": {"quality": 80},
        "bmp": {},
        "gif": {},
        "tiff": {"compression": "tiff_lzw"},
        "webp": {"lossless": True},
        "ppm": {},
    }
    made: dict[str, Callable[[], Files]] = {
        kind: lambda kind=kind, options=options: _folder(kind, options)
        for kind, options in images.items()
    }
    return made | {
        "npz": lambda: {"d.npz": _npz(np.savez)},
        "packed": lambda: {"d.npz": _npz(np.savez_compressed)},
        "npy": lambda: {"d/x.npy": _npy(_arrays()["x"]), "d/y.npy": _npy(_arrays()["y"])},
        "tar": lambda: {"d.tar": _tar()},
        "parquet": lambda: {"d.parquet": _parquet()},
        "parquet images": lambda: {"d.parquet": _parquet_images()},
    }


def _arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    return {
        "x": random.random((COUNT, 1, SIDE, SIDE), np.float32),
        "y": random.integers(0, 4, COUNT),
    }


def _encoded(number: int, kind: str, options: dict[str, object]) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    names = {"jpg": "JPEG", "tiff": "TIFF", "ppm": "PPM"}
    Image.fromarray(pixels).save(file, names.get(kind, kind.upper()), **options)
    return file.getvalue()


def _folder(kind: str, options: dict[str, object]) -> Files:
    return {
        f"d/{number % 4}/{number}.{kind}": _encoded(number, kind, options)
        for number in range(COUNT)
    }


def _npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, **_arrays())
    return file.getvalue()


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for number in range(COUNT):
            members = {"png": _encoded(number, "png", {}), "cls": b"%d" % (number % 4)}
            for ending, data in members.items():
                info = tarfile.TarInfo(f"{number:03}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _parquet() -> bytes:
    import pyarrow
    import pyarrow.parquet

    arrays = _arrays()
    file = io.BytesIO()
    table = pyarrow.table({"x": arrays["x"].tolist(), "label": arrays["y"]})
    pyarrow.parquet.write_table(table, file, row_group_size=4)
    return file.getvalue()


def _parquet_images() -> bytes:
    import pyarrow
    import pyarrow.parquet

    images = [{"bytes": _encoded(n, "png", {}), "path": f"{n}.png"} for n in range(COUNT)]
    file = io.BytesIO()
    table = pyarrow.table({"image": images, "label": [n % 4 for n in range(COUNT)]})
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()
