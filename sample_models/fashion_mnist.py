"""Read Fashion-MNIST from its IDX files, gzipped or plain.

The dataset (Zalando Research, MIT licence) is Debian's package ``dataset-fashion-mnist``; any
folder that holds the four IDX files under their usual names does as well.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# Sorted by name, the folders come in the order of the class indices.
CLASS_FOLDERS = (
    "0_t-shirt",
    "1_trouser",
    "2_pullover",
    "3_dress",
    "4_coat",
    "5_sandal",
    "6_shirt",
    "7_sneaker",
    "8_bag",
    "9_ankle-boot",
)

# What is worn above the waist: t-shirt, pullover, coat, shirt.
SHIRTS = (0, 2, 4, 6)

_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    The format is two zero bytes, a type code, the number of axes, the axes' lengths as big-endian
    32-bit integers, then the data (http://yann.lecun.com/exdb/mnist/).
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    zero, code, axes = struct.unpack_from(">HBB", content)
    if zero != 0 or code != _UNSIGNED_BYTE:
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{axes}I", content, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def load(
    folder: Path, part: Literal["train", "test"]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load one part of the dataset.

    Returns
    -------
    images : uint8 [n, 28, 28], 0 to 255
    labels : int64 [n], 0 to 9
    """
    images = read_idx(_find(folder, f"{_PREFIX[part]}-images-idx3-ubyte"))
    labels = read_idx(_find(folder, f"{_PREFIX[part]}-labels-idx1-ubyte"))
    return images, labels.astype(np.int64)


def to_unit(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map bytes to float32 in [0, 1] as an image loader does: the byte divided by 255."""
    return images.astype(np.float32) / np.float32(255)


def is_shirt(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 1 for what is worn above the waist, 0 for everything else."""
    return np.isin(labels, SHIRTS).astype(np.int64)


def pick_per_class(labels: NDArray[np.int64], per_class: int, seed: int) -> NDArray[np.int64]:
    """Draw `per_class` indices of every class without repetition; sorted."""
    rng = np.random.default_rng(seed)
    picks = [
        rng.choice(np.flatnonzero(labels == k), per_class, replace=False)
        for k in range(int(labels.max()) + 1)
    ]
    return np.sort(np.concatenate(picks))


def add_folder_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--fashion-mnist DIR`` to a script's options."""
    parser.add_argument(
        "--fashion-mnist",
        type=Path,
        default=DEBIAN_FOLDER,
        metavar="DIR",
        help="folder of the four IDX files, gzipped or plain (default: %(default)s)",
    )


def _find(folder: Path, stem: str) -> Path:
    for name in (f"{stem}.gz", stem, stem.replace("-idx", ".idx")):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder}: no {stem}[.gz]; "
        "install Debian's dataset-fashion-mnist or give --fashion-mnist DIR"
    )
