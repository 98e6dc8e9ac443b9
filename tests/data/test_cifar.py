"""CIFAR's binary versions, against files written out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Dataset, Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
SPEC = InputSpec("x", (None, 3, 32, 32), np.dtype(np.float32), 1)
COUNT = 12
PIXELS = np.random.default_rng(2).integers(0, 256, (COUNT, 3, 32, 32), np.uint8)
LABELS = np.arange(COUNT) % 10
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def write(path: Path, pixels: np.ndarray, *labels: np.ndarray) -> Path:
    """Write the bytes of each sample: its labels, then its red, green and blue."""
    with open(path, "wb") as file:
        for row, image in enumerate(pixels):
            file.write(bytes(int(each[row]) for each in labels))
            file.write(image.tobytes())
    return path


def ten(folder: Path) -> Path:
    folder.mkdir()
    for number, name in enumerate(BATCHES):
        write(folder / f"{name}.bin", PIXELS ^ number, (LABELS + number) % 10)
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    (folder / "readme.html").write_text("<html></html>")
    return folder


def pixels_of(data: Dataset) -> np.ndarray:
    return np.concatenate([batch.x for batch in data.batches(batch_size=5)])


def floats(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("above", [False, True])
def test_of_a_folder_the_test_batch(tmp_path, above):
    folder = ten(tmp_path / "cifar-10-batches-bin")
    data = open_data(tmp_path if above else folder, SPEC, PLAIN)
    np.testing.assert_array_equal(pixels_of(data), floats(PIXELS ^ 5))
    np.testing.assert_array_equal(data.labels, (LABELS + 5) % 10)
    assert data.class_names == tuple(NAMES)
    assert any("holds test, train: the samples are those of test" in note for note in data.notes)
    # As the same samples are in another form.
    np.savez(tmp_path / "d.npz", x=PIXELS ^ 5, y=(LABELS + 5) % 10)
    assert data.sha256 == open_data(tmp_path / "d.npz", SPEC, PLAIN).sha256


def test_the_training_batches_by_a_pattern(tmp_path):
    folder = ten(tmp_path / "bin")
    data = open_data(folder / "data_batch_*.bin", SPEC, PLAIN)
    expected = np.concatenate([PIXELS ^ number for number in range(5)])
    np.testing.assert_array_equal(pixels_of(data), floats(expected))
    np.testing.assert_array_equal(
        data.labels, np.concatenate([(LABELS + number) % 10 for number in range(5)])
    )
    assert data.class_names == tuple(NAMES)
    assert open_data(folder / "test_batch.bin", SPEC, PLAIN, labels="model").labels is None


@pytest.mark.parametrize(
    ("asked", "field"), [("given", "fine"), ("fine_label", "fine"), ("coarse_label", "coarse")]
)
def test_of_a_hundred_classes_the_fine_label_or_the_coarse(tmp_path, asked, field):
    labels = {"coarse": LABELS, "fine": 9 * LABELS + 3}
    for split in ("train", "test"):
        write(tmp_path / f"{split}.bin", PIXELS, labels["coarse"], labels["fine"])
    for name, count in (("coarse", 20), ("fine", 100)):
        names = "\n".join(f"{name} {number}" for number in range(count))
        (tmp_path / f"{name}_label_names.txt").write_text(names)
    data = open_data(tmp_path, SPEC, PLAIN, labels=asked)
    np.testing.assert_array_equal(data.labels, labels[field])
    np.testing.assert_array_equal(pixels_of(data), floats(PIXELS))
    assert data.class_names is not None and data.class_names[3] == f"{field} 3"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[:-1], r"has 36875 bytes, and samples .* CIFAR-10 .* take 3073 each"),
        (lambda data: b"\x0a" + data[1:], "row 0 has label 10, which no class of CIFAR-10 is"),
        (lambda data: b"", "holds no samples"),
    ],
)
def test_what_is_something_else_is_refused(tmp_path, spoil, said):
    path = write(tmp_path / "test_batch.bin", PIXELS, LABELS)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=said) as caught:
        open_data(path, SPEC, PLAIN)
    assert "\n" not in str(caught.value)


def test_files_of_other_kinds_beside_them(tmp_path):
    write(tmp_path / "test_batch.bin", PIXELS, LABELS)
    (tmp_path / "a.csv").write_text("a,label\n1,0\n")
    with pytest.raises(DataError, match=r"holds both a.csv and test_batch.bin"):
        open_data(tmp_path, SPEC, PLAIN)
