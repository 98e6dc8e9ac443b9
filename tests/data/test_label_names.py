"""By which names columns of labels and of images are found, and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
TWO = InputSpec("x", (None, 2), np.dtype(np.float32), None)
IMAGES = InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1)
ROWS = np.random.default_rng(0).random((6, 2)).round(3)
CLASSES = ["b", "a", "b", "c", "a", "b"]


def table(folder: Path, header: str, labels: list[str] = CLASSES) -> Path:
    file = folder / "t.csv"
    rows = [f"{x},{y},{label}" for (x, y), label in zip(ROWS.tolist(), labels, strict=True)]
    file.write_text("\n".join([header, *rows]))
    return file


@pytest.mark.parametrize(
    "name", ["species", "Outcome", "diagnosis", "category", "class_name", "ClassName", "Survived"]
)
def test_the_only_column_that_labels_may_be_called_as(tmp_path: Path, name: str) -> None:
    data = open_data(table(tmp_path, f"u,v,{name}"), TWO, PLAIN, box=None)
    assert [data.class_names[label] for label in data.labels] == CLASSES
    assert any(f"the labels are the column {name}" in note for note in data.notes)
    np.testing.assert_allclose(data.batch(np.arange(6)).x, ROWS, rtol=1e-6)


def test_better_names_come_first_and_of_two_likely_ones_none_is_taken(tmp_path: Path) -> None:
    data = open_data(table(tmp_path, "outcome,v,label"), TWO, PLAIN, box=None)
    assert data.class_names == ("a", "b", "c") and not data.notes
    with pytest.raises(DataError, match="no column of labels"):
        open_data(table(tmp_path, "outcome,v,species"), TWO, PLAIN, box=None)


@pytest.mark.parametrize(
    ("header", "labels", "said"),
    [
        ("u,v,income", CLASSES, "if 'income' is that, pass --labels income, else"),
        ("u,v,my class", CLASSES, "pass --labels 'my class', else"),
        # The last one of as many numbers as the model takes and one more.
        ("u,v,price", list("010110"), "if 'price' is that"),
    ],
)
def test_what_could_be_the_labels_is_told_and_not_taken(
    tmp_path: Path, header: str, labels: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=f"no column of labels .*{said}"):
        open_data(table(tmp_path, header, labels), TWO, PLAIN, box=None)


def test_a_column_is_named_in_any_case_if_it_is_one(tmp_path: Path) -> None:
    data = open_data(table(tmp_path, "u,v,My Class"), TWO, PLAIN, labels="my class", box=None)
    assert data.class_names == ("a", "b", "c")
    both = table(tmp_path, "Kind,v,kind")
    assert open_data(both, TWO, PLAIN, labels="kind", box=None).class_names == ("a", "b", "c")
    with pytest.raises(DataError, match="has no column 'KIND'"):
        open_data(both, TWO, PLAIN, labels="KIND", box=None)
    np.savez(tmp_path / "d.npz", x=ROWS.astype(np.float32), Outcome=[0, 1, 0, 1, 0, 1])
    data = open_data(tmp_path / "d.npz", TWO, PLAIN, labels="outcome", box=None)
    assert data.labels.tolist() == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize("header", ["file_name,label", "image,label", "id,class", "scan,species"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_folders_list_goes_by_its_names_of_images(
    tmp_path: Path, header: str, turned: bool
) -> None:
    for number in range(6):
        Image.new("L", (4, 4), 40 * number).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{CLASSES[number]}" for number in (3, 1, 0, 5, 4, 2)]
    lines = [",".join(line.split(",")[::-1]) if turned else line for line in (header, *rows)]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    data = open_data(tmp_path, IMAGES, PLAIN)
    assert data.class_names == ("a", "b", "c")
    pixels = data.batch(np.arange(6)).x[:, 0, 0, 0]
    for label, value in zip(data.labels, pixels, strict=True):
        assert data.class_names[label] == CLASSES[round(float(value) * 255) // 40]
    told = any("the images are those of column" in note for note in data.notes)
    assert told == (not header.startswith("file_name"))


def test_a_folders_list_without_names_is_told(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "metadata.csv").write_text("label,age\n1,7\n")
    with pytest.raises(DataError, match="has no column 'file_name'"):
        open_data(tmp_path, IMAGES, PLAIN)
