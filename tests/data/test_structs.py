"""Columns of structs, decimals, categoricals and lists under any name are the numbers in them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
ipc = pytest.importorskip("pyarrow.ipc")

ROWS = 5
KINDS = ("parquet", "feather", "arrow")


def write(path: Path, table: Any) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=2)
        return path
    make = ipc.new_file if path.suffix == ".feather" else ipc.new_stream
    with make(str(path), table.schema) as writer:
        writer.write_table(table, 2)
    return path


def opened(path: Path, *shape: int) -> Dataset:
    spec = InputSpec("x", (None, *shape), np.dtype(np.float32), None)
    return open_data(path, spec, Preprocessing(), box=None)


def samples(data: Dataset) -> np.ndarray:
    return np.concatenate([batch.x for batch in data.batches()])


keys = st.sampled_from("abcd")
shapes = st.recursive(
    st.just(None), lambda inner: st.dictionaries(keys, inner, min_size=1), max_leaves=5
)


def filled(shape: Any, draw: Any) -> Any:
    if shape is None:
        return draw()
    return {key: filled(inner, draw) for key, inner in shape.items()}


def leaves(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [float(value)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data(), shapes.filter(lambda shape: shape is not None), st.sampled_from(KINDS))
def test_structs_are_their_numbers_in_order(
    tmp_path: Path, data: st.DataObject, shape: dict[str, Any], kind: str
) -> None:
    rows = [
        {"s": filled(shape, lambda: data.draw(st.floats(-9, 9, width=32))), "f": float(row)}
        for row in range(ROWS)
    ]
    table = pyarrow.Table.from_pylist([row | {"label": n % 2} for n, row in enumerate(rows)])
    # In the order that the table has: of fields that it finds itself, pyarrow 15 sorts the names.
    rows = table.select(["s", "f"]).to_pylist()
    wanted = np.array([leaves(row) for row in rows], np.float32)
    found = opened(write(tmp_path / f"t.{kind}", table), wanted.shape[1])
    np.testing.assert_array_equal(samples(found), wanted)
    assert found.labels is not None and found.labels.tolist() == [n % 2 for n in range(ROWS)]
    # As lines of JSON have them.
    lines = [json.dumps(row | {"label": n % 2}) for n, row in enumerate(rows)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    np.testing.assert_array_equal(samples(opened(tmp_path / "t.jsonl", wanted.shape[1])), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_decimals_and_categoricals(tmp_path: Path, kind: str) -> None:
    values = [Decimal("0.25") * n for n in range(ROWS)]
    table = pyarrow.table(
        {
            "a": pyarrow.array(values, pyarrow.decimal128(9, 4)),
            "b": pyarrow.array([n % 2 for n in range(ROWS)]).dictionary_encode(),
            "label": pyarrow.array([n % 3 for n in range(ROWS)], pyarrow.decimal128(5, 0)),
        }
    )
    data = opened(write(tmp_path / f"t.{kind}", table), 2)
    wanted = [[0.25 * n, n % 2] for n in range(ROWS)]
    np.testing.assert_array_equal(samples(data), np.array(wanted, np.float32))
    assert data.labels is not None and data.labels.tolist() == [n % 3 for n in range(ROWS)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fixed", [False, True])
def test_the_only_column_may_hold_lists_under_any_name(
    tmp_path: Path, kind: str, fixed: bool
) -> None:
    x = np.random.default_rng(0).random((ROWS, 2, 3)).astype(np.float32)
    type_ = pyarrow.list_(pyarrow.list_(pyarrow.float32(), 3), 2)
    array = pyarrow.array(x.tolist(), type_ if fixed else None)
    table = pyarrow.table({"features": array, "label": list(range(ROWS))})
    np.testing.assert_array_equal(samples(opened(write(tmp_path / f"t.{kind}", table), 2, 3)), x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pyarrow.array([1, 2, 3, None, 5]), "row 3 column 'v' is empty"),
        ([{"a": 1}, {"a": 2}, {"a": 3}, None, {"a": 5}], r"row 3 column 'v\.a' is empty"),
        ([{"a": 1}, {"a": 2}, {"a": 3}, {"a": None}, {"a": 5}], r"row 3 column 'v\.a' is empty"),
        (pyarrow.array([0] * ROWS, pyarrow.timestamp("ms")), r"holds timestamp\[ms\], not numbers"),
        ([[{"a": 1}]] * ROWS, r"row 0 holds struct<a: int64>, not numbers"),
    ],
)
def test_what_is_no_number_is_refused_by_its_row(
    tmp_path: Path, kind: str, column: Any, said: str
) -> None:
    table = pyarrow.table({"v": column, "w": [1.0] * ROWS, "label": [0] * ROWS})
    if "struct" in said:
        table = table.drop_columns(["w"])
    with pytest.raises(DataError, match=said):
        samples(opened(write(tmp_path / f"t.{kind}", table), 2))


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_label_is_refused_by_its_row(tmp_path: Path, kind: str) -> None:
    table = pyarrow.table({"v": [1.0] * ROWS, "label": [0, 1, 0, 1, None]})
    with pytest.raises(DataError, match=r"row 4 column 'label' is empty"):
        opened(write(tmp_path / f"t.{kind}", table), 1)


def test_shards_whose_structs_differ(tmp_path: Path) -> None:
    write(tmp_path / "0.parquet", pyarrow.table({"s": [{"a": 1, "b": 2}], "label": [0]}))
    write(tmp_path / "1.parquet", pyarrow.table({"s": [{"b": 4, "a": 3}], "label": [1]}))
    np.testing.assert_array_equal(samples(opened(tmp_path, 2)), [[1, 2], [3, 4]])
    write(tmp_path / "2.parquet", pyarrow.table({"s.a": [1], "s.b": [2], "label": [0]}))
    with pytest.raises(DataError, match=r"column 's\.a' elsewhere"):
        opened(tmp_path, 2)


def test_a_name_with_a_dot_of_its_own_is_left_alone(tmp_path: Path) -> None:
    table = pyarrow.table({"s": [{"a": 1}], "s.a": [2], "label": [0]})
    with pytest.raises(DataError, match="column 's' holds struct"):
        opened(write(tmp_path / "t.feather", table), 1)
