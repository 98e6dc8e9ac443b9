"""Which of a data set's splits is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.data.split_names import SPLITS, preferred
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
SPEC = InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1)


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["train_images", "test_images"], "test_images"),
        (["train2017", "val2017", "test2017"], "val2017"),
        (["Final_Training", "Final_Test"], "Final_Test"),
        (["seg_train", "seg_test"], "seg_test"),
        (["train"], "train"),
        (["train", "eval"], "eval"),
        (["Training", "Testing"], "Testing"),
        (["train", "evaluation", "test"], "evaluation"),
        (["train", "holdout"], "holdout"),
        (["seg_train", "seg_test", "seg_pred"], "seg_test"),
        (["train", "test", "unlabeled"], "test"),
        # Nothing says that these are splits.
        (["train", "extra"], None),
        (["pred", "unlabeled"], None),
        (["bus", "train", "extra"], None),
        # Classes that have such words.
        (["train station", "test tube"], None),
        (["train_images"], None),
        (["train_a", "train_b"], None),
        (["train1", "train2", "test1"], None),
        (["train_images", "test_images", "images"], None),
        (["bullet train", "bullet test", "bullet"], None),
        (["dev test", "val train"], None),
        (["cat", "dog"], None),
        ([], None),
    ],
)
def test_names_of_splits(names: list[str], taken: str | None) -> None:
    assert preferred(names) == taken


@pytest.mark.parametrize("split", SPLITS)
def test_a_word_before_or_behind_changes_nothing(split: str) -> None:
    for other in ("train", "test"):
        if other != split:
            plain = preferred([split, other])
            assert preferred([f"x_{split}", f"x_{other}"]) == f"x_{plain}"
            assert preferred([f"{split}-x9", f"{other}-x9"]) == f"{plain}-x9"


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        place = folder / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(place)


@pytest.mark.parametrize("split", [split for split in SPLITS if not split.startswith("tr")])
def test_folders_of_splits_are_no_classes(tmp_path: Path, split: str) -> None:
    write(tmp_path, "train/cat/1", "train/dog/2", f"{split}/cat/3", f"{split}/dog/4")
    data = open_data(tmp_path, SPEC, PLAIN)
    assert list(data.names) == ["cat/3", "dog/4"] and data.class_names == ("cat", "dog")
    assert f"the samples are those of {split}" in data.notes[0]


@pytest.mark.parametrize("names", [("train", "test"), ("train_images", "test_images")])
def test_a_test_split_without_labels_is_passed_over(tmp_path: Path, names: tuple[str, str]) -> None:
    train, test = names
    write(tmp_path, f"{train}/cat/1", f"{train}/dog/2", f"{test}/3", f"{test}/4")
    data = open_data(tmp_path, SPEC, PLAIN)
    assert list(data.names) == ["cat/1", "dog/2"] and data.class_names == ("cat", "dog")
    assert f"the samples are those of {train}" in data.notes[0]
    # Where no labels are asked for, it is as good as another.
    data = open_data(tmp_path, SPEC, PLAIN, labels="model")
    assert list(data.names) == ["3", "4"]
    (tmp_path / test / "metadata.csv").write_text("file_name,label\n3.png,dog\n4.png,cat\n")
    data = open_data(tmp_path, SPEC, PLAIN)
    assert list(data.names) == ["3", "4"] and data.labels.tolist() == [1, 0]


def test_a_folder_of_all_images_is_no_class(tmp_path: Path) -> None:
    write(tmp_path, "jpg/1", "jpg/2")
    data = open_data(tmp_path, SPEC, PLAIN)
    with pytest.raises(DataError, match=r"one class \(jpg\).*give it as --data, and a list of"):
        data.for_classes(3, None, None)
    assert data.for_classes(1, None, None).labels.tolist() == [0, 0]


def test_what_a_folder_holds_instead_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_X.bin").write_bytes(b"\0" * 99)
    with pytest.raises(DataError, match=r"no class folders \(only 1 other file: .bin\): put the"):
        open_data(tmp_path, SPEC, PLAIN)


def test_a_list_of_another_splits_samples_is_told(tmp_path: Path) -> None:
    write(tmp_path, "test/1", "test/2")
    (tmp_path / "train.csv").write_text("id,label\n7,0\n8,1\n")
    with pytest.raises(DataError, match="the list of other samples, as of another split"):
        open_data(tmp_path / "test", SPEC, PLAIN, labels=str(tmp_path / "train.csv"))


@pytest.mark.parametrize("scale", [1, 255])
def test_pixels_that_fill_next_to_nothing_of_the_range(tmp_path: Path, scale: float) -> None:
    x = np.random.default_rng(0).random((5, 1, 4, 4), np.float32)
    np.savez(tmp_path / "d.npz", x=x * scale, y=np.zeros(5, int))
    data = open_data(tmp_path / "d.npz", SPEC, Preprocessing(scale=255))
    told = [
        note for note in data.notes if "alone, and by its preprocessing the model takes" in note
    ]
    assert len(told) == (scale == 1)
    assert all("takes 0 to 255" in note for note in told)


def test_whole_numbers_of_pixels_are_told_how(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 1, 4, 4), np.int64), y=[0, 1])
    with pytest.raises(DataError, match=r"int64 .* takes float32: store .*x / 255"):
        open_data(tmp_path / "d.npz", SPEC, PLAIN)
    np.savez(tmp_path / "d.npz", x=np.full((2, 1, 4, 4), 200, np.int32), y=[0, 1])
    with pytest.raises(DataError, match=r"from 0 to 255 store x.astype\(np.uint8\), else store"):
        open_data(tmp_path / "d.npz", SPEC, PLAIN)


@pytest.mark.parametrize(("dtype", "white"), [("uint8", 255), ("uint16", 65535), ("bool", 1)])
@pytest.mark.parametrize("scale", [1, 255])
def test_whole_pixels_by_their_types(tmp_path: Path, dtype: str, white: int, scale: float) -> None:
    x = np.random.default_rng(0).integers(0, white, (5, 4, 4), endpoint=True).astype(dtype)
    np.savez(tmp_path / "d.npz", x=x, y=np.zeros(5, int))
    data = open_data(tmp_path / "d.npz", SPEC, Preprocessing(scale, (0.5,), (0.25,)))
    wanted = (x.astype(np.float64) / white * scale - 0.5) / 0.25
    np.testing.assert_allclose(data.batch(np.arange(5)).x[:, 0], wanted, rtol=1e-5, atol=1e-5)
    assert len(data.notes) == 1 and "pixels" in data.notes[0]


@pytest.mark.parametrize(("most", "said"), [(255, "store x.astype"), (4095, "4095, and pixels of")])
def test_of_few_bits_in_sixteen_white_is_unknown(tmp_path: Path, most: int, said: str) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((5, 4, 4), most, np.uint16), y=np.zeros(5, int))
    with pytest.raises(DataError, match=said):
        open_data(tmp_path / "d.npz", SPEC, PLAIN)


@pytest.mark.parametrize("form", ["x{}", "X{}", "x_{}", "{}X", "{}_x", "{}Images", "{}_images"])
def test_arrays_of_splits_by_name(tmp_path: Path, form: str) -> None:
    of_labels = (
        form.replace("x", "y")
        .replace("X", "Y")
        .replace("images", "labels")
        .replace("Images", "Labels")
    )
    made = {}
    for number, split in enumerate(("train", "test")):
        made[form.format(split)] = np.full((5, 1, 4, 4), number / 2, np.float32)
        made[of_labels.format(split)] = np.full(5, number)
    np.savez(tmp_path / "d.npz", **made)
    data = open_data(tmp_path / "d.npz", SPEC, PLAIN)
    assert data.labels.tolist() == [1] * 5 and (data.batch(np.arange(5)).x == 0.5).all()


def test_images_of_no_pixels_have_no_range(tmp_path: Path) -> None:
    spec = InputSpec("x", (None, 1, None, None), np.dtype(np.float32), 1)
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 0, 4), np.float32), y=[0, 1, 0])
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    assert not data.notes
