"""Files that were cut short, as by a copy that broke off, are refused in one line, never used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError

X = np.random.default_rng(0).random((40, 1, 4, 4), np.float32)
Y = np.arange(40) % 3


def npz(folder: Path) -> Path:
    np.savez(folder / "d.npz", x=X, y=Y)
    return folder / "d.npz"


def compressed(folder: Path) -> Path:
    np.savez_compressed(folder / "d.npz", x=X, y=Y)
    return folder / "d.npz"


def npy(folder: Path) -> Path:
    np.save(folder / "y.npy", Y)
    np.save(folder / "x.npy", X)
    return folder / "x.npy"


def labels(folder: Path) -> Path:
    npy(folder)
    return folder / "y.npy"


def parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"x": X.tolist(), "y": Y})
    pytest.importorskip("pyarrow.parquet").write_table(table, folder / "d.parquet")
    return folder / "d.parquet"


@pytest.mark.parametrize("write", [npz, compressed, npy, labels, parquet])
def test_every_prefix_is_refused(
    tmp_path: Path, spec: Callable[..., object], write: Callable[[Path], Path]
) -> None:
    file = write(tmp_path)
    data = tmp_path if file.suffix == ".npy" else file
    whole = file.read_bytes()
    (batch,) = open_data(data, spec(1, 4, 4), Preprocessing()).batches(batch_size=40)
    np.testing.assert_array_equal(batch.x, X)
    for cut in {0, 1, len(whole) // 2, len(whole) - 1, *range(0, len(whole), len(whole) // 25)}:
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError) as caught:
            list(open_data(data, spec(1, 4, 4), Preprocessing()).batches())
        assert "\n" not in str(caught.value) and file.name in str(caught.value)
