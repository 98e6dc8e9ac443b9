"""Several arrays a sample: they belong together in order, limit and digest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

IDS = InputSpec("ids", (None, None), np.dtype(np.int64), None)
MASK = InputSpec("mask", (None, 3), np.dtype(np.float32), None)
ARRAYS = {
    "ids": np.arange(24).reshape(8, 3),
    "mask": np.arange(24, dtype=np.float64).reshape(8, 3) * 2,
    "y": np.arange(8) % 2,
}


def opened(path: Path, **changes: object):
    np.savez(path, **{**ARRAYS, **changes})
    return open_data(path, IDS, Preprocessing(), box=None, limit=4, seed=1, others=[MASK])


def test_rows_belong_together(tmp_path: Path):
    data = opened(tmp_path / "d.npz")
    found = data.inputs(np.array([2, 0]))
    np.testing.assert_array_equal(found["ids"], ARRAYS["ids"][data.rows[[2, 0]]])
    np.testing.assert_array_equal(found["mask"], found["ids"] * 2)
    assert found["mask"].dtype == np.float32


def test_batches_hold_what_is_made_of_all_inputs(tmp_path: Path):
    data = opened(tmp_path / "d.npz").packed(lambda i: (i["ids"] - i["mask"]).astype("f"), (3,))
    assert data.sample_shape == (3,)
    for batch in data.batches(batch_size=3):
        np.testing.assert_array_equal(batch.x, -ARRAYS["ids"][data.rows[batch.index]])


def test_digest_and_copies_look_at_every_array(tmp_path: Path):
    first = opened(tmp_path / "a.npz")
    assert opened(tmp_path / "b.npz").sha256 == first.sha256
    assert opened(tmp_path / "c.npz", mask=ARRAYS["mask"] + 1).sha256 != first.sha256
    ids = np.zeros((8, 3), np.int64)
    assert len(opened(tmp_path / "d.npz", ids=ids).distinct) == 4
    same = {"ids": ids, "mask": np.zeros((8, 3))}
    assert len(opened(tmp_path / "e.npz", **same).distinct) == 1


def test_every_form_that_can_hold_several_arrays_gives_the_same(tmp_path: Path):
    whole = opened(tmp_path / "d.npz").sha256
    folder = tmp_path / "folder"
    folder.mkdir()
    np.save(folder / "x.npy", ARRAYS["ids"])
    np.save(folder / "y.npy", ARRAYS["y"])
    forms = [folder]
    with pytest.raises(DataError, match=r"holds x, y, but the model also takes 'mask'"):
        open_data(folder, IDS, Preprocessing(), box=None, others=[MASK])
    np.save(folder / "mask.npy", ARRAYS["mask"])
    pa = pytest.importorskip("pyarrow")
    table = pa.table({name: array.tolist() for name, array in ARRAYS.items()})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "d.parquet")
    with pa.ipc.new_stream(str(tmp_path / "d.arrow"), table.schema) as writer:
        writer.write_table(table, 3)
    forms += [tmp_path / "d.parquet", tmp_path / "d.arrow"]
    forms.append([{name: array[n] for name, array in ARRAYS.items()} for n in range(8)])
    for form in forms:
        data = open_data(form, IDS, Preprocessing(), box=None, limit=4, seed=1, others=[MASK])
        assert data.sha256 == whole
        found = data.inputs(np.arange(4))
        np.testing.assert_array_equal(found["mask"], found["ids"] * 2)


def test_what_holds_one_array_is_not_enough(tmp_path: Path):
    (tmp_path / "d.csv").write_text("a,b,c,y\n1,2,3,0\n")
    with pytest.raises(DataError, match=r"takes further inputs \(mask\): give a .npz file"):
        open_data(tmp_path / "d.csv", IDS, Preprocessing(), box=None, others=[MASK])


def test_whole_numbers_that_do_not_fit(tmp_path: Path):
    small = InputSpec("ids", (None, 3), np.dtype(np.int8), None)
    np.savez(tmp_path / "d.npz", **{**ARRAYS, "ids": ARRAYS["ids"] + 120})
    data = open_data(tmp_path / "d.npz", small, Preprocessing(), box=None)
    assert data.inputs(np.array([0]))["ids"].dtype == np.int8
    with pytest.raises(DataError, match="row 2 holds 128, which int8 can't hold"):
        data.inputs(np.arange(8))


def test_ids_of_several_lengths_are_padded_where_a_mask_tells(tmp_path: Path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    ids = [[1, 2, 3], [4], [5, 6]]
    table = pa.table({"ids": ids, "mask": [[1.0] * len(row) for row in ids], "y": [0, 1, 0]})
    parquet.write_table(table, tmp_path / "d.parquet")

    def read(**options: object):
        return open_data(tmp_path / "d.parquet", IDS, Preprocessing(), box=None, **options)

    found = read(others=[MASK], ids=True).inputs(np.arange(3))
    assert found["ids"].tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert found["mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    with pytest.raises(DataError, match="1 to 3 ids, and the model takes no mask"):
        read(ids=True)
    with pytest.raises(DataError, match=r"row 1 has shape \(1,\) but the first row has \(3,\)"):
        read(others=[MASK]).inputs(np.arange(3))


def columns(path: Path, names: Sequence[str], kind: str) -> Path:
    """Write columns that count on, and labels; return the file."""
    table = {name: np.arange(6, dtype=np.float32) + place for place, name in enumerate(names)}
    table["label"] = np.arange(6) % 2
    if kind == "csv":
        rows = np.column_stack(list(table.values()))
        header = ",".join(table)
        np.savetxt(path / "t.csv", rows, "%g", delimiter=",", header=header, comments="")
        return path / "t.csv"
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.table(table), path / "t.parquet")
    return path / "t.parquet"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_input_for_each_column(tmp_path: Path, kind: str) -> None:
    """As scikit-learn's pipelines of columns are exported, whatever the order of the columns."""
    spec, *others = (InputSpec(n, (None, 1), np.dtype(np.float32), None) for n in ("b", "a", "d"))
    path = columns(tmp_path, ["a", "b", "c", "d"], kind)
    data = open_data(path, spec, Preprocessing(), box=None, others=others)
    inputs = data.inputs(np.array([0, 4]))
    for place, name in enumerate(("a", "b", "c", "d")):
        if name != "c":
            np.testing.assert_array_equal(inputs[name], [[place], [4 + place]])
    assert any("c is left out, as no input is called so" in note for note in data.notes)
    # Where one is called otherwise nothing is guessed.
    named = InputSpec("e", (None, 1), np.dtype(np.float32), None)
    with pytest.raises(DataError, match="takes further inputs"):
        open_data(path, spec, Preprocessing(), box=None, others=[others[0], named])
    two = columns(tmp_path, ["a", "z"], kind)
    with pytest.raises(DataError, match="takes further inputs"):
        open_data(two, others[0], Preprocessing(), box=None, others=[named])
