"""MNIST's IDX files, against files written out by hand."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakify.data import Preprocessing, open_data
from cloakify.data.idx import read_idx
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
CODES = {"u1": 8, "i1": 9, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
PIXELS = np.random.default_rng(3).integers(0, 256, (12, 5, 4), np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 3
SPEC = InputSpec("x", (None, 1, 5, 4), np.dtype(np.float32), 1)


def idx(values: np.ndarray) -> bytes:
    """Return an array as an IDX file."""
    code = next(code for name, code in CODES.items() if np.dtype(name) == values.dtype)
    head = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    return head + values.tobytes()


def write(
    folder: Path, images: str = "train-images-idx3-ubyte", labels: str = "train-labels-idx1-ubyte"
) -> Path:
    """Write images and labels under such names; return where the images are."""
    folder.mkdir(exist_ok=True)
    for name, values in ((images, PIXELS), (labels, LABELS)):
        data = idx(values)
        (folder / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return folder / images


NAMES = [
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte.gz"),
    # As Kaggle and EMNIST call them.
    ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
    ("emnist-letters-test-images-idx3-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz"),
]


@pytest.mark.parametrize(("images", "labels"), NAMES)
@pytest.mark.parametrize("by_folder", [False, True])
def test_images_and_the_labels_beside_them(tmp_path, images, labels, by_folder):
    path = write(tmp_path / "raw", images, labels)
    data = open_data(path.parent if by_folder else path, SPEC, PLAIN)
    np.testing.assert_array_equal(data.labels, LABELS)
    expected = PIXELS[:, None].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(
        np.concatenate([b.x for b in data.batches(batch_size=5)]), expected
    )
    assert any("bytes are taken for pixels" in note for note in data.notes)


@given(
    st.sampled_from([*CODES]).flatmap(
        lambda kind: hnp.arrays(
            np.dtype(kind), hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
        )
    ),
    st.booleans(),
)
def test_as_numpy_reads_it(tmp_path_factory, values, packed):
    path = tmp_path_factory.mktemp("idx") / ("a.idx.gz" if packed else "a.idx")
    path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    read = np.asarray(read_idx(path).mapped())
    assert read.dtype == values.dtype
    np.testing.assert_array_equal(read, values)


QMNIST = ("qmnist-test-images-idx3-ubyte.gz", "qmnist-test-labels-idx2-int.gz")
XNIST = ("xnist-images-idx3-ubyte.xz", "xnist-labels-idx2-int.xz")


def extended(classes: np.ndarray) -> np.ndarray:
    """QMNIST's labels: class, series, writer, digit, NIST's code, global index, two zeros."""
    n = np.arange(len(classes))
    columns = [classes, 4 * (n % 2), 2100 + n, n % 150, 30 + classes, 7 * n, 0 * n, 0 * n]
    return np.stack(columns, axis=1).astype(">i4")


@pytest.mark.parametrize("names", [QMNIST, XNIST])
@pytest.mark.parametrize("how", ["folder", "file", "listed"])
def test_of_extended_labels_the_class_counts(tmp_path, names, how):
    """As torchvision's QMNIST does by default."""
    compress = {"gz": gzip.compress, "xz": lzma.compress}[names[0][-2:]]
    for name, values in zip(names, (PIXELS, extended(LABELS)), strict=True):
        (tmp_path / name).write_bytes(compress(idx(values)))
    path = tmp_path if how == "folder" else tmp_path / names[0]
    labels = str(tmp_path / names[1]) if how == "listed" else "given"
    data = open_data(path, SPEC, PLAIN, labels=labels)
    np.testing.assert_array_equal(data.labels, LABELS)
    expected = PIXELS[:, None].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(next(data.batches(batch_size=12)).x, expected)


def test_eight_independent_labels_are_no_extended_ones(tmp_path):
    flags = (np.arange(12)[:, None] + np.arange(8) < 9).astype(">i4")
    (tmp_path / "a-labels-idx2-int").write_bytes(idx(flags))
    path = write(tmp_path, "a-images-idx3-ubyte", "other")
    np.testing.assert_array_equal(open_data(path, SPEC, PLAIN).labels, flags)


@pytest.mark.parametrize("split", ["balanced", "letters"])
def test_that_emnist_lies_transposed_is_said(tmp_path, split):
    """The samples are those that torchvision gives: the numbers in the file's order."""
    names = [f"emnist-{split}-test-{each}-ubyte.gz" for each in ("images-idx3", "labels-idx1")]
    data = open_data(write(tmp_path, *names), SPEC, PLAIN)
    expected = PIXELS[:, None].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(next(data.batches(batch_size=12)).x, expected)
    assert any("EMNIST's pictures lie transposed" in note for note in data.notes)


def test_of_a_folder_as_torchvision_downloads_it_the_test_samples(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for images, labels in (NAMES[0], NAMES[1]):
        write(raw, images, labels)
        write(raw, f"{images.removesuffix('.gz')}.gz", f"{labels.removesuffix('.gz')}.gz")
    data = open_data(tmp_path / "data", SPEC, PLAIN)
    assert len(data) == len(PIXELS)
    assert any("holds test, train: the samples are those of test" in note for note in data.notes)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-1], "should hold 240 bytes .* but has 239"),
        (lambda data: data + b"\0", "should hold 240 bytes .* but has 241"),
        (lambda data: data[:6], "no IDX file: fetch it again"),
        (lambda data: data[:4] + b"\xff" * 4 + data[8:], "should hold .*: it is damaged"),
        (lambda data: b"<html>not found</html>", "no IDX file: fetch it again"),
        (lambda data: data[:2] + b"\x0a" + data[3:], "no IDX file"),
        (lambda data: data[:4] + b"\0" * 4 + data[8:16], "holds no samples"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_whole_file_is_refused(tmp_path, spoil, said, packed):
    name = f"t10k-images-idx3-ubyte{'.gz' * packed}"
    data = spoil(idx(PIXELS))
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(DataError, match=said) as caught:
        open_data(tmp_path / name, SPEC, PLAIN, labels="model")
    assert "\n" not in str(caught.value)


def test_a_packed_file_that_is_cut_short(tmp_path):
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(PIXELS))[:-9])
    with pytest.raises(DataError, match="can't be unpacked"):
        open_data(path, SPEC, PLAIN, labels="model")


def test_labels_are_wanted(tmp_path):
    path = write(tmp_path)
    with pytest.raises(DataError, match=r"holds labels: give the images \(train-images-idx3"):
        open_data(tmp_path / "train-labels-idx1-ubyte", SPEC, PLAIN)
    elsewhere = tmp_path / "train-labels-idx1-ubyte"
    moved = elsewhere.rename(tmp_path / "other")
    with pytest.raises(DataError, match=r"has no train-labels-idx1-ubyte beside it"):
        open_data(path, SPEC, PLAIN)
    np.testing.assert_array_equal(open_data(path, SPEC, PLAIN, labels=str(moved)).labels, LABELS)
    assert open_data(path, SPEC, PLAIN, labels="model").labels is None


def test_bytes_as_a_model_of_bytes_or_of_a_plane_or_of_a_row_takes_them(tmp_path):
    path = write(tmp_path)
    taken = {
        (5, 4): ("float32", PIXELS / np.float32(255)),
        (20,): ("float32", PIXELS.reshape(12, 20) / np.float32(255)),
        (1, 5, 4): ("uint8", PIXELS[:, None]),
    }
    for sample, (kind, expected) in taken.items():
        axis = 1 if len(sample) == 3 else None
        spec = InputSpec("x", (None, *sample), np.dtype(kind), axis)
        box = (0.0, 1.0) if kind == "float32" else (0.0, 255.0)
        data = open_data(path, spec, PLAIN, box=box)
        np.testing.assert_array_equal(next(data.batches(batch_size=12)).x, expected)
