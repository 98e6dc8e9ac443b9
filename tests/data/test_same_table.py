"""The same table, in whatever form it is written, opens to the same samples, labels and names."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.data.open_source import open_source
from cloakify.data.request import Request
from cloakify.data.text_source import TextSource
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

pa = pytest.importorskip("pyarrow")
feather, parquet = (pytest.importorskip(f"pyarrow.{kind}") for kind in ("feather", "parquet"))

Table = dict[str, list[Any]]


def plain(value: Any) -> Any:
    """As Python's own type, a float32 in the digits that tell it from others."""
    return float(str(value)) if isinstance(value, np.float32) else value


def write_csv(folder: Path, table: Table) -> Path:
    with open(folder / "t.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return folder / "t.csv"


def write_lines(folder: Path, table: Table) -> Path:
    rows = (map(plain, row) for row in zip(*table.values(), strict=True))
    lines = [json.dumps(dict(zip(table, row, strict=True))) for row in rows]
    (folder / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "t.jsonl"


def of_arrow(table: Table) -> Any:
    return pa.table({name: pa.array(values) for name, values in table.items()})


def write_parquet(folder: Path, table: Table) -> Path:
    parquet.write_table(of_arrow(table), folder / "t.parquet", row_group_size=3)
    return folder / "t.parquet"


def write_feather(folder: Path, table: Table) -> Path:
    feather.write_feather(of_arrow(table), str(folder / "t.feather"), chunksize=3)
    return folder / "t.feather"


def write_stream(folder: Path, table: Table, name: str = "t.arrow") -> Path:
    made = of_arrow(table)
    with pa.ipc.new_stream(str(folder / name), made.schema) as writer:
        writer.write_table(made, 2)
    return folder / name


def write_saved(folder: Path, table: Table) -> Path:
    saved = folder / "saved"
    saved.mkdir(exist_ok=True)
    middle = -(-len(next(iter(table.values()))) // 2)
    for name, part in (("0.arrow", slice(middle)), ("1.arrow", slice(middle, None))):
        write_stream(saved, {key: values[part] for key, values in table.items()}, name)
    state = {"_data_files": [{"filename": "0.arrow"}, {"filename": "1.arrow"}]}
    (saved / "state.json").write_text(json.dumps(state))
    return saved


def write_hub(folder: Path, table: Table) -> Path:
    (folder / "hub" / "data").mkdir(parents=True, exist_ok=True)
    parquet.write_table(of_arrow(table), folder / "hub" / "data" / "train-00000-of-00001.parquet")
    return folder / "hub"


FORMS: list[Callable[[Path, Table], Path]] = [
    write_csv,
    write_lines,
    write_parquet,
    write_feather,
    write_stream,
    write_saved,
    write_hub,
]

CELLS: list[st.SearchStrategy[Any]] = [
    st.floats(-1e6, 1e6, width=32).map(np.float32),
    st.floats(-1e6, 1e6),
    st.integers(-(2**62), 2**62),
    st.booleans(),
]
LABELS: list[st.SearchStrategy[Any]] = [
    st.integers(0, 9),
    st.integers(0, 9).map(float),
    st.booleans(),
    st.sampled_from(["cat", "dog", " eel", "ßø"]),
    st.lists(st.integers(0, 1), min_size=2, max_size=2),
]
HEADERS = [
    *("a", "b", "x", "image", "img", "y", "label", "Label ", "class", "target", "fine_label"),
    *("label_0", "label_1", "label_x", "__index_level_0__"),
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, str]:
    count = draw(st.integers(1, 9))
    names = draw(st.lists(st.sampled_from(HEADERS), min_size=1, max_size=6, unique=True))
    holder = draw(st.sampled_from([*names, "label"]))
    table: Table = {}
    of_labels = {"y", "label", "Label ", "class", "target", "fine_label"}.intersection(names)
    # A list that is no label may be an array, which has a type where it is stored, in a CSV none.
    lists = len(of_labels) == 1 and holder not in set(names) - of_labels
    for name in names:
        cells = draw(st.sampled_from(CELLS))
        if name in of_labels:
            cells = draw(st.sampled_from(LABELS if lists else LABELS[:-1]))
        elif name == holder:
            cells = draw(st.sampled_from(LABELS[:-1]))
        elif name.startswith("label_"):
            cells = draw(st.sampled_from([st.integers(0, 1), st.booleans()]))
        table[name] = draw(st.lists(cells, min_size=count, max_size=count))
    return table, draw(st.sampled_from(["given", "given", "model", holder]))


def opened(path: Path, width: int | None, labels: str) -> Dataset:
    spec = InputSpec("in", (None, width), np.dtype(np.float32), None)
    return open_data(path, spec, Preprocessing(), labels=labels, box=None)


def seen(path: Path, width: int, labels: str) -> tuple[Any, ...] | None:
    """Samples, labels, names and digest; ``None`` where it is refused."""
    try:
        data = opened(path, width, labels)
    except DataError as error:
        assert "\n" not in str(error)
        return None
    x = np.concatenate([batch.x for batch in data.batches()])
    labelled = data.labels is not None
    return x.tolist(), labelled and data.labels.tolist(), data.class_names, data.sha256


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(tables())
def test_the_same_numbers_in_every_form(tmp_path: Path, drawn: tuple[Table, str]) -> None:
    table, labels = drawn
    for width in range(1, len(table) + 1):
        first, *others = (seen(form(tmp_path, table), width, labels) for form in FORMS)
        for form, other in zip(FORMS[1:], others, strict=True):
            assert other == first, form.__name__


def test_what_is_label_and_what_is_not(tmp_path: Path) -> None:
    """One column is the label, the others that go by such names are features."""
    table: Table = {
        "x": [0.5, 1.5],
        "label": [3, 4],
        "y": [1, 0],
        "__index_level_0__": [7, 8],
        "label_1": [5, 6],
    }
    for form in FORMS:
        path = form(tmp_path, table)
        for labels, features, given_labels in (
            ("given", [[0.5, 3, 5], [1.5, 4, 6]], [1, 0]),
            ("label", [[0.5, 1, 5], [1.5, 0, 6]], [3, 4]),
            ("model", [[0.5, 3, 5], [1.5, 4, 6]], None),
        ):
            found = seen(path, 3, labels)
            assert found is not None and found[0] == features, form.__name__
            assert found[1] == (given_labels or False)


@pytest.mark.parametrize(
    ("table", "labels", "said"),
    [
        ({"a": [1.0], "b": ["red"], "label": [0]}, "given", "column 'b' .* no(t)? number"),
        ({"a": [1.0], "b": [2.0]}, "given", "has no column of labels"),
        ({"a": [1.0], "label": [0]}, "colour", "has no column 'colour'"),
        ({"label": [0]}, "given", "no column but that of the labels"),
        ({"a": [1.0], "label": [0.5]}, "given", "row 0 is 0.5, no class index"),
        ({"a": [1.0], "label": [""]}, "given", "row 0 has no label"),
        ({"a": [1.0], "label_0": [2], "label_1": [1]}, "given", "0 and 1 for each label"),
        ({"a": [1.0], "label": [[0, 2]]}, "given", "0 and 1 for each label"),
    ],
)
def test_what_is_wrong_is_said_in_every_form(
    tmp_path: Path, table: Table, labels: str, said: str
) -> None:
    for form in FORMS[:5]:
        with pytest.raises(DataError, match=said):
            opened(form(tmp_path, table), None, labels)


@pytest.mark.parametrize("form", FORMS)
def test_numbers_that_are_text_are_labels_like_numbers(
    tmp_path: Path, form: Callable[[Path, Table], Path]
) -> None:
    data = opened(form(tmp_path, {"a": [1.0] * 3, "label": ["10", "2.0", "0"]}), 1, "given")
    assert data.labels is not None and data.labels.tolist() == [10, 2, 0]
    assert data.class_names is None


@pytest.mark.parametrize("form", FORMS)
def test_the_same_text_in_every_form(tmp_path: Path, form: Callable[[Path, Table], Path]) -> None:
    """Where one column holds text it is the sentences, whatever it is called."""
    texts = ["a b", 'ü, "c"', "7", "d\ne"]
    table: Table = {"id": [4, 3, 2, 1], "said": texts, "label": ["no", "yes", "no", "no"]}
    source = open_source(form(tmp_path, table), Request("input_ids", ids=True))
    assert isinstance(source, TextSource)
    assert [source.texts(row) for row in (2, 0, 1, 3)] == [(texts[row],) for row in (2, 0, 1, 3)]
    assert source.labels is not None and source.labels.tolist() == [0, 1, 0, 0]
    assert source.class_names == ("no", "yes")
    of_numbers = {"text": ["1", "2"], "label": [0, 1]}
    source = open_source(form(tmp_path, of_numbers), Request("input_ids", ids=True))
    assert isinstance(source, TextSource) and source.texts(1) == ("2",)


@pytest.mark.parametrize("form", FORMS)
def test_without_labels_columns_are_features_where_the_model_takes_as_many(
    tmp_path: Path, form: Callable[[Path, Table], Path]
) -> None:
    """Titanic's classes, as ``get_dummies`` writes them: features that are called as labels are."""
    table: Table = {"age": [1.5, 2.5, 3.5], "class_1st": [0, 1, 0], "class_2nd": [1, 0, 0]}
    path = form(tmp_path, table)
    taken: dict[int, list[str]] = {3: ["age", "class_1st", "class_2nd"], 1: ["age"]}
    for width, names in taken.items():
        spec = InputSpec("x", (None, width), np.dtype(np.float32), None)
        data = open_data(path, spec, Preprocessing(), labels="model", box=None)
        expected = np.array([table[name] for name in names]).T
        np.testing.assert_array_equal(next(data.batches()).x, expected)
        assert any("left out" in note for note in data.notes) == (width == 1)
    # Where labels are asked for, these are them.
    spec = InputSpec("x", (None, 1), np.dtype(np.float32), None)
    labels = open_data(path, spec, Preprocessing(), box=None).labels
    np.testing.assert_array_equal(labels, [[0, 1], [1, 0], [0, 0]])
