"""Data that claim to be large: refused before memory is taken, in one line."""

from __future__ import annotations

import io
import os
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy_format
from PIL import Image

from cloakify.data import Preprocessing, bounds, open_data, parquet_files
from cloakify.data.fitting import ImageFit
from cloakify.errors import DataError

PLAIN = Preprocessing()


@pytest.fixture
def refused(spec):
    """Expect data to be refused before so much as 64 MiB are taken."""

    def check(path, said, wanted=None):
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match=said) as caught:
                data = open_data(path, wanted or spec(1, 4, 4), PLAIN, labels="model")
                list(data.batches())
            assert tracemalloc.get_traced_memory()[1] < 64 << 20
        finally:
            tracemalloc.stop()
        assert "\n" not in str(caught.value)

    return check


def write_header(file, shape, descr="<f4"):
    npy_format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )


@pytest.mark.parametrize(("width", "height"), [(1, 1_000_000), (1_000_000, 1)])
def test_thin_images(tmp_path, refused, spec, width, height):
    Image.new("L", (width, height)).save(tmp_path / "thin.png")
    refused(tmp_path, f"{width}×{height} pixels, too long and thin", spec(1, 28, 28))


def test_thin_images_can_be_squeezed(tmp_path, spec):
    Image.new("L", (1, 1_000_000), 255).save(tmp_path / "thin.png")
    data = open_data(tmp_path, spec(1, 4, 4), PLAIN, labels="model", fit=ImageFit(resize="stretch"))
    (batch,) = data.batches()
    assert (batch.x == 1).all()


def test_files_with_holes(tmp_path, refused):
    image = tmp_path / "folder" / "large.png"
    image.parent.mkdir()
    with open(image, "wb") as file:
        file.truncate(20 << 30)
    refused(image.parent, r"large.png is 21.5 GB large")
    info = tarfile.TarInfo("large.png")
    info.size = 20 << 30
    with open(tmp_path / "large.tar", "wb") as file:
        file.write(info.tobuf())
        file.truncate((20 << 30) + 4096)
    refused(tmp_path / "large.tar", "21.5 GB large")


def test_tar_headers(tmp_path, refused):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 7 << 30
    with open(tmp_path / "d.tar", "wb") as file:
        file.write(info.tobuf())
        file.truncate(8 << 30)
    refused(tmp_path / "d.tar", "a header claims 7516192768 bytes")


def test_more_samples_than_anyone_has(tmp_path, refused):
    with open(tmp_path / "x.npy", "wb") as file:
        write_header(file, (10**12, 0))
    refused(tmp_path / "x.npy", "claims 1000000000000 samples")


def test_large_samples_for_a_model_of_any_size(tmp_path, refused, spec):
    any_size = spec(1, None, None)
    with open(tmp_path / "x.npy", "wb") as file:
        write_header(file, (1, 1, 30_000, 30_000))
        file.truncate(file.tell() + 4 * 30_000**2)
    refused(tmp_path / "x.npy", "1×30000×30000 numbers, more than", any_size)
    image = tmp_path / "folder" / "large.png"
    image.parent.mkdir()
    Image.new("1", (5000, 5000)).save(image)
    refused(image.parent, "1×5000×5000 numbers, more than", any_size)


def test_archives_that_unpack_to_much(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(bounds, "LARGEST_UNPACKED", 1 << 20)
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1 << 15, 1, 4, 4), np.float32))
    refused(tmp_path / "d.npz", r"unpack from \d+ bytes to 0.0 GB")


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_numpy_does_not_write(tmp_path, refused, packing):
    header = io.BytesIO()
    write_header(header, (1, 1, 4, 4))
    with zipfile.ZipFile(tmp_path / "d.npz", "w", packing) as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
    refused(tmp_path / "d.npz", "packed otherwise than numpy packs")


def test_shapes_of_no_numbers(tmp_path, refused):
    with open(tmp_path / "x.npy", "wb") as file:
        write_header(file, (True, 1, 4, 4))
        file.write(bytes(64))
    refused(tmp_path / "x.npy", r"shape \(True, 1, 4, 4\)")


def test_labels_of_another_shape_are_not_read(tmp_path, spec):
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 4, 4), np.float32))
    with open(tmp_path / "y.npy", "wb") as file:
        write_header(file, (1, 1 << 32), "|i1")
        file.truncate(file.tell() + (1 << 32))
    with pytest.raises(DataError, match=r"has shape \(1, 4294967296\)"):
        open_data(tmp_path, spec(1, 4, 4), PLAIN)


def test_tables_that_unpack_to_much(tmp_path, refused, monkeypatch):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(bounds, "LARGEST_UNPACKED", 1 << 20)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(16 << 15, np.float32)), 16)
    parquet.write_table(pa.table({"x": rows}), tmp_path / "d.parquet")
    refused(tmp_path / "d.parquet", r"unpack from \d+ bytes to 0.0 GB")


def test_tables_in_pieces(tmp_path, spec, monkeypatch):
    """What does not fit a piece is read in several, in any order, and comes out the same."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = np.random.default_rng(0).random((100, 4), np.float32)
    table = pa.table({"x": list(x)})
    parquet.write_table(table, tmp_path / "d.parquet", row_group_size=40)
    monkeypatch.setattr(parquet_files, "_PIECE", 16 * 7)
    data = open_data(tmp_path / "d.parquet", spec(4, channel_axis=None), PLAIN, labels="model")
    order = np.random.default_rng(1).permutation(100)
    for indices in (np.arange(100), order):
        found = [batch.x for batch in data.batches(indices, 9)]
        np.testing.assert_array_equal(np.concatenate(found), x[indices])


def test_images_that_share_their_bytes_in_a_table(tmp_path, spec, monkeypatch):
    """However often a dictionary's entry is used, few are unpacked at once."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    encoded = io.BytesIO()
    Image.new("L", (4, 4), 255).save(encoded, "PNG")
    table = pa.table({"image": [encoded.getvalue()] * 50})
    parquet.write_table(table, tmp_path / "d.parquet")
    monkeypatch.setattr(parquet_files, "_PIECE", 10 * len(encoded.getvalue()))
    column = parquet_files.ParquetFiles(tmp_path, [tmp_path / "d.parquet"]).column("image")
    assert len(column.value(0).as_py()) == len(encoded.getvalue())
    assert len(column._piece) <= 10
    assert {column.value(row).as_py() for row in range(50)} == {encoded.getvalue()}


def test_pipes_and_devices(tmp_path, refused):
    os.mkfifo(tmp_path / "d.npz")
    refused(tmp_path / "d.npz", "is no regular file")
    os.mkfifo(tmp_path / "0.tar")
    refused(tmp_path, "is no regular file")
