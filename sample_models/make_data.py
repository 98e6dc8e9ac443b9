"""Write the sample data: ``calib/`` (training images), ``test.npz``, ``shirts.npz`` (test images).

To make them again, byte for byte::

    python sample_models/make_data.py

More calibration images than the 1,000 that are kept here, elsewhere::

    python sample_models/make_data.py --calib-per-class 2000 --out /some/folder
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from fashion_mnist import (
    CLASS_FOLDERS,
    add_folder_option,
    is_shirt,
    load,
    pick_per_class,
    to_unit,
)
from PIL import Image


def write_calibration(source: Path, out: Path, per_class: int, seed: int) -> None:
    """Write ``out/<class>/<index in the training set>.png``, replacing an older folder."""
    images, labels = load(source, "train")
    shutil.rmtree(out, ignore_errors=True)
    for name in CLASS_FOLDERS:
        (out / name).mkdir(parents=True)
    for i in pick_per_class(labels, per_class, seed):
        target = out / CLASS_FOLDERS[labels[i]] / f"{i:05d}.png"
        Image.fromarray(images[i]).save(target, optimize=True)


def write_test(source: Path, out: Path, per_class: int, seed: int) -> None:
    """Write x (float32 [n, 1, 28, 28], in [0, 1]) and y (int64 [n]).

    The bytes depend on the content alone: numpy gives the zip's members a fixed date.
    """
    images, labels = load(source, "test")
    chosen = pick_per_class(labels, per_class, seed)
    np.savez_compressed(out, x=to_unit(images[chosen])[:, None], y=labels[chosen])


def write_shirts(source: Path, out: Path, per_class: int, seed: int) -> None:
    """Write x (float32 [n, 28, 28, 1], in [0, 1]) and y (int64 [n]: 1 above the waist, 0 else)."""
    images, labels = load(source, "test")
    chosen = pick_per_class(is_shirt(labels), per_class, seed)
    np.savez_compressed(out, x=to_unit(images[chosen])[..., None], y=is_shirt(labels[chosen]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write calib/, test.npz and shirts.npz.")
    add_folder_option(parser)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, metavar="DIR")
    parser.add_argument("--calib-per-class", type=int, default=100, metavar="N")
    parser.add_argument("--test-per-class", type=int, default=200, metavar="N")
    parser.add_argument("--shirts-per-class", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    write_calibration(
        options.fashion_mnist, options.out / "calib", options.calib_per_class, options.seed
    )
    write_test(
        options.fashion_mnist, options.out / "test.npz", options.test_per_class, options.seed
    )
    write_shirts(
        options.fashion_mnist, options.out / "shirts.npz", options.shirts_per_class, options.seed
    )


if __name__ == "__main__":
    main()
