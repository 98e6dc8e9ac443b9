"""Tables: CSV, a DataFrame's Parquet, lists beside images, and how labels are written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.data.labels import labels_of_numbers, labels_of_texts
from cloakify.errors import CloakifyError, DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()


def opened(path: Path, width: int = 3, labels: str = "given") -> Dataset:
    spec = InputSpec("x", (None, width), np.dtype(np.float32), None)
    return open_data(path, spec, PLAIN, labels=labels, box=None)  # type: ignore[arg-type]


def samples(data: Dataset) -> np.ndarray:
    return np.concatenate([batch.x for batch in data.batches()])


def write(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 3, st.integers(0, 9)), min_size=1),
    st.sampled_from(["y", "label", "Target", "class"]),
    st.integers(0, 3),
)
def test_a_csv_comes_back(
    tmp_path: Path, rows: list[tuple[float, ...]], label: str, place: int
) -> None:
    header = ["a", "b", "c"]
    header.insert(place, label)
    table = [[*row[:place], row[3], *row[place:3]] for row in rows]
    data = opened(write(tmp_path / "t.csv", header, table))
    np.testing.assert_array_equal(samples(data), np.array([row[:3] for row in rows], np.float32))
    assert data.labels is not None and data.labels.tolist() == [row[3] for row in rows]


def test_names_of_classes_are_labels(tmp_path: Path) -> None:
    rows = [[1, 2, 3, "dog"], [4, 5, 6, "cat"], [7, 8, 9, "dog"]]
    data = opened(write(tmp_path / "t.csv", ["a", "b", "c", "label"], rows))
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None and data.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3\n", "call that of the labels one of 'y'"),
        ("a,b,c,y\n1,2,3\n", "line 2 has 3 cells"),
        ("a,b,c,y\n1,2,x,0\n", "row 0 column 'c' is 'x', no number"),
        ("a,b,c,y\n1,2,,0\n", "row 0 column 'c' is empty"),
        ("a,b,c,y\n1,2,i.PNG,0\n", "the name of an image: give the images' folder .* by --labels"),
        ("a,b,c,y\n1,2,3,\n", "row 0 has no label"),
        ("a,b,c,y\n1,2,3,0.5\n", "row 0 is 0.5, no class index"),
        ("a,a,c,y\n1,2,3,0\n", "two columns 'a'"),
        ("y\n1\n", "no column but that of the labels"),
        ("a,b,c,y\n", "holds no samples"),
        ("a,b,c,y\n1,2,3,-1\n", "class indices count from 0"),
    ],
)
def test_a_broken_csv_is_one_line(tmp_path: Path, text: str, seen: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=seen) as caught:
        opened(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    try:
        samples(opened(tmp_path / "t.csv"))
    except CloakifyError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["Unnamed: 0", "index", "id", "row_id"])
def test_a_column_that_numbers_the_rows_is_left_out(tmp_path: Path, name: str) -> None:
    """As to_csv and to_parquet of pandas write them; where the model takes as many others."""
    path = write(tmp_path / "t.csv", [name, "a", "b", "c", "y"], [[7, 1, 2, 3, 0]])
    data = opened(path)
    assert samples(data).tolist() == [[1, 2, 3]]
    assert any(f"{name} is left out" in note for note in data.notes)
    assert samples(opened(path, 4)).tolist() == [[7, 1, 2, 3]]
    with pytest.raises(DataError, match=r"of shape \(4\) but input 'x' takes \(2\)"):
        opened(path, 2)


def test_without_labels_their_column_is_no_feature(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ["a", "b", "c", "y"], [[1, 2, 3, "?"]])
    assert samples(opened(path, labels="model")).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("texts", [False, True])
def test_a_data_frame(tmp_path: Path, texts: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    y = np.arange(20) % 2
    columns = {name: values[:, place] for place, name in enumerate("abc")}
    columns["target"] = np.array(["no", "yes"])[y] if texts else y.astype(float)
    columns["__index_level_0__"] = np.arange(20)
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    data = opened(tmp_path / "t.parquet")
    np.testing.assert_array_equal(samples(data), values)
    assert data.labels is not None and data.labels.tolist() == y.tolist()
    assert data.class_names == (("no", "yes") if texts else None)


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_whole_floats_are_class_indices(labels: list[int]) -> None:
    assert labels_of_numbers(np.array(labels, float), "here").tolist() == labels
    assert labels_of_texts([f"{label}.0" for label in labels], "here")[0].tolist() == labels


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1))
def test_names_are_sorted_and_found_again(names: list[str]) -> None:
    texts = [f"_{name}" for name in names]
    labels, classes = labels_of_texts(texts, "here")
    assert classes is not None and list(classes) == sorted(set(texts))
    assert [classes[label] for label in labels] == texts


def images(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(folder / name)


def pixels(path: Path) -> Dataset:
    return open_data(path, InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1), PLAIN)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_list_beside_images(tmp_path: Path, ending: str) -> None:
    images(tmp_path, ["b.png", "a.png", "in/c.png"])
    rows = [["b.png", "dog"], ["in/c.png", "cat"], ["a.png", "dog"]]
    if ending == "csv":
        write(tmp_path / "metadata.csv", ["file_name", "label"], rows)
    else:
        lines = [json.dumps({"file_name": name, "label": label}) for name, label in rows]
        (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    data = pixels(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert data.labels is not None and data.labels.tolist() == [1, 0, 1]
    assert np.rint(samples(data)[:, 0, 0, 0] * 255).tolist() == [0, 2, 1]


@pytest.mark.parametrize("name", ["../out.png", "gone.png", "", "notes.txt", "/etc/x.png"])
def test_a_list_names_images_of_its_folder(tmp_path: Path, name: str) -> None:
    images(tmp_path, ["a.png"])
    (tmp_path / "notes.txt").write_text("")
    write(tmp_path / "metadata.csv", ["file_name", "label"], [["a.png", 0], [name, 1]])
    with pytest.raises(DataError):
        pixels(tmp_path)


def test_of_splits_the_held_out_one_is_taken_and_said(tmp_path: Path) -> None:
    images(tmp_path, ["train/a/0.png", "val/a/1.png", "val/b/2.png", "train/b/3.png"])
    data = pixels(tmp_path)
    assert len(data) == 2 and "the samples are those of val" in " ".join(data.notes)
    images(tmp_path, ["cat/0.png"])
    assert pixels(tmp_path).class_names == ("cat", "train", "val")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(
    st.integers(2, 12).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 1), min_size=k, max_size=k), min_size=1)
    ),
    st.sampled_from(["label_{}", "y{}", "Labels.{}", "list"]),
)
def test_independent_labels_are_columns_or_lists(
    tmp_path: Path, labels: list[list[int]], form: str
) -> None:
    """Columns are taken by number, of which 10 comes behind 9."""
    count = len(labels[0])
    rows = [[row, row + 0.5, -row] for row in range(len(labels))]
    if form == "list":
        header, held = ["label"], [[json.dumps(each)] for each in labels]
    else:
        order = sorted(range(count), key=str)
        header = [form.format(place) for place in order]
        held = [[each[place] for place in order] for each in labels]
    table = write(
        tmp_path / "t.csv",
        ["a", "b", "c", *header],
        [[*row, *each] for row, each in zip(rows, held, strict=True)],
    )
    data = opened(table)
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_allclose(samples(data), rows)
    without = opened(table, labels="model")
    np.testing.assert_allclose(samples(without), rows)


@pytest.mark.parametrize(
    ("header", "row", "seen"),
    [
        (["label_0", "label_1"], ["1", "2"], "0 and 1 for each label"),
        (["label_0", "label_1"], ["1", "cat"], "more than 0 and 1"),
        (["label_0"], ["1"], "no column of labels"),
        (["label"], ["[0, 3]"], "0 and 1 for each label"),
    ],
)
def test_what_are_no_independent_labels_is_one_line(
    tmp_path: Path, header: list[str], row: list[str], seen: str
) -> None:
    rows: list[list[object]] = [[1, 2, 3, *row], [4, 5, 6, *row]]
    with pytest.raises(DataError, match=seen) as error:
        opened(write(tmp_path / "t.csv", ["a", "b", "c", *header], rows))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_what_parts_the_cells_is_found(tmp_path: Path, delimiter: str) -> None:
    rows = [["a", "b", "c", "label"], [1, 2, 3, 0], [4, 5, 6, 1]]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(delimiter.join(map(str, row)) for row in rows))
    data = opened(path)
    np.testing.assert_array_equal(samples(data), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        # The first row would be lost as a header; whole numbers are what pandas may name columns.
        ("0.5,1.5,2.5\n1,2,3\n", "begins with numbers"),
        ("a;b;c;label\n0,5;1,5;2,5;0\n", "decimals with a point"),
    ],
)
def test_numbers_that_are_no_names_or_no_points(tmp_path: Path, text: str, seen: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=seen):
        opened(path, labels="model" if "a" not in text else "given")


def test_whole_numbers_may_be_names(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("0,1,2\n1,2,3\n4,5,6\n")
    np.testing.assert_array_equal(samples(opened(path, labels="model")), [[1, 2, 3], [4, 5, 6]])


_NUMBER = st.floats(-1e3, 1e3, width=32)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.tuples(*[_NUMBER] * 4), st.integers(0, 2)), min_size=1, max_size=9))
def test_lists_and_objects_in_lines_of_json_are_columns(
    tmp_path: Path, rows: list[tuple[tuple[float, ...], int]]
) -> None:
    expected = np.array([values for values, _ in rows], np.float32)
    forms = {
        "list": lambda v: {"x": list(v)},
        "nested": lambda v: {"x": [list(v[:2]), list(v[2:])]},
        "object": lambda v: {"features": dict(zip("abcd", v, strict=True))},
        "both": lambda v: {"first": v[0], "rest": {"list": list(v[1:])}},
    }
    for name, form in forms.items():
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({**form(values), "label": label}) for values, label in rows]
        path.write_text("\n".join(lines))
        data = opened(path, 4)
        np.testing.assert_array_equal(samples(data), expected)
        assert data.labels is not None
        assert data.labels.tolist() == [label for _, label in rows]


def test_lists_of_several_lengths_are_no_table(tmp_path: Path) -> None:
    path = tmp_path / "ragged.jsonl"
    path.write_text('{"x": [1, 2, 3], "label": 0}\n{"x": [1, 2], "label": 1}\n')
    with pytest.raises(DataError, match="row 1 column 'x' holds 2 numbers, row 0 3"):
        opened(path)
