"""Labels in a file of their own, of every form, give what class folders give."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError

PLAIN = Preprocessing()
CLASSES = ["cat", "dog", "cat", "eel", "dog"]


@pytest.fixture
def flat(tmp_path, pixels):
    folder = tmp_path / "flat"
    (folder / "deep").mkdir(parents=True)
    for number, image in enumerate(pixels(5, 4, 4)):
        place = folder / "deep" if number > 2 else folder
        Image.fromarray(image).save(place / f"im {number}.png")
    return folder


def names(flat):
    return ["im 0.png", "im 1.png", "im 2.png", "deep/im 3.png", "deep/im 4.png"]


def forms():
    pairs = list(zip(names(None), CLASSES, strict=True))
    shuffled = [pairs[place] for place in (3, 0, 4, 2, 1)]
    extra = [*shuffled, ("absent.png", "dog")]
    lines = {
        "csv": "\n".join(["file_name,label", *(f"{n},{c}" for n, c in shuffled)]),
        "bare.csv": "\n".join(f"{n},{c}" for n, c in extra),
        "odd.csv": "\n".join(["weight;Class;Image"] + [f"0.5;{c};{n}" for n, c in shuffled]),
        "two.csv": "\n".join(["label,which"] + [f"{c},./{n}" for n, c in shuffled]),
        "kaggle.csv": "\n".join(["filename,category", *(f"{n},{c}" for n, c in shuffled)]),
        "tsv": "\n".join(["id\tlabel", *(f"{n[:-4]}\t{c}" for n, c in shuffled)]),
        "jsonl": "\n".join(json.dumps({"file_name": n, "label": c}) for n, c in shuffled),
        "json": json.dumps(dict(extra)),
        "txt": "\n".join(f"{n} {c}" for n, c in shuffled) + "\n\n",
        "comma.txt": "\n".join(f"{n}, {c}" for n, c in shuffled),
        "base.txt": "\n".join(f"{os.path.basename(n)}\t{c}" for n, c in extra),
        "windows.txt": "\n".join(f"{n} {c}".replace("/", "\\") for n, c in shuffled),
        "quoted.txt": "\n".join(f'"{n}" "{c}"' for n, c in shuffled),
        "colon.txt": "\n".join(f"{n}: {c}" for n, c in shuffled),
        "bar.txt": "\n".join(f"{n}|{c}" for n, c in shuffled),
        # As DataFrames are saved, with their index; the names stand in a column of any name.
        "frame.csv": "\n".join(
            [",picture,target", *(f"{k},{n},{c}" for k, (n, c) in enumerate(shuffled))]
        ),
        "stems.csv": "\n".join(
            ["fold,scan,target", *(f"{k % 2},{n[:-4]},{c}" for k, (n, c) in enumerate(shuffled))]
        ),
        "ids.csv": "\n".join(
            ["id,photo,class", *(f"{k},{n},{c}" for k, (n, c) in enumerate(shuffled))]
        ),
        "split.csv": "\n".join(
            ["filepath,class_name,split", *(f"{n},{c},val" for n, c in shuffled)]
        ),
        "last.csv": "\n".join(f"{c},{n}" for n, c in shuffled),
        "unknown.csv": "\n".join(["scan,finding", *(f"{n},{c}" for n, c in shuffled)]),
        "records.json": json.dumps([{"picture": n, "label": c} for n, c in shuffled]),
        "pairs.json": json.dumps(shuffled),
        "within.json": json.dumps({"labels": shuffled}),
    }
    return list(lines.items())


@pytest.mark.parametrize(("name", "text"), forms(), ids=[name for name, _ in forms()])
def test_labels_by_name(tmp_path, spec, flat, name, text):
    (tmp_path / f"l.{name}").write_text(text)
    data = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / f"l.{name}"))
    assert data.class_names == ("cat", "dog", "eel")
    assert len(data) == 5 and data.labels is not None
    for row in range(5):
        number = int(data.where(row)[-5])
        assert data.class_names[data.labels[row]] == CLASSES[number]


def _lines():
    return "\n".join(json.dumps({"label": name}) for name in CLASSES)


def ordered():
    return [
        ("l.txt", lambda path: path.write_text("\n".join(CLASSES))),
        ("l.csv", lambda path: path.write_text("label\n" + "\n".join(CLASSES))),
        ("m.csv", lambda path: path.write_text("\n".join(CLASSES))),
        ("l.json", lambda path: path.write_text(json.dumps(CLASSES))),
        ("l.jsonl", lambda path: path.write_text(_lines())),
        ("l.npy", lambda path: np.save(path, np.array(CLASSES))),
        ("l.npz", lambda path: np.savez(path, y=np.array(CLASSES))),
        ("bytes.npy", lambda path: np.save(path, np.array(CLASSES, "S"))),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "write"), ordered(), ids=[name for name, _ in ordered()])
def test_labels_in_order(tmp_path, spec, flat, name, write):
    write(tmp_path / name)
    np.save(tmp_path / "x.in.npy", np.random.default_rng(0).random((5, 1, 4, 4), np.float32))
    for data in (tmp_path / "x.in.npy", flat):
        opened = open_data(data, spec(1, 4, 4), PLAIN, labels=str(tmp_path / name))
        assert opened.class_names == ("cat", "dog", "eel")
        assert opened.labels is not None
        assert [opened.class_names[label] for label in opened.labels] == CLASSES
        told = any("as they sort" in note for note in opened.notes)
        assert told == (data == flat)
    limited = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / name), limit=2)
    assert len(limited) == len(limited.labels) == 2


def test_numbers_by_name(tmp_path, spec, flat):
    """Each list holds the labels in another order than the samples."""
    pairs = [(name, number) for number, name in enumerate(names(flat))][::-1]
    lists = {
        "after.txt": "\n".join(f"{number} {name.split('/')[-1]}" for name, number in pairs),
        "headed.csv": "\n".join(
            ["scan,grade", *(f"{name[:-4]},{number}" for name, number in pairs)]
        ),
    }
    for file, text in lists.items():
        (tmp_path / file).write_text(text)
    for names_in in ("file_names", "paths", "ids"):
        arrays = {names_in: np.array([name for name, _ in pairs]), "y": [n for _, n in pairs]}
        np.savez(tmp_path / f"{names_in}.npz", **arrays)
    for file in (*lists, "file_names.npz", "paths.npz", "ids.npz"):
        data = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / file))
        numbers = [int(data.where(row)[-5]) for row in range(5)]
        assert data.labels.tolist() == numbers, file


def test_texts_that_name_no_samples_leave_the_order(tmp_path, spec, flat):
    rows = [f"{number},remark {number},{number}" for number in range(5)]
    (tmp_path / "l.csv").write_text("\n".join(["fold,remark,label", *rows]))
    np.savez(tmp_path / "l.npz", y=np.arange(5), names=np.array(list("abcde")))
    np.savez(tmp_path / "m.npz", y=np.arange(5), names=np.array(list("abc")))
    for file in ("l.csv", "l.npz", "m.npz"):
        data = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / file))
        assert data.labels.tolist() == list(range(5))


def test_numbers_and_independent_labels(tmp_path, spec):
    np.save(tmp_path / "d.npy", np.random.default_rng(0).random((3, 4), np.float32))
    (tmp_path / "l.txt").write_text("2\n0\n1.0\n")
    data = open_data(
        tmp_path / "d.npy", spec(4, channel_axis=None), PLAIN, labels=f"{tmp_path}/l.txt"
    )
    assert (data.labels.tolist(), data.class_names) == ([2, 0, 1], None)
    many = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0]])
    np.save(tmp_path / "many.npy", many)
    path = str(tmp_path / "many.npy")
    data = open_data(tmp_path / "d.npy", spec(4, channel_axis=None), PLAIN, labels=path)
    np.testing.assert_array_equal(data.labels, many)


def test_a_column_by_its_name(tmp_path, spec):
    (tmp_path / "d.csv").write_text(",a,b,species,label\n0,1,2,eel,0.5\n1,3,4,cat,0.25\n")
    data = open_data(
        tmp_path / "d.csv", spec(3, channel_axis=None), PLAIN, labels="species", box=None
    )
    assert data.class_names == ("cat", "eel") and data.labels.tolist() == [1, 0]
    (batch,) = data.batches()
    assert batch.x.tolist() == [[1, 2, 0.5], [3, 4, 0.25]]
    assert "without a name is left out" in data.notes[0]
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 3), np.float32), fine=[1, 0], y=[5, 5])
    data = open_data(tmp_path / "d.npz", spec(3, channel_axis=None), PLAIN, labels="fine")
    assert data.labels.tolist() == [1, 0]
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"x": [[0.0], [1.0]], "kind": ["b", "a"], "label": [0, 0]}
    parquet.write_table(pa.table(table), tmp_path / "d.parquet")
    data = open_data(tmp_path / "d.parquet", spec(1, channel_axis=None), PLAIN, labels="kind")
    assert data.labels.tolist() == [1, 0] and data.class_names == ("a", "b")
    for file in ("d.csv", "d.npz", "d.parquet"):
        with pytest.raises(
            DataError, match=r"has no column 'kinds' \(--labels\), and there is no file"
        ):
            open_data(tmp_path / file, spec(3, channel_axis=None), PLAIN, labels="kinds")


def test_words_win_over_files_of_their_name(tmp_path, spec, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("given", "model"):
        (tmp_path / name).write_text("1\n1\n")
    np.savez("d.npz", x=np.zeros((2, 3), np.float32), y=[0, 1])
    for word, labels in (("given", [0, 1]), ("model", None)):
        data = open_data("d.npz", spec(3, channel_axis=None), PLAIN, labels=word)
        assert (None if data.labels is None else data.labels.tolist()) == labels


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("l.txt", "", "holds no labels"),
        ("l.txt", "1\n2\n", r"has 2 labels but .*flat has 5 samples"),
        ("l.txt", "a.png 1\nb.png 0\n", r"no label for 5 of 5 samples .*; it names a.png, b.png"),
        (
            "l.txt",
            "".join(f"im {n}.png {n}\n" for n in (0, 1, 2, 4)),
            r"of 5 samples \(deep/im 3\)",
        ),
        ("l.csv", "", "is empty"),
        ("l.csv", "a,b,c\n1,2,3\n", "has columns a, b, c: call that of the labels"),
        ("l.csv", "im 0.png,\nim 1.png,1\n", "row 0 has no label"),
        ("l.json", "3", "is no JSON object of labels by name"),
        ("l.json", '{"a": [1]}', "is no JSON object of labels by name"),
        ("l.json", "[" * 100_000, "is no JSON object of labels by name"),
        ("l.json", '[{"label": 1}, {"lbl": 1}]', "object 2 has not the keys of the first"),
        ("l.csv", ",photo,label\n0,a.png,1\n", "no label for 5 of 5 samples"),
        ("l.npy", "junk", "can't be read"),
        ("l.txt", "\udcff", "is no text in UTF-8"),
        ("l.jsonl", '{"label": 1}\n{"lbl": 1}', "line 2 has not the keys of the first"),
        ("l.txt", "".join(f"im {n}.png {n}\n" for n in (0, 1, 2, 3, 4, 4)), "4 twice: keep one"),
    ],
)
def test_a_list_that_does_not_fit_is_one_line(tmp_path, spec, flat, name, text, said):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=said) as caught:
        open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_name_of_nothing_is_told_where_there_are_no_columns(tmp_path, spec, flat):
    for data in (flat, flat / "deep" / "*.png"):
        with pytest.raises(DataError, match=r"--labels lables.csv is no file, and .* no columns"):
            open_data(data, spec(1, 4, 4), PLAIN, labels="lables.csv")
    np.save(tmp_path / "d.npy", np.zeros((3, 4), np.float32))
    (tmp_path / "l.csv").write_text("a.png,1\nb.png,0\nc.png,1\n")
    with pytest.raises(DataError, match="labels samples by name, but those of"):
        open_data(tmp_path / "d.npy", spec(4, channel_axis=None), PLAIN, labels=f"{tmp_path}/l.csv")


def test_a_column_for_each_class(tmp_path, spec, flat):
    data = open_data(flat, spec(1, 4, 4), PLAIN, labels="model")
    flags = np.random.default_rng(0).integers(0, 2, (len(data), 3))
    rows = [
        f"{name},{','.join(map(str, row))}" for name, row in zip(data.names, flags, strict=True)
    ]
    text = "\n".join(["image_id,rust,scab,Öl", *rows[::-1]])
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    labelled = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / "l.csv"))
    np.testing.assert_array_equal(labelled.labels, flags)
    assert labelled.class_names == ("rust", "scab", "Öl")
    (tmp_path / "l.csv").write_text(text.replace(",rust", ",age").replace(",1,", ",7,"))
    with pytest.raises(DataError, match="call that of the labels 'label'"):
        open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / "l.csv"))


def one_hot(flags: np.ndarray) -> dict[str, str]:
    """Return one-hot labels as text of every form."""
    buffers = {}
    for name, how in {"l.txt": {}, "l.csv": {"delimiter": ","}, "short.txt": {"fmt": "%d"}}.items():
        buffer = io.StringIO()
        np.savetxt(buffer, flags, **how)
        buffers[name] = buffer.getvalue()
    rows = [",".join(map(str, row)) for row in flags.tolist()]
    return {
        **buffers,
        "comma.txt": "\n".join(rows),
        "brackets.txt": "\n".join(f"[{row}]" for row in rows),
        "l.json": json.dumps(flags.tolist()),
        "floats.json": json.dumps({"labels": flags.astype(float).tolist()}),
        "l.jsonl": "\n".join(json.dumps({"label": row}) for row in flags.tolist()),
    }


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", one_hot(np.eye(2)))
def test_one_hot_labels_in_order(tmp_path, spec, name, classes):
    flags = np.eye(classes, dtype=int)[np.random.default_rng(0).integers(0, classes, 7)]
    np.save(tmp_path / "x.npy", np.zeros((7, 4), np.float32))
    (tmp_path / name).write_text(one_hot(flags)[name])
    data = open_data(
        tmp_path / "x.npy", spec(4, channel_axis=None), PLAIN, labels=f"{tmp_path / name}"
    )
    np.testing.assert_array_equal(data.labels, flags)
    assert data.class_names is None
    np.testing.assert_array_equal(data.of_one_hot(classes).labels, flags.argmax(axis=1))


@pytest.mark.parametrize("header", ["cat,dog", "label_cat,label_dog", "cat,dog,eel"])
def test_one_hot_labels_below_their_names(tmp_path, spec, header):
    classes = header.count(",") + 1
    flags = np.eye(classes, dtype=int)[np.random.default_rng(0).integers(0, classes, 7)]
    np.save(tmp_path / "x.npy", np.zeros((7, 4), np.float32))
    (tmp_path / "l.csv").write_text(
        "\n".join([header, *(f"{row}"[1:-1] for row in flags.tolist())])
    )
    data = open_data(
        tmp_path / "x.npy", spec(4, channel_axis=None), PLAIN, labels=f"{tmp_path / 'l.csv'}"
    )
    np.testing.assert_array_equal(data.labels, flags)
    assert data.class_names == tuple(header.replace("label_", "").split(","))


def test_one_hot_labels_by_name(tmp_path, spec, flat):
    flags = np.eye(3, dtype=int)[[2, 0, 1, 1, 0]].tolist()
    pairs = list(zip(names(flat), flags, strict=True))
    for name, text in {
        "l.json": json.dumps(dict(pairs[::-1])),
        "pairs.json": json.dumps(pairs[::-1]),
        "l.txt": "\n".join(f"{name} {' '.join(map(str, row))}" for name, row in pairs[::-1]),
    }.items():
        (tmp_path / name).write_text(text)
        data = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / name))
        for row in range(5):
            assert data.labels[row].tolist() == flags[int(data.where(row)[-5])]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.9 0.1\n0.2 0.8\n0.5 0.5\n0 1\n1 0", "holds probabilities"),
        ("1 0\n0 1\n2 0\n0 1\n1 0", "row 2 holds 2: give a class index"),
        ("16 0\n7\n3\n2\n1", "lists of several lengths"),
    ],
)
def test_several_numbers_a_line_are_no_names_of_classes(tmp_path, spec, flat, text, said):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / "l.txt"))


def test_a_list_of_images_is_never_taken_in_order(tmp_path, spec, flat):
    lines = [f"{name} {label}" for name, label in zip(names(flat), CLASSES, strict=True)][::-1]
    for above in (["name label"], ["# all", "# images"]):
        (tmp_path / "l.txt").write_text("\n".join([*above, *lines]))
        data = open_data(flat, spec(1, 4, 4), PLAIN, labels=f"{tmp_path / 'l.txt'}")
        assert [data.class_names[k] for k in data.labels] == [
            CLASSES[int(data.where(row)[-5])] for row in range(5)
        ]
    (tmp_path / "l.txt").write_text("\n".join([*lines[:4], "cat"]))
    with pytest.raises(DataError, match=r"line 5 \(cat\) names no image, as other lines do"):
        open_data(flat, spec(1, 4, 4), PLAIN, labels=f"{tmp_path / 'l.txt'}")


def written_as(kind: str, names: Sequence[str], labels: np.ndarray) -> str:
    """Return a list as data sets come with it, of names without endings."""
    if kind == "pets":
        rows = [f"{name} {label} 1 {label}" for name, label in zip(names, labels, strict=True)]
        return "\n".join(["#Image CLASS-ID SPECIES BREED ID", "#ID: 1:37 Class ids", *rows])
    if kind == "gtsrb.csv":
        rows = [f"{name}.png;9;9;{label}" for name, label in zip(names, labels, strict=True)]
        return "\n".join(["Filename;Width;Height;ClassId", *rows])
    if kind == "kaggle.csv":
        rows = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
        return "\n".join(["ImageId,PredictionString", *rows])
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["pets", "gtsrb.csv", "kaggle.csv"])
def test_lists_that_data_sets_come_with(tmp_path, spec, kind):
    labels = np.random.default_rng(0).integers(0, 3, 7)
    labels[:3] = 0, 1, 2
    names = [f"{'abc'[label]}_{number}" for number, label in enumerate(labels)]
    folder = tmp_path / "images"
    folder.mkdir()
    for name in names:
        Image.new("L", (4, 4)).save(folder / f"{name}.png")
    (tmp_path / kind).write_text(written_as(kind, names, labels))
    data = open_data(folder, spec(1, 4, 4), PLAIN, labels=str(tmp_path / kind))
    told = dict(zip(names, labels.tolist(), strict=True))
    assert data.labels.tolist() == [told[name] for name in data.names]


def test_first_words_are_no_names_where_samples_have_others(tmp_path, spec, flat):
    """Classes of two words in the samples' order."""
    count = len(open_data(flat, spec(1, 4, 4), PLAIN, labels="model"))
    texts = [("polar bear", "great ape")[number % 2] for number in range(count)]
    (tmp_path / "l.txt").write_text("\n".join(texts))
    data = open_data(flat, spec(1, 4, 4), PLAIN, labels=str(tmp_path / "l.txt"))
    assert data.class_names == ("great ape", "polar bear")
    assert data.labels.tolist() == [1 - number % 2 for number in range(count)]
