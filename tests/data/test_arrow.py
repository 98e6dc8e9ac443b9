"""Arrow files, and folders as Hugging Face's `datasets` saves them, give what Parquet gives."""

from __future__ import annotations

import io
import json
import re
import struct

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, arrow_files, bounds, open_data
from cloakify.data.arrow_messages import read_messages
from cloakify.errors import DataError

pa = pytest.importorskip("pyarrow")
feather, parquet = (pytest.importorskip(f"pyarrow.{kind}") for kind in ("feather", "parquet"))

PLAIN = Preprocessing()


def encode(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def image_table(images, image="image", label="label", start=0):
    """A table as `datasets` makes it of images and classes, up to what it does not read itself."""
    rows = [{"bytes": encode(each), "path": None} for each in images]
    labels = pa.array([(start + n) % 3 for n in range(len(images))], pa.int64())
    features = {
        image: {"_type": "Image"},
        label: {"_type": "ClassLabel", "names": ["a", "b", "c"]},
    }
    table = pa.table({image: rows, label: labels, "weight": pa.array([0.5] * len(images))})
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def write_stream(path, table, rows=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, rows)


def save(folder, table, parts=1):
    """What `Dataset.save_to_disk` writes."""
    size = -(-len(table) // parts)
    names = [f"data-{part:05}-of-{parts:05}.arrow" for part in range(parts)]
    for part, name in enumerate(names):
        write_stream(folder / name, table.slice(part * size, size))
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


@pytest.fixture
def images(pixels):
    return pixels(7, 4, 4)


def check(data, images, labels):
    np.testing.assert_array_equal(
        np.concatenate([batch.x for batch in data.batches(batch_size=3)])[:, 0],
        images.astype(np.float32) / 255,
    )
    assert data.labels.tolist() == labels
    assert data.class_names == ("a", "b", "c")


def test_every_way_to_save_a_data_set_is_the_same_data(tmp_path, spec, images):
    table = image_table(images)
    save(tmp_path / "saved", table)
    save(tmp_path / "parts", table, parts=3)
    save(tmp_path / "dict" / "test", table)
    save(tmp_path / "dict" / "train", table.slice(0, 1))
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for name, rows in (("train-00000-of-00001", table.slice(0, 2)), ("test-0-of-1", table)):
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        parquet.write_table(rows, tmp_path / "hub" / "data" / f"{name}.parquet")
    write_stream(tmp_path / "cache" / "set-test.arrow", table)
    write_stream(tmp_path / "cache" / "set-train.arrow", table.slice(0, 2))
    for packing in ("uncompressed", "lz4", "zstd"):
        feather.write_feather(
            table, tmp_path / f"{packing}.feather", compression=packing, chunksize=3
        )
    parquet.write_table(table, tmp_path / "d.parquet")
    wanted = open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN).sha256
    ways = ["saved", "parts", "dict", "dict/test", "hub", "hub/data", "cache"]
    for way in [*ways, "lz4.feather", "zstd.feather", "uncompressed.feather"]:
        data = open_data(tmp_path / way, spec(1, 4, 4), PLAIN)
        check(data, images, [n % 3 for n in range(7)])
        assert data.sha256 == wanted, way
        several = way in ("dict", "hub", "hub/data", "cache")
        assert [("those of test" in note) for note in data.notes] == [True] * several
    parts = open_data(tmp_path / "parts", spec(1, 4, 4), PLAIN)
    assert parts.where(5).endswith("data-00001-of-00003.arrow row 2")
    # Backwards, and from one file to another.
    (batch,) = parts.batches(np.array([6, 0, 5, 1]))
    np.testing.assert_array_equal(
        batch.x[:, 0], images[[6, 0, 5, 1]].astype(np.float32) / np.float32(255)
    )


def test_columns_are_found_by_what_they_are(tmp_path, spec, images):
    save(tmp_path / "odd", image_table(images, image="photo", label="species"))
    check(open_data(tmp_path / "odd", spec(1, 4, 4), PLAIN), images, [n % 3 for n in range(7)])
    table = image_table(images, label="coarse").append_column(
        "fine_label", pa.array(np.arange(7) % 2)
    )
    save(tmp_path / "two", table)
    data = open_data(tmp_path / "two", spec(1, 4, 4), PLAIN)
    assert data.labels is not None and data.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    bare = table.drop_columns(["fine_label", "coarse"])
    save(tmp_path / "bare", bare)
    with pytest.raises(DataError, match="has no column of labels"):
        open_data(tmp_path / "bare", spec(1, 4, 4), PLAIN)
    assert len(open_data(tmp_path / "bare", spec(1, 4, 4), PLAIN, labels="model")) == 7


def test_arrays_and_categoricals(tmp_path, spec):
    x = np.random.default_rng(0).random((9, 2, 3), np.float32)
    names = ["cat", "dog", "cat", "eel", "dog", "cat", "eel", "eel", "cat"]
    nested = pa.array(x.tolist(), pa.list_(pa.list_(pa.float32())))
    for labels in (pa.array(names), pa.array(names).dictionary_encode()):
        save(tmp_path / "d", pa.table({"pixel_values": nested, "labels": labels}))
        data = open_data(tmp_path / "d", spec(2, 3, channel_axis=None), PLAIN)
        assert data.class_names == ("cat", "dog", "eel")
        assert data.labels is not None
        assert [data.class_names[label] for label in data.labels] == names
        np.testing.assert_array_equal(np.concatenate([b.x for b in data.batches()]), x)
    table = pa.table({"a": x[:, 0, 0], "b": x[:, 0, 1], "Target": [True, False, True] * 3})
    write_stream(tmp_path / "t.arrow", table, rows=4)
    data = open_data(tmp_path / "t.arrow", spec(2, channel_axis=None), PLAIN)
    assert data.labels is not None and data.labels.tolist() == [1, 0, 1] * 3
    np.testing.assert_array_equal(np.concatenate([b.x for b in data.batches()]), x[:, 0, :2])


def test_a_file_is_whole_or_refused_wherever_it_is_cut(tmp_path, spec, images):
    write_stream(tmp_path / "d.arrow", image_table(images))
    feather.write_feather(image_table(images), tmp_path / "d.feather")
    for name in ("d.arrow", "d.feather"):
        whole = (tmp_path / name).read_bytes()
        for cut in {*range(0, len(whole), 97), len(whole) - 1, len(whole) - 8}:
            (tmp_path / f"cut{name[1:]}").write_bytes(whole[:cut])
            with pytest.raises(DataError, match=r"can't be read as an Arrow file|holds no col"):
                open_data(tmp_path / f"cut{name[1:]}", spec(1, 4, 4), PLAIN)
    (tmp_path / "more.arrow").write_bytes((tmp_path / "d.arrow").read_bytes() * 2)
    with pytest.raises(DataError, match="more behind its end"):
        open_data(tmp_path / "more.arrow", spec(1, 4, 4), PLAIN)


def test_offsets_that_lead_outside_are_refused(tmp_path, spec, images):
    """pyarrow itself reads what lies there in memory, or crashes."""
    write_stream(tmp_path / "d.arrow", image_table(images), rows=7)
    whole = (tmp_path / "d.arrow").read_bytes()
    lengths = np.cumsum([0] + [len(encode(image)) for image in images]).astype("<i4")
    place = whole.index(lengths.tobytes())
    for value in (1 << 30, -5):
        odd = bytearray(whole)
        odd[place + 12 : place + 16] = struct.pack("<i", value)
        (tmp_path / "odd.arrow").write_bytes(odd)
        with pytest.raises(DataError, match="can't be read as an Arrow file") as caught:
            list(open_data(tmp_path / "odd.arrow", spec(1, 4, 4), PLAIN).batches())
        assert "\n" not in str(caught.value)


def test_what_unpacks_to_much_is_refused_before_it_is_unpacked(tmp_path, spec, monkeypatch):
    table = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(1 << 20)), 4)})
    feather.write_feather(table, tmp_path / "d.feather", compression="zstd", chunksize=1 << 18)
    message = read_messages(tmp_path / "d.feather")[-1]
    assert message.unpacked == 8 << 20 and message.packed < 1 << 16
    monkeypatch.setattr(bounds, "LARGEST_UNPACKED", 1 << 20)
    with pytest.raises(DataError, match=r"unpack from \d+ bytes to 0.0 GB"):
        open_data(tmp_path / "d.feather", spec(4, channel_axis=None), PLAIN, labels="model")


def test_categoricals_are_read_whole_within_bounds(tmp_path, spec, monkeypatch):
    monkeypatch.setattr(arrow_files, "_LARGEST_WHOLE", 100)
    table = pa.table({"x": [[0.5]] * 50, "y": pa.array(["a"] * 50).dictionary_encode()})
    write_stream(tmp_path / "d.arrow", table)
    with pytest.raises(DataError, match="are read whole"):
        open_data(tmp_path / "d.arrow", spec(1, channel_axis=None), PLAIN)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"state.json": "[]"}, "is no JSON object"),
        ({"state.json": "{}"}, "lists no data files"),
        ({"state.json": '{"_data_files": []}'}, "lists nothing"),
        ({"state.json": '{"_data_files": [{"filename": "../a.arrow"}]}'}, "no name of a file"),
        ({"state.json": '{"_data_files": [{"filename": "a.arrow"}]}'}, "lacks a.arrow"),
        ({"state.json": '{"_data_files": [{}], "_indices_data_files": [{}]}'}, "old version"),
        ({"dataset_dict.json": '{"splits": ["train"]}'}, "has no folder train"),
        ({"dataset_dict.json": '{"splits": [3]}'}, "no name of a file"),
        ({"a/0.arrow": "", "b/0.arrow": ""}, "several data sets"),
        ({"a.arrow": "junk"}, "can't be read as an Arrow file"),
        ({"a.arrow": "FEA1" + "\0" * 20}, "can't be read as an Arrow file"),
        ({"a.feather": "", "b.tar": ""}, "holds both b.tar and a.feather"),
    ],
)
def test_what_is_no_data_set_is_one_line(tmp_path, spec, files, said):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        open_data(tmp_path, spec(1, 4, 4), PLAIN)
    assert "\n" not in str(caught.value)


def test_audio_is_refused_as_such(tmp_path, spec):
    table = pa.table({"x": [{"bytes": b"RIFF", "path": None}], "label": [0]})
    features = {"x": {"_type": "Audio"}}
    told = json.dumps({"info": {"features": features}})
    save(tmp_path / "d", table.replace_schema_metadata({"huggingface": told}))
    with pytest.raises(DataError, match="holds audio files, which are not decoded"):
        open_data(tmp_path / "d", spec(4, channel_axis=None), PLAIN)


def test_tables_in_a_folder_are_splits_too(tmp_path, spec):
    for name, count in (("train", 5), ("test", 3)):
        rows = "".join(f"{n},{n / 2},{n % 2}\n" for n in range(count))
        for place in ("plain", "repository/data"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            (tmp_path / place / f"{name}.csv").write_text("a,b,label\n" + rows)
    (tmp_path / "repository" / "README.md").touch()
    np.savez(tmp_path / "plain.npz", x=np.zeros((4, 2), np.float32), y=[0, 1, 0, 1])
    (tmp_path / "parts").mkdir()
    for n in range(2):
        np.savez(tmp_path / "parts" / f"{n}.npz", x=np.zeros((4, 2), np.float32), y=[0, 1, 0, 1])
    two = spec(2, channel_axis=None)
    for place, count in (("plain", 3), ("repository", 3), ("repository/data", 3), ("parts", 8)):
        data = open_data(tmp_path / place, two, PLAIN, box=None)
        assert len(data) == count
        assert any("those of test" in note for note in data.notes) == (place != "parts")
    (tmp_path / "plain" / "more.jsonl").touch()
    with pytest.raises(DataError, match=r"holds both test.csv and more.jsonl"):
        open_data(tmp_path / "plain", two, PLAIN)


def test_tables_beside_images_are_no_samples(tmp_path, spec, images, class_folder):
    folder = class_folder({"a": images[:3], "b": images[3:]})
    (folder / "labels.csv").write_text("a,b\n")
    (folder / "a" / "0.parquet").touch()
    assert len(open_data(folder, spec(1, 4, 4), PLAIN)) == 7
    (folder / "a" / "0.parquet").rename(folder / "a" / "list.csv")
    flat = open_data(folder / "a", spec(1, 4, 4), PLAIN, labels="model")
    assert len(flat) == 3


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
@pytest.mark.parametrize(
    ("written", "said"), [(b"naming", "name is no text"), (b"a text", "can't be read as")]
)
def test_names_and_cells_that_are_no_text_are_one_line(tmp_path, spec, kind, written, said):
    table = pa.table({"naming": [1.0, 2.0], "label": ["a text", "b"]})
    if kind == "arrow":
        write_stream(tmp_path / "d.arrow", table)
    else:
        parquet.write_table(table, tmp_path / "d.parquet", compression="none", store_schema=False)
    data = (tmp_path / f"d.{kind}").read_bytes()
    assert written in data
    (tmp_path / f"d.{kind}").write_bytes(data.replace(written, b"\xe2" + written[1:]))
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / f"d.{kind}", spec(1, channel_axis=None), PLAIN, box=None)


def test_each_place_of_a_name_that_is_no_text(tmp_path, spec):
    """The schema has it, and each row group says again what its columns are called."""
    table = pa.table({"naming": [1.0, 2.0], "label": [0, 1]})
    path = tmp_path / "d.parquet"
    parquet.write_table(table, path, compression="none", store_schema=False)
    data = path.read_bytes()
    places = [found.start() for found in re.finditer(b"naming", data)]
    assert len(places) > 1
    for place in places:
        path.write_bytes(data[:place] + b"\xe2" + data[place + 1 :])
        with pytest.raises(DataError, match=r"name is no text|can't be read as"):
            open_data(path, spec(1, channel_axis=None), PLAIN, box=None).batch(np.arange(2))


def test_names_of_images_in_the_place_of_images_are_told(tmp_path, spec):
    table = pa.table({"image": ["im/0.png", "im/1.png"], "label": [0, 1]})
    parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"'im/0.png', the name of an image: .* by --labels FILE"):
        open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN)
