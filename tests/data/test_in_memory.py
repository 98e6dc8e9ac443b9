"""Samples that Python holds as a whole are those of a file with the same arrays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
IMAGES = InputSpec("input", (None, 1, 4, 4), np.dtype(np.float32), 1)
NUMBERS = InputSpec("input", (None, 3), np.dtype(np.float32), None)
COUNT = 11


class Column:
    """A tensor or a column of a table: NumPy makes an array of it, and it has a shape."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values
        self.shape = values.shape

    def __len__(self) -> int:
        return len(self._values)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._values


def picture(x: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(x[0] * 255).astype(np.uint8))


Make = Callable[[np.ndarray, np.ndarray], Any]
WHOLE: dict[str, Make] = {
    "a pair": lambda x, y: (x, y),
    "a list of two": lambda x, y: [x, y],
    "labels in a list": lambda x, y: (x, y.tolist()),
    "a column": lambda x, y: (x, y[:, None]),
    "tensors": lambda x, y: (Column(x), Column(y)),
    "lists": lambda x, y: (list(x), y.tolist()),
    "the channel behind": lambda x, y: (x.transpose(0, 2, 3, 1), y),
    "a mapping": lambda x, y: {"x": x, "y": y},
    "a mapping by the input's name": lambda x, y: {"input": x, "label": Column(y)},
    "a mapping of lists": lambda x, y: {"input": list(x), "label": y.tolist()},
    "pairs": lambda x, y: list(zip(x, y, strict=True)),
    "pictures": lambda x, y: (list(map(picture, x)), y.tolist()),
    "a mapping of pictures": lambda x, y: {"image": list(map(picture, x)), "label": y.tolist()},
}


@pytest.mark.parametrize("count", [2, 3, COUNT])
@pytest.mark.parametrize("how", WHOLE)
def test_what_is_held_is_a_file_of_it(tmp_path: Path, how: str, count: int) -> None:
    if count == 2 and how in ("lists", "pictures"):
        pytest.skip("two lists of two may be two pairs")
    random = np.random.default_rng(count)
    # Pixels that bytes can hold.
    x = random.integers(0, 256, (count, 1, 4, 4)).astype(np.float32) / np.float32(255)
    y = random.integers(0, 3, count)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    expected = open_data(tmp_path / "d.npz", IMAGES, PLAIN)
    data = open_data(WHOLE[how](x, y), IMAGES, PLAIN)
    assert data.labels.tolist() == expected.labels.tolist()
    found, wanted = (next(each.batches(batch_size=count)).x for each in (data, expected))
    np.testing.assert_array_equal(found, wanted)


def test_an_open_archive_is_the_archive(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).random((COUNT, 1, 4, 4), np.float32), np.arange(COUNT) % 2
    np.savez(tmp_path / "d.npz", x=x, y=y)
    with np.load(tmp_path / "d.npz") as archive:
        data = open_data(archive, IMAGES, PLAIN)
    np.testing.assert_array_equal(next(data.batches(batch_size=COUNT)).x, x)
    assert data.labels.tolist() == y.tolist()


def test_two_samples_or_batches_without_labels_are_no_pair() -> None:
    rows = np.random.default_rng(0).random((2, 5, 3), np.float32)
    data = open_data((rows[0], rows[1]), NUMBERS, PLAIN, labels="model")
    np.testing.assert_array_equal(next(data.batches(batch_size=10)).x, rows.reshape(10, 3))
    data = open_data((rows[0, 0], rows[0, 1]), NUMBERS, PLAIN, labels="model")
    assert len(data) == 2
    # Labels that nobody asks for.
    data = open_data((rows[0], np.zeros(5, int)), NUMBERS, PLAIN, labels="model")
    assert len(data) == 5 and data.labels is None


def pandas_frame(x: np.ndarray, y: np.ndarray) -> Any:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(x)
    frame["label"] = y
    # What is left of another table goes by other numbers.
    return frame.set_index(np.arange(len(x)) + 100)


def polars_frame(x: np.ndarray, y: np.ndarray) -> Any:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({f"c{n}": column for n, column in enumerate(x.T)} | {"label": y})


def arrow_table(x: np.ndarray, y: np.ndarray) -> Any:
    arrow = pytest.importorskip("pyarrow")
    return arrow.table({f"c{n}": column for n, column in enumerate(x.T)} | {"label": y})


@pytest.mark.parametrize("make", [pandas_frame, polars_frame, arrow_table])
def test_a_table_is_its_file(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x, y = np.random.default_rng(0).random((COUNT, 3), np.float32), np.arange(COUNT) % 3
    data = open_data(make(x, y), NUMBERS, PLAIN)
    np.testing.assert_array_equal(next(data.batches(batch_size=COUNT)).x, x)
    assert data.labels.tolist() == y.tolist()
    assert str(tmp_path) not in str(data.path)
    del data
    assert not os.listdir(tmp_path)


def test_columns_of_a_table_are_a_pair_as_well() -> None:
    frame = pandas_frame(np.eye(3, dtype=np.float32), np.array([2, 1, 0]))
    data = open_data((frame[[0, 1, 2]], frame["label"]), NUMBERS, PLAIN)
    np.testing.assert_array_equal(next(data.batches(batch_size=3)).x, np.eye(3))
    assert data.labels.tolist() == [2, 1, 0]


@pytest.mark.parametrize("how", ["array", "list", "objects", "pandas", "polars"])
def test_labels_may_be_text(how: str) -> None:
    texts = ["dog", "cat", "eel", "cat"]
    made: dict[str, Callable[[], Any]] = {
        "array": lambda: np.array(texts),
        "list": lambda: texts,
        "objects": lambda: np.array(texts, object),
        "pandas": lambda: pytest.importorskip("pandas").Series(texts),
        "polars": lambda: pytest.importorskip("polars").Series(texts),
    }
    data = open_data((np.zeros((4, 3), np.float32), made[how]()), NUMBERS, PLAIN)
    assert data.class_names == ("cat", "dog", "eel") and data.labels.tolist() == [1, 0, 2, 0]


X, Y = np.zeros((4, 1, 4, 4), np.float32), np.zeros(4, int)
REFUSED: dict[str, tuple[Any, str]] = {
    "too few labels": ((X, Y[:-1]), "<tuple> holds 4 samples and 3 labels"),
    "another shape": ((X[:, :, :3], Y), r"samples of shape \(1, 3, 4\)"),
    "splits": ({"train": (X, Y), "test": (X, Y)}, "<dict> holds train, test: give one of them"),
    "columns of several lengths": ({"x": X, "y": Y[:2]}, "4 of x, 2 of y: give as many of all"),
    "nothing": (None, r"<NoneType> gives no samples but NoneType: give a pair of arrays \(x, y\)"),
    "an empty mapping": ({}, "<dict> holds no samples"),
    "no labels": (X, "has no label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_data_is_one_line(case: str) -> None:
    data, said = REFUSED[case]
    with pytest.raises(DataError, match=said) as caught:
        open_data(data, IMAGES, PLAIN)
    assert "\n" not in str(caught.value)
