"""What is written row by row reads as what NumPy writes at once."""

from __future__ import annotations

import io

import numpy as np
import pytest

from cloakify.data.npz_writer import NpzWriter


def written(parts: list[np.ndarray], shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    with NpzWriter(file) as archive:
        with archive.rows("x", shape, np.dtype("f4")) as write:
            for part in parts:
                write(part)
        archive.put("y", np.arange(5))
        archive.put("tensor", np.array("name"))
    return file.getvalue()


@pytest.mark.parametrize("cuts", [[], [2], [1, 1, 4], [0, 5]])
def test_reads_as_the_whole(cuts: list[int]) -> None:
    x = np.random.default_rng(0).random((5, 2, 3), np.float32)
    content = written(np.split(x, cuts), x.shape)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert set(arrays) == {"x", "y", "tensor"}
        np.testing.assert_array_equal(arrays["x"], x)
        np.testing.assert_array_equal(arrays["y"], np.arange(5))
        assert arrays["tensor"] == "name"
    assert content == written([x], x.shape)


def test_other_rows_than_announced() -> None:
    with pytest.raises(ValueError, match="3 rows"):
        written([np.zeros((3, 2))], (4, 2))
    with pytest.raises(ValueError, match="shape"):
        written([np.zeros((4, 3))], (4, 2))
