"""Class folders: what is listed, in which order, and what is refused."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError

PLAIN = Preprocessing()


@pytest.fixture
def calib(class_folder, pixels):
    return class_folder({"dog": pixels(3, 8, 8), "cat": pixels(2, 8, 8), "émeu": pixels(2, 8, 8)})


@pytest.fixture
def opened(calib, spec):
    return lambda **options: open_data(calib, spec(1, 8, 8), PLAIN, **options)


def test_sorted_folder_names_are_the_classes(calib, opened, pixels):
    data = opened()
    assert data.class_names == ("cat", "dog", "émeu")
    assert data.labels.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert data.where(2) == str(calib / "dog" / "000.png")
    x = np.concatenate([batch.x for batch in data.batches()])
    np.testing.assert_array_equal(x[2:5, 0], pixels(3, 8, 8).astype(np.float32) / 255)


def test_images_may_lie_deeper_in_upper_case_and_behind_links(calib, opened):
    (calib / "cat" / "more").mkdir()
    shutil.copy(calib / "cat" / "000.png", calib / "cat" / "more" / "A.PNG")
    shutil.move(calib / "dog", calib.parent / "elsewhere")
    (calib / "dog").symlink_to(calib.parent / "elsewhere")
    assert opened().labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_hidden_files_are_skipped_and_others_are_mentioned(calib, opened):
    (calib / ".DS_Store").touch()
    (calib / "cat" / "._000.png").touch()
    (calib / "__MACOSX" / "cat").mkdir(parents=True)
    (calib / "__MACOSX" / "cat" / "._000.png").touch()
    # A network drive keeps a thumbnail of each image in a folder beside it.
    thumbnails = calib / "cat" / "@eaDir" / "000.png"
    thumbnails.mkdir(parents=True)
    shutil.copy(calib / "cat" / "000.png", thumbnails / "SYNOFILE_THUMB_M.png")
    (calib / "@eaDir").mkdir()
    (calib / "lost+found").mkdir()
    assert len(opened()) == 7
    assert opened().notes == ()
    (calib / "cat" / "notes.txt").touch()
    (note,) = opened().notes
    assert "1 file not taken for images (cat/notes.txt)" in note


def test_a_flat_folder_does_without_labels(tmp_path, spec, pixels):
    for number, image in enumerate(pixels(3, 8, 8)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    data = open_data(tmp_path, spec(1, 8, 8), PLAIN, labels="model")
    assert len(data) == 3
    assert data.labels is None
    assert data.class_names is None
    (batch,) = data.batches()
    assert batch.y.tolist() == [-1, -1, -1]
    with pytest.raises(DataError, match="holds images and no class folders"):
        open_data(tmp_path, spec(1, 8, 8), PLAIN)


def test_numbers_sort_as_numbers_and_that_is_said(class_folder, pixels, spec):
    folder = class_folder({str(n): pixels(1, 8, 8) for n in range(11)})
    data = open_data(folder, spec(1, 8, 8), PLAIN)
    assert data.class_names == tuple(map(str, range(11)))
    assert "folder 2 is class 2" in data.notes[0]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["10_ten", "2_two", "1_one"], ["1_one", "2_two", "10_ten"]),
        (["010", "002"], ["002", "010"]),
        # No numbers of their own, so no order either.
        (["1a", "1b", "10"], ["10", "1a", "1b"]),
        (["class2", "class10"], ["class10", "class2"]),
        (["1", "x"], ["1", "x"]),
    ],
)
def test_leading_numbers(class_folder, pixels, spec, names, wanted):
    folder = class_folder({name: pixels(1, 8, 8) for name in names})
    assert list(open_data(folder, spec(1, 8, 8), PLAIN).class_names) == wanted


def _empty_class(calib):
    (calib / "bird").mkdir()


def _class_without_images(calib):
    (calib / "bird").mkdir()
    (calib / "bird" / "a.webm").touch()


def _class_of_sound(calib):
    (calib / "bird").mkdir()
    (calib / "bird" / "a.WAV").touch()


def _loose(calib):
    (calib / "stray.jpg").touch()


def _same_stem(calib):
    shutil.copy(calib / "cat" / "000.png", calib / "cat" / "000.jpg")


def _link_loop(calib):
    (calib / "cat" / "again").symlink_to(calib)


def _self_link(calib):
    (calib / "cat" / "self").symlink_to(calib / "cat" / "self")


def _dead_link(calib):
    (calib / "cat" / "gone.png").symlink_to(calib / "nowhere.png")


def _no_classes(calib):
    shutil.rmtree(calib)
    calib.mkdir()


def _fifo(calib):
    os.mkfifo(calib / "cat" / "pipe.png")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_empty_class, r"bird holds no image: add images"),
        (_class_without_images, r"bird holds no image \(only 1 other file: .webm\)"),
        (_class_of_sound, r"bird holds audio files, which are not decoded: give what the model"),
        (_loose, r"beside its class folders \(stray.jpg\)"),
        (_same_stem, r"000.* differ in their ending only"),
        (_link_loop, r"again is a link to a folder above it"),
        (_self_link, r"self can't be followed \(Too many levels"),
        (_dead_link, r"gone.png is no file, or a link that leads nowhere"),
        (_no_classes, r"holds no class folders"),
        (_fifo, r"pipe.png is no file"),
    ],
)
def test_refused(calib, opened, spoil, said):
    spoil(calib)
    with pytest.raises(DataError, match=said) as caught:
        opened()
    assert "\n" not in str(caught.value)


def test_names_that_break_lines_are_shown_escaped(calib, opened):
    (calib / "bi\nrd").mkdir()
    with pytest.raises(DataError) as caught:
        opened()
    assert r"bi\nrd" in str(caught.value)


def test_names_that_are_no_text_are_read_and_hashed(calib, opened):
    shutil.copy(calib / "cat" / "000.png", os.fsencode(calib / "cat") + b"/\xff.png")
    data = opened()
    assert len(data) == 8
    assert len(data.sha256) == 64


def test_a_file_that_vanished_is_named(calib, opened):
    data = opened()
    (calib / "dog" / "001.png").unlink()
    with pytest.raises(DataError, match=r"001.png can't be read"):
        list(data.batches())


def test_nothing_without_labels(tmp_path, spec):
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"holds no image \(only 1 other file: .txt\)"):
        open_data(tmp_path, spec(1, 8, 8), PLAIN, labels="model")


@pytest.mark.parametrize("name", ["annotations", "Annotations", "labels"])
def test_a_data_set_of_boxes_is_named_as_that(tmp_path, spec, name):
    for folder, file in (("images", "0.png"), (name, "instances_val.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(b"{}")
    with pytest.raises(DataError, match="boxes or masks"):
        open_data(tmp_path, spec(1, 4, 4), Preprocessing())


@pytest.mark.parametrize(
    ("images", "table", "said"),
    [
        ("d", "d/labels.csv", r"by --labels {0}/d/labels\.csv"),
        ("d/images", "d/train.csv", r"give --data {0}/d/images --labels {0}/d/train\.csv"),
        ("d/train", "d/train.csv", r"by --labels {0}/d/train\.csv"),
        ("d/images", "d/images/x.jsonl", r"one class \(images\)"),
    ],
)
def test_a_table_of_labels_beside_images_is_named(tmp_path, spec, pixels, images, table, said):
    (tmp_path / images).mkdir(parents=True)
    for number, image in enumerate(pixels(2, 4, 4)):
        Image.fromarray(image).save(tmp_path / images / f"{number}.png")
    (tmp_path / table).write_text("id,label\n0,1\n1,0\n")
    with pytest.raises(DataError, match=said.format(tmp_path)):
        open_data(tmp_path / "d", spec(1, 4, 4), Preprocessing()).for_classes(2, None, None)
