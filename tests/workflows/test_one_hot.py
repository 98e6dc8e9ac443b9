"""One-hot labels are classes where the model has classes, labels where it has labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from cloakify.data.labels import labels_of_numbers
from cloakify.data.sanity import read_labels
from cloakify.errors import DataError
from cloakify.settings import AttackSetting
from cloakify.workflows.attack import attack

pandas = pytest.importorskip("pandas")

NAMES = ("cat", "Öl", "ant")
WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
X = np.random.default_rng(1).random((120, 4), np.float32)
Y = (X @ WEIGHTS).argmax(axis=1)
ONE_HOT = np.eye(3, dtype=np.int64)[Y]
ENDS = {"softmax": "p = Softmax <axis = 1> (z)", "sigmoid": "p = Sigmoid (z)", "bare": ""}


def model(folder: Path, end: str, names: tuple[str, ...] | None = None) -> Path:
    answer = "p" if ENDS[end] else "z"
    made = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,3] {answer}) {{ r = Relu(x)
        z = MatMul(r, w)
        {ENDS[end]} }}"""
    )
    made.graph.initializer.append(numpy_helper.from_array(WEIGHTS, "w"))
    if names is not None:
        onnx.helper.set_model_props(made, {"names": ",".join(names)})
    onnx.save(made, folder / f"{end}.onnx")
    return folder / f"{end}.onnx"


def frame(folder: Path, labels: object, ending: str) -> Path:
    table = pandas.DataFrame(X, columns=list("abcd"))
    table = pandas.concat([table, labels], axis=1)
    path = folder / f"t.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    return path


def arrays(dtype: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        np.savez(folder / "d.npz", x=X, y=ONE_HOT.astype(dtype))
        return folder / "d.npz"

    return write


def dummies(prefix: str, ending: str, **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        names = pandas.Series([NAMES[y] for y in Y])
        return frame(folder, pandas.get_dummies(names, prefix=prefix, **options), ending)

    return write


def numbered(folder: Path) -> Path:
    return frame(folder, pandas.DataFrame(ONE_HOT, columns=["y0", "y1", "y2"]), "csv")


def listed(ending: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        return frame(folder, pandas.Series(ONE_HOT.tolist(), name="label"), ending)

    return write


# Labels of columns that have names, and of those that are numbered.
NAMED = {
    "booleans": dummies("label", "csv"),
    "numbers": dummies("class", "csv", dtype=int),
    "separated otherwise": dummies("Target", "csv", prefix_sep="."),
    "Parquet": dummies("label", "parquet"),
    "Parquet of bytes": dummies("y", "parquet", dtype=np.uint8),
    "Parquet of floats": dummies("label", "parquet", dtype=float),
}
PLAIN = {
    **{dtype: arrays(dtype) for dtype in ("int64", "uint8", "bool", "float32", "float64")},
    "numbered": numbered,
    "lists": listed("csv"),
    "lists in Parquet": listed("parquet"),
}


def clean(model: Path, data: Path, folder: Path, **options: object) -> tuple[float, np.ndarray]:
    setting = AttackSetting(eps=0.001, steps=1, device="cpu", **options)
    found = attack(model, data, folder / "adv.npz", setting)
    with np.load(folder / "adv.npz") as file:
        return found.clean.value, file["y"]


@pytest.mark.parametrize("form", [*NAMED, *PLAIN])
@pytest.mark.parametrize("end", ["softmax", "bare"])
def test_they_are_classes_where_the_model_has_classes(tmp_path: Path, form: str, end: str) -> None:
    named = form in NAMED
    path = model(tmp_path, end, NAMES if named else None)
    task = {"task": "single"} if end == "bare" else {}
    accuracy, y = clean(path, (NAMED | PLAIN)[form](tmp_path), tmp_path, **task)
    assert accuracy == 1
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("form", [*NAMED, *PLAIN])
def test_they_are_labels_where_the_model_has_labels(tmp_path: Path, form: str) -> None:
    path = model(tmp_path, "sigmoid", NAMES if form in NAMED else None)
    data = (NAMED | PLAIN)[form](tmp_path)
    accuracy, y = clean(path, data, tmp_path, accept_accuracy=True)
    np.testing.assert_array_equal(y, ONE_HOT)
    assert accuracy == (((X @ WEIGHTS) >= 0) == ONE_HOT).all(axis=1).mean()


@pytest.mark.parametrize("form", [*NAMED, *PLAIN])
def test_they_are_asked_for_where_nothing_tells(tmp_path: Path, form: str) -> None:
    with pytest.raises(DataError, match=r"--task single if .* --task multilabel if"):
        clean(model(tmp_path, "bare"), (NAMED | PLAIN)[form](tmp_path), tmp_path)


def test_columns_of_any_name(tmp_path: Path) -> None:
    labels = pandas.DataFrame(ONE_HOT, columns=NAMES)
    data = frame(tmp_path, labels[["ant", "cat", "Öl"]], "csv")
    path = model(tmp_path, "softmax", NAMES)
    for given in ("ant,cat,Öl", "cat, ant,Öl"):
        assert clean(path, data, tmp_path, labels=given)[0] == 1
    data = dummies("species", "csv")(tmp_path)
    assert clean(path, data, tmp_path, labels="species")[0] == 1


def test_columns_without_a_model_that_names_them_are_in_their_order(tmp_path: Path) -> None:
    data = frame(tmp_path, pandas.DataFrame(ONE_HOT, columns=[f"y_{n}" for n in NAMES]), "csv")
    np.testing.assert_array_equal(clean(model(tmp_path, "softmax"), data, tmp_path)[1], Y)


def test_a_class_that_is_missing_or_unknown(tmp_path: Path) -> None:
    kept = Y != 1
    labels = pandas.DataFrame(ONE_HOT[:, [0, 2]], columns=["y_cat", "y_ant"])
    table = pandas.concat([pandas.DataFrame(X, columns=list("abcd")), labels], axis=1)[kept]
    table.to_csv(tmp_path / "t.csv", index=False)
    path = model(tmp_path, "softmax", NAMES)
    np.testing.assert_array_equal(clean(path, tmp_path / "t.csv", tmp_path)[1], Y[kept])
    with pytest.raises(DataError, match="2 labels a sample"):
        clean(model(tmp_path, "sigmoid", NAMES), tmp_path / "t.csv", tmp_path)
    table.rename(columns={"y_ant": "y_bee"}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"classes \(bee\) that the model does not name"):
        clean(path, tmp_path / "t.csv", tmp_path)


@pytest.mark.parametrize("end", ["softmax", "sigmoid", "bare"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_probabilities_are_no_labels(tmp_path: Path, end: str, dtype: str) -> None:
    shares = np.exp(X @ WEIGHTS)
    shares = (shares / shares.sum(axis=1, keepdims=True)).astype(dtype)
    np.savez(tmp_path / "d.npz", x=X, y=shares)
    with pytest.raises(DataError, match="holds probabilities"):
        clean(model(tmp_path, end), tmp_path / "d.npz", tmp_path)


def test_other_numbers_are_refused_by_their_row() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.2]])
    with pytest.raises(DataError, match=r"row 1 holds 0.5"):
        labels_of_numbers(values, "here")
    with pytest.raises(DataError, match=r"row 1 holds 0.5"):
        read_labels(values, 2, "here")


def test_features_of_0_and_1_stay_features(tmp_path: Path) -> None:
    flags = (X > 0.5).astype(int)
    y = (flags.astype(np.float32) @ WEIGHTS).argmax(axis=1)
    table = pandas.DataFrame(flags, columns=["class_1st", "class_2nd", "y_old", "y_new"])
    table["survived"] = y
    table.to_csv(tmp_path / "t.csv", index=False)
    path = model(tmp_path, "softmax")
    np.testing.assert_array_equal(
        clean(path, tmp_path / "t.csv", tmp_path, labels="survived")[1], y
    )
