"""Tar shards and parquet tables give what a class folder with the same images gives."""

from __future__ import annotations

import bz2
import io
import json
import lzma
import tarfile

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, archive, bounds, open_data
from cloakify.errors import DataError

PLAIN = Preprocessing()


@pytest.fixture
def images(pixels):
    return pixels(5, 4, 4)


def encode(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def samples(images, start=0):
    members = {}
    for number, image in enumerate(images, start):
        members[f"./{number:04}.cls"] = b"%d\n" % (number % 3)
        members[f"./{number:04}.png"] = encode(image)
    return members


def check(data, images, labels):
    (batch,) = data.batches()
    np.testing.assert_array_equal(batch.x[:, 0], images.astype(np.float32) / 255)
    assert data.labels.tolist() == labels


def test_tar_file_and_folder_of_shards(tmp_path, spec, images):
    (tmp_path / "shards").mkdir()
    members = samples(images)
    members |= {"./._0000.png": b"junk", "readme": b"", "0000.json": b"{}"}
    write_tar(tmp_path / "one.tar", members)
    write_tar(tmp_path / "shards" / "0.tar", samples(images[:2]))
    write_tar(tmp_path / "shards" / "1.tar", samples(images[2:], 2))
    one = open_data(tmp_path / "one.tar", spec(1, 4, 4), PLAIN)
    two = open_data(tmp_path / "shards", spec(1, 4, 4), PLAIN)
    for data in (one, two):
        check(data, images, [0, 1, 2, 0, 1])
    assert one.sha256 == two.sha256
    assert two.where(3).endswith("1.tar member 0003")
    assert open_data(tmp_path / "one.tar", spec(1, 4, 4), PLAIN, labels="model").labels is None


def test_the_last_ending_says_what_a_file_holds(tmp_path, spec, images):
    members = {}
    for number, image in enumerate(images):
        members[f"{number:04}.image.PNG"] = encode(image)
        members[f"{number:04}.label.CLS"] = b"%d" % (number % 3)
        members[f"{number:04}.meta.json"] = b"{}"
    write_tar(tmp_path / "d.tar", members)
    check(open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN), images, [0, 1, 2, 0, 1])
    # Beside images with one ending, others are something else: masks, depths, thumbnails.
    masks = {f"./{number:04}.mask.png": encode(images[0]) for number in range(len(images))}
    write_tar(tmp_path / "d.tar", samples(images) | masks)
    check(open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN), images, [0, 1, 2, 0, 1])


def test_a_tar_without_images_says_what_it_holds(tmp_path, spec):
    write_tar(tmp_path / "d.tar", {"0.npy": b"x", "0.cls": b"1", "1.npy": b"x", "1.cls": b"0"})
    with pytest.raises(DataError, match=r"no image \(only 2 other files: .npy\)"):
        open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0007.png": b"x"}, "has no 0007.cls beside the image"),
        ({"./0000.cls": b" \n"}, "0000.cls holds no class"),
        ({"./0000.cls": b"1" * 30}, "0000.cls holds no class"),
        ({"./0000.cls": b"1" * 300}, "0000.cls holds no class"),
        ({"0000.jpg": b"x"}, "holds sample 0000 twice"),
    ],
)
def test_tar_refused(tmp_path, spec, images, change, said):
    write_tar(tmp_path / "d.tar", samples(images) | change)
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)


def test_tar_of_another_kind(tmp_path, spec, images):
    write_tar(tmp_path / "z.tar", samples(images))
    (tmp_path / "z.tar").write_bytes(lzma.compress(b"x", lzma.FORMAT_ALONE))
    with pytest.raises(DataError, match="unpack it if it is compressed otherwise"):
        open_data(tmp_path / "z.tar", spec(1, 4, 4), PLAIN)
    write_tar(tmp_path / "e.tar", {})
    with pytest.raises(DataError, match="holds no samples"):
        open_data(tmp_path / "e.tar", spec(1, 4, 4), PLAIN)
    with tarfile.open(tmp_path / "l.tar", "w") as archive:
        link = tarfile.TarInfo("0.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="is a link"):
        open_data(tmp_path / "l.tar", spec(1, 4, 4), PLAIN)


def pack(path, kind):
    """Compress a file; leave it where it was."""
    if kind in ("bz2", "xz"):
        compress = bz2.compress if kind == "bz2" else lzma.compress
        path.write_bytes(compress(path.read_bytes()))
        return
    pa = pytest.importorskip("pyarrow")
    with pa.CompressedOutputStream(str(path) + ".new", kind) as file:
        file.write(path.read_bytes())
    path.with_name(path.name + ".new").rename(path)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        *(("tar.gz", "gzip"), ("tgz", "gzip"), ("tar.zst", "zstd"), ("tar", "gzip")),
        *(("tar.bz2", "bz2"), ("tbz2", "bz2"), ("tar.xz", "xz"), ("txz", "xz"), ("tar", "xz")),
    ],
)
def test_compressed_shards_are_the_same_samples(tmp_path, spec, images, ending, kind):
    (tmp_path / "shards").mkdir()
    write_tar(tmp_path / "plain.tar", samples(images))
    for number, part in enumerate((slice(2), slice(2, 5))):
        file = tmp_path / "shards" / f"{number}.{ending}"
        write_tar(file, samples(images[part], part.start or 0))
        pack(file, kind)
    plain = open_data(tmp_path / "plain.tar", spec(1, 4, 4), PLAIN)
    for path in (tmp_path / "shards", tmp_path / "shards" / f"*.{ending}"):
        data = open_data(path, spec(1, 4, 4), PLAIN)
        check(data, images, [0, 1, 2, 0, 1])
        assert data.sha256 == plain.sha256
        assert data.where(3).endswith(f"1.{ending} member 0003")
    (batch,) = data.batches(np.array([4, 0, 3]))
    np.testing.assert_array_equal(batch.x[:, 0], images[[4, 0, 3]].astype(np.float32) / 255)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bz2", "xz"])
def test_a_compressed_tar_is_whole_or_refused(tmp_path, spec, images, kind):
    write_tar(tmp_path / "d.tar", samples(images))
    pack(tmp_path / "d.tar", kind)
    whole = (tmp_path / "d.tar").read_bytes()
    for cut in range(0, len(whole) - 9, 37):
        (tmp_path / "d.tar").write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"d\.tar (can't be|is cut short)") as caught:
            open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bz2", "xz"])
def test_a_tar_that_unpacks_to_much_is_refused_on_the_way(
    tmp_path, spec, images, monkeypatch, kind
):
    monkeypatch.setattr(bounds, "LARGEST_UNPACKED", 1 << 22)
    written = []
    monkeypatch.setattr(archive, "write", lambda file, data: written.append(len(data)))
    write_tar(tmp_path / "d.tar", samples(images) | {"zeros": bytes(1 << 25)})
    pack(tmp_path / "d.tar", kind)
    with pytest.raises(DataError, match="claims to unpack from"):
        open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)
    assert sum(written) <= 1 << 23


def test_shards_of_sound_are_refused_as_such(tmp_path, spec):
    write_tar(tmp_path / "d.tar", {"0.wav": b"RIFF", "0.cls": b"1"})
    with pytest.raises(DataError, match="holds audio files, which are not decoded"):
        open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)


def test_tar_cut_short_later(tmp_path, spec, images):
    write_tar(tmp_path / "d.tar", samples(images))
    data = open_data(tmp_path / "d.tar", spec(1, 4, 4), PLAIN)
    whole = (tmp_path / "d.tar").read_bytes()
    (tmp_path / "d.tar").write_bytes(whole[:2000])
    with pytest.raises(DataError, match="cut short"):
        list(data.batches())


def test_a_tar_is_whole_or_refused_wherever_it_is_cut(tmp_path, spec, images):
    """Python's reader itself takes what is left for the whole, at every cut but a few."""
    write_tar(tmp_path / "d.tar", samples(images))
    whole = (tmp_path / "d.tar").read_bytes()
    end = len(whole.rstrip(b"\0"))
    # Behind the last byte of the last member, padded to its block, zeros say that this was all.
    marked = -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + tarfile.BLOCKSIZE
    for cut in {*range(0, len(whole), 256), *range(marked - 3, marked + 3), len(whole) - 1}:
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        if cut >= marked:
            check(open_data(tmp_path / "cut.tar", spec(1, 4, 4), PLAIN), images, [0, 1, 2, 0, 1])
        else:
            with pytest.raises(DataError, match=r"cut\.tar (can't be read|is cut short)"):
                open_data(tmp_path / "cut.tar", spec(1, 4, 4), PLAIN)


def test_a_tar_with_more_behind_its_end_or_damage_within(tmp_path, spec, images):
    write_tar(tmp_path / "d.tar", samples(images))
    whole = (tmp_path / "d.tar").read_bytes()
    damaged = bytearray(whole)
    damaged[4 * tarfile.BLOCKSIZE : 4 * tarfile.BLOCKSIZE + 9] = b"overwritten"[:9]
    for data in (whole + whole, whole + b"more", bytes(damaged), whole + bytes(1 << 21)):
        (tmp_path / "odd.tar").write_bytes(data)
        with pytest.raises(DataError, match="copy or pack it again"):
            open_data(tmp_path / "odd.tar", spec(1, 4, 4), PLAIN)


@pytest.fixture
def parquet():
    return pytest.importorskip("pyarrow.parquet")


def hub_table(pa, images, start=0):
    rows = [{"bytes": encode(image), "path": None} for image in images]
    labels = [n % 3 for n in range(start, start + len(images))]
    described = {"info": {"features": {"label": {"names": ["a", "b", "c"]}}}}
    table = pa.table({"image": rows, "label": pa.array(labels, pa.int64())})
    return table.replace_schema_metadata({"huggingface": json.dumps(described)})


def test_parquet_images(tmp_path, spec, images, parquet):
    import pyarrow as pa

    (tmp_path / "shards").mkdir()
    parquet.write_table(hub_table(pa, images), tmp_path / "d.parquet", row_group_size=2)
    parquet.write_table(hub_table(pa, images[:3]), tmp_path / "shards" / "0.parquet")
    parquet.write_table(hub_table(pa, images[:0]), tmp_path / "shards" / "1.parquet")
    parquet.write_table(hub_table(pa, images[3:], 3), tmp_path / "shards" / "2.parquet")
    one = open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN)
    two = open_data(tmp_path / "shards", spec(1, 4, 4), PLAIN)
    for data in (one, two):
        check(data, images, [0, 1, 2, 0, 1])
        assert data.class_names == ("a", "b", "c")
    assert one.sha256 == two.sha256
    assert two.where(4).endswith("2.parquet row 1")
    (tmp_path / "d.tar").touch()
    (tmp_path / "d.tar").rename(tmp_path / "shards" / "d.tar")
    with pytest.raises(DataError, match=r"holds both d.tar and 0.parquet"):
        open_data(tmp_path / "shards", spec(1, 4, 4), PLAIN)


def test_parquet_plain_bytes(tmp_path, spec, images, parquet):
    import pyarrow as pa

    table = pa.table({"img": [encode(image) for image in images[:3]], "y": [0, 1, 2]})
    parquet.write_table(table, tmp_path / "d.parquet")
    check(open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN), images[:3], [0, 1, 2])


def test_parquet_lists(tmp_path, spec, images, parquet):
    import pyarrow as pa

    x = images.astype(np.float32) / 255
    nested = pa.array(x.tolist(), pa.list_(pa.list_(pa.float32(), 4)))
    table = pa.table({"x": nested, "labels": pa.array([0, 1, 2, 0, 1], pa.uint8())})
    parquet.write_table(table, tmp_path / "d.parquet", row_group_size=2)
    data = open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN)
    check(data, images, [0, 1, 2, 0, 1])
    np.savez(tmp_path / "d.npz", x=x, y=data.labels)
    # The same numbers under the same labels are the same data, whatever holds them.
    assert data.sha256 == open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN).sha256


def parquet_cases():
    good = [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
    return [
        ({"a": good, "b": good, "y": [0, 1, 0]}, "has columns a, b, y: name the samples"),
        ({"x": good}, "has no column of labels"),
        ({"x": good, "y": [0, None, 1]}, "row 1 column 'y' is empty"),
        ({"x": good, "y": [0.0, 1.5, 1.0]}, "row 1 is 1.5, no class index"),
        ({"x": good, "y": [[0, 1], [1, 2], [0, 0]]}, "row 1 holds 2: give a class index"),
        ({"x": good, "y": [[0, 1], [1], [0, 0]]}, r"row 1 has shape \(1,\) but the first"),
        ({"x": good, "y": [b"a", b"b", b"c"]}, "holds binary, not whole numbers"),
        ({"x": good, "y": ["a", "", "c"]}, "row 1 has no label"),
        ({"x": [[1.0, 0.0], [1.0]], "y": [0, 1]}, r"row 1 has shape \(1,\) but the first"),
        ({"x": [[1.0, 0.0], None], "y": [0, 1]}, "row 1 holds empty values"),
        ({"x": [[1.0, 0.0], [None, 1.0]], "y": [0, 1]}, "row 1 holds empty values"),
        ({"x": [["a"], ["b"]], "y": [0, 1]}, "row 0 holds string, not numbers"),
        ({"x": [[[1.0], [1.0, 2.0]]], "y": [0]}, "row 0 holds lists of several lengths"),
        (
            {"image": [{"bytes": None, "path": "a.png"}], "y": [0]},
            "no image bytes.*to_parquet does not",
        ),
    ]


@pytest.mark.parametrize(("columns", "said"), parquet_cases())
def test_parquet_refused(tmp_path, spec, parquet, columns, said):
    import pyarrow as pa

    parquet.write_table(pa.table(columns), tmp_path / "d.parquet")
    flat = spec(4, 4, channel_axis=None) if "image" in columns else spec(2, channel_axis=None)
    stored = "float64" if "x" in columns else "float32"
    flat = type(flat)(flat.name, flat.shape, np.dtype(stored), None)
    with pytest.raises(DataError, match=said) as caught:
        list(open_data(tmp_path / "d.parquet", flat, PLAIN).batches())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_shards_that_are_written_unlike_are_one_line(tmp_path, spec, parquet, kind):
    import pyarrow as pa
    from pyarrow import feather

    write = parquet.write_table if kind == "parquet" else feather.write_feather
    write(pa.table({"a": [0.5, 1.5], "label": [0, 1]}), tmp_path / f"0.{kind}")
    write(pa.table({"a": ["x", "y"], "label": [0, 1]}), tmp_path / f"1.{kind}")
    with pytest.raises(DataError, match=rf"1.{kind} column 'a' holds .*string.* write both alike"):
        open_data(tmp_path / f"*.{kind}", spec(1, channel_axis=None), PLAIN)


def test_parquet_shards_of_numbers_need_not_have_one_type(tmp_path, spec, parquet):
    import pyarrow as pa

    for number, kind in enumerate((pa.int32(), pa.int64(), pa.float32())):
        table = pa.table({"a": pa.array([number % 2, 1], kind), "label": [0, 1]})
        parquet.write_table(table, tmp_path / f"{number}.parquet")
    data = open_data(tmp_path / "*.parquet", spec(1, channel_axis=None), PLAIN)
    (batch,) = data.batches(batch_size=6)
    np.testing.assert_array_equal(batch.x, [[0], [1], [1], [1], [0], [1]])


@pytest.mark.parametrize("column", ["a", "text"])
@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_rows_are_counted_before_as_many_labels_are_read(
    tmp_path, spec, parquet, monkeypatch, kind, column
):
    import pyarrow as pa
    from pyarrow import feather

    write = parquet.write_table if kind == "parquet" else feather.write_feather
    # The labels are damaged, and nobody has looked at them yet.
    write(pa.table({column: [0.5] * 9, "label": [None] * 9}), tmp_path / f"d.{kind}")
    monkeypatch.setattr(bounds, "MOST_SAMPLES", 8)
    with pytest.raises(DataError, match="claims 9 samples, more than the 8 that are read"):
        open_data(tmp_path / f"d.{kind}", spec(1, channel_axis=None), PLAIN)


def test_parquet_damaged(tmp_path, spec, parquet):
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(DataError, match="can't be read as parquet"):
        open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN)


def test_parquet_without_pyarrow(tmp_path, spec, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "d.parquet").touch()
    with pytest.raises(DataError, match=r"pip install 'cloakify\[parquet\]'"):
        open_data(tmp_path / "d.parquet", spec(1, 4, 4), PLAIN)
