"""Zip archives: the same data as the folder that they were packed of, and nothing else."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.errors import CloakifyError, DataError
from cloakify.graph.analysis.inputs import InputSpec
from tests.data.test_idx import write as write_idx

PLAIN = Preprocessing()
SPEC = InputSpec("x", (None, 1, 5, 4), np.dtype(np.float32), 1)
LABELS_OF_EMNIST = "emnist-mnist-test-labels-idx1-ubyte.gz"
PIXELS = np.random.default_rng(5).integers(0, 256, (12, 5, 4), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def folders(path: Path) -> None:
    for number, pixels in enumerate(PIXELS):
        place = path / ("cat", "dog")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(pixels))


def splits(path: Path) -> None:
    for split in ("train", "test"):
        folders(path / split)


def within(path: Path) -> None:
    splits(path / "cats and dogs" / "images")
    (path / "__MACOSX").mkdir()
    (path / "__MACOSX" / "._x").write_bytes(b"x")


def arrays(path: Path) -> None:
    path.mkdir(exist_ok=True)
    np.save(path / "x.npy", PIXELS / np.float32(255))
    np.save(path / "y.npy", np.arange(12) % 3)


def keras(path: Path) -> None:
    path.mkdir(exist_ok=True)
    y = np.arange(12, dtype=np.uint8) % 3
    np.savez(path / "mnist.npz", x_train=PIXELS, y_train=y, x_test=PIXELS[:6], y_test=y[:6])


def table(path: Path) -> None:
    path.mkdir(exist_ok=True)
    for number, pixels in enumerate(PIXELS):
        (path / f"{number}.png").write_bytes(png(pixels))
    lines = [f"{number}.png,{('cat', 'dog')[number % 2]}" for number in range(len(PIXELS))]
    (path / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))


FORMS = [folders, splits, within, arrays, keras, table, write_idx]


def pack(folder: Path, path: Path, how: int = zipfile.ZIP_DEFLATED) -> Path:
    """Pack a folder as Kaggle does: the files, without entries for folders."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                # Some programs write ./ before all names.
                dot = "./" if how == zipfile.ZIP_STORED else ""
                archive.write(file, f"{dot}{file.relative_to(folder).as_posix()}")
    return path


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_an_archive_is_its_folder(tmp_path, temporary, form, how):
    folder = tmp_path / "folder"
    form(folder)
    path = pack(folder, tmp_path / "archive.zip", how)
    expected, data = (open_data(each, SPEC, PLAIN) for each in (folder, path))
    np.testing.assert_array_equal(data.labels, expected.labels)
    assert data.class_names == expected.class_names
    assert data.sha256 == expected.sha256
    np.testing.assert_array_equal(
        next(data.batches(batch_size=12)).x, next(expected.batches(batch_size=12)).x
    )
    assert f"{path} was unpacked" in data.notes[0]
    # Notes are about the archive, wherever it was unpacked to.
    assert str(temporary) not in " ".join(data.notes)
    assert os.listdir(temporary)
    del data
    assert not os.listdir(temporary)


def test_a_part_of_an_archive(tmp_path, temporary):
    splits(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    for part in ("train", "test"):
        data = open_data(path / part, SPEC, PLAIN)
        assert data.sha256 == open_data(tmp_path / "folder" / part, SPEC, PLAIN).sha256
        assert "12 files" in data.notes[0]
        del data
    with pytest.raises(DataError, match=r"archive.zip holds no valid: it holds test/cat/0.png"):
        open_data(path / "valid", SPEC, PLAIN)
    assert not os.listdir(temporary)


@pytest.mark.parametrize("inside", ["train.zip", "train.zip/train", "competition/train.zip"])
def test_an_archive_in_an_archive_by_its_name(tmp_path, temporary, inside):
    """As Kaggle packs competitions: train.zip, test.zip and a table in one archive."""
    splits(tmp_path / "folder")
    packed = tmp_path / "packed"
    name, _, part = inside.partition(".zip")
    (packed / name).parent.mkdir(parents=True)
    pack(tmp_path / "folder", packed / f"{name}.zip")
    (packed / "test.zip").write_bytes(b"never looked at")
    (packed / "sample.csv").write_text("id,label\n1,2\n")
    path = pack(packed, tmp_path / "archive.zip")
    expected = open_data(tmp_path / "folder" / part.strip("/"), SPEC, PLAIN)
    data = open_data(path / inside, SPEC, PLAIN)
    assert data.sha256 == expected.sha256
    assert f"{path}/{name}.zip was unpacked" in data.notes[1]
    assert str(temporary) not in " ".join(data.notes)
    del data
    assert not os.listdir(temporary)


def test_a_file_of_images_in_an_archive_and_its_labels(tmp_path, temporary):
    write_idx(tmp_path / "gzip", "emnist-mnist-test-images-idx3-ubyte.gz", LABELS_OF_EMNIST)
    write_idx(tmp_path / "gzip", "emnist-digits-test-images-idx3-ubyte.gz", "digits-test-labels")
    path = pack(tmp_path / "gzip", tmp_path / "gzip.zip")
    data = open_data(path / "emnist-mnist-test-images-idx3-ubyte.gz", SPEC, PLAIN)
    assert len(data) == len(PIXELS) and "2 files" in data.notes[0]


@pytest.mark.parametrize("name", ["train.csv", "labels.txt", "labels.npy"])
def test_labels_that_lie_in_the_archive(tmp_path, temporary, name):
    """As Kaggle has them: train/ with images, and train.csv beside it."""
    folder = tmp_path / "folder"
    (folder / "train").mkdir(parents=True)
    lines = []
    for number, pixels in enumerate(PIXELS):
        (folder / "train" / f"{number:02}.png").write_bytes(png(pixels))
        lines.append(f"{number:02}.png,{('cat', 'dog')[number % 2]}")
    (folder / "train.csv").write_text("\n".join(["id,label", *lines]))
    (folder / "labels.txt").write_text("\n".join(lines))
    np.save(folder / "labels.npy", np.arange(12) % 2)
    path = pack(folder, tmp_path / "archive.zip")
    expected = open_data(folder / "train", SPEC, PLAIN, labels=str(folder / name))
    for place in (path, path / "train") if name == "train.csv" else (path / "train",):
        data = open_data(place, SPEC, PLAIN, labels=str(path / name))
        np.testing.assert_array_equal(data.labels, expected.labels)
        assert data.class_names == expected.class_names
        assert data.sha256 == expected.sha256
        del data
        assert not os.listdir(temporary)
    # What an error advises is so.
    with pytest.raises(DataError, match=rf"by --labels {path}/train.csv, or"):
        open_data(path, SPEC, PLAIN)
    with pytest.raises(DataError, match=r"archive.zip holds no other.csv"):
        open_data(path / "train", SPEC, PLAIN, labels=str(path / "other.csv"))
    assert not os.listdir(temporary)


def test_tar_files_in_an_archive_are_shards(tmp_path, temporary):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, pixels in enumerate(PIXELS):
        with tarfile.open(folder / f"{number % 3}.tar.gz", "w:gz") as shard:
            image = tarfile.TarInfo(f"{('cat', 'dog')[number % 2]}/{number}.png")
            image.size = len(png(pixels))
            shard.addfile(image, io.BytesIO(png(pixels)))
    data = open_data(pack(folder, tmp_path / "archive.zip"), SPEC, PLAIN)
    assert data.sha256 == open_data(folder, SPEC, PLAIN).sha256


@given(st.lists(st.integers(0, 2), min_size=12, max_size=12).filter(lambda of: len(set(of)) == 3))
@settings(deadline=None, max_examples=20)
def test_archives_by_a_pattern_are_the_folder_that_they_make(tmp_path_factory, of):
    """Whichever of them a file lies in."""
    tmp_path = tmp_path_factory.mktemp("parts")
    folders(tmp_path / "folder")
    (tmp_path / "parts").mkdir()
    for file, part in zip(sorted((tmp_path / "folder").rglob("*.png")), of, strict=True):
        with zipfile.ZipFile(tmp_path / "parts" / f"{part}.zip", "a") as archive:
            archive.write(file, file.relative_to(tmp_path / "folder"))
    expected = open_data(tmp_path / "folder", SPEC, PLAIN)
    for pattern in ("*.zip", "{0..2}.zip"):
        data = open_data(tmp_path / "parts" / pattern, SPEC, PLAIN)
        assert data.sha256 == expected.sha256
        assert data.class_names == expected.class_names
        assert f"parts/{pattern} was unpacked (3 archives, 12 files" in data.notes[0]


def test_parts_that_can_not_be_put_together(tmp_path, temporary):
    """Each is refused by one line, and nothing is left."""
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, form in (("a", arrays), ("b", arrays)):
        form(tmp_path / name)
        pack(tmp_path / name, parts / f"{name}.zip")
    with pytest.raises(DataError, match=r"b.zip holds x.npy, which is there already"):
        open_data(parts / "*.zip", SPEC, PLAIN)
    with pytest.raises(DataError, match=r"holds archives.*'.*/parts/\*.zip'"):
        open_data(parts, SPEC, PLAIN)
    (parts / "c.npz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"matches both .* give a pattern for files of one kind"):
        open_data(parts / "*", SPEC, PLAIN)
    (parts / "b.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"b.zip can't be unpacked"):
        open_data(parts / "*.zip", SPEC, PLAIN)
    assert not os.listdir(temporary)


def test_a_name_of_nothing_is_refused(tmp_path, temporary):
    """Behind a zero nothing of a name is read."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("QQQQ.png", png(PIXELS[0]))
    path.write_bytes(path.read_bytes().replace(b"QQQQ.png", b"\0QQQ.png"))
    with pytest.raises(DataError, match=r"called '', which is no name for a file"):
        open_data(path, SPEC, PLAIN)
    assert not os.listdir(temporary)


def test_entries_of_folders_are_passed_over(tmp_path, temporary):
    folders(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("./", "cat/", "./dog/"):
            archive.writestr(zipfile.ZipInfo(name), b"")
    assert open_data(path, SPEC, PLAIN).sha256 == open_data(tmp_path / "folder", SPEC, PLAIN).sha256


def test_what_is_read_twice_is_unpacked_once(tmp_path, temporary):
    folders(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    first, second = (open_data(path, SPEC, PLAIN) for _ in range(2))
    assert len(os.listdir(temporary)) == 1
    assert first.notes == second.notes
    del first
    assert next(second.batches(batch_size=12)).x.shape == (12, 1, 5, 4)
    # It is another archive by now.
    (tmp_path / "folder" / "cat" / "0.png").unlink()
    other = open_data(pack(tmp_path / "folder", path), SPEC, PLAIN)
    assert (len(other), len(second), len(os.listdir(temporary))) == (11, 12, 2)
    del other, second
    assert not os.listdir(temporary)


def test_a_full_disk_is_no_damage(tmp_path, temporary, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    folders(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    monkeypatch.setattr(zipfile.ZipExtFile, "read", full)
    with pytest.raises(DataError, match=r"No space left on device.*or set TMPDIR elsewhere"):
        open_data(path, SPEC, PLAIN)
    assert not os.listdir(temporary)


def test_images_without_labels(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, pixels in enumerate(PIXELS):
        (folder / f"{number}.png").write_bytes(png(pixels))
    path = pack(folder, tmp_path / "archive.zip")
    data = open_data(path, SPEC, PLAIN, labels="model")
    assert len(data) == 12
    with pytest.raises(DataError, match=r"archive.zip holds images and no class folders"):
        open_data(path, SPEC, PLAIN)


def link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("cat/2.png")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def member(name: str) -> object:
    return lambda archive: archive.writestr(name, png(PIXELS[0]))


def encrypted(archive: zipfile.ZipFile) -> None:
    archive.writestr("cat/3.png", b"x")
    archive.infolist()[-1].flag_bits |= 1


REFUSED = {
    "above": (member("../evil.png"), "no name for a file"),
    "inside above": (member("cat/../../evil.png"), "no name for a file"),
    "absolute": (member("/tmp/evil.png"), "no name for a file"),
    "backslash": (member("cat\\..\\..\\evil.png"), "no name for a file"),
    "link": (link, "is a link or no regular file"),
    "nested": (
        member("test.zip"),
        r"archive.zip holds archives \(test.zip\): name the one that is meant "
        r"\(.*archive.zip/test.zip\), or unpack them",
    ),
    "nested rar": (member("data/test.rar"), r"archive.zip holds archives \(data/test.rar\)"),
    "twice": (member("cat/0.png"), "cat/0.png, which is there already: give each file once"),
    "file as a folder": (member("cat/0.png/1.png"), "which is there already: give each file once"),
    "encrypted": (encrypted, "is encrypted: unpack it"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_refused(tmp_path, temporary, kind):
    add, said = REFUSED[kind]
    folders(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    with zipfile.ZipFile(path, "a") as archive:
        add(archive)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=said) as caught:
        open_data(path, SPEC, PLAIN)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_is_refused_before_anything_is_unpacked(tmp_path, temporary):
    path = tmp_path / "archive.zip"
    zeros = bytes(1 << 24)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(70):
            archive.writestr(f"cat/{number}.png", zeros)
    with pytest.raises(DataError, match="claims to unpack from"):
        open_data(path, SPEC, PLAIN)
    assert not os.listdir(temporary)


def test_no_room(tmp_path, temporary, monkeypatch):
    folders(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "archive.zip")
    usage = type(shutil.disk_usage(tmp_path))(1 << 40, 1 << 40, (1 << 28) + 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DataError, match=r"unpacks to 12 files and .* more than the 100 bytes"):
        open_data(path, SPEC, PLAIN)
    assert not os.listdir(temporary)


@given(st.data())
def test_a_damaged_archive_is_refused_or_the_same(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zip")
    arrays(folder / "folder")
    packed = pack(folder / "folder", folder / "archive.zip").read_bytes()
    expected = open_data(folder / "folder", SPEC, PLAIN).sha256
    spoilt = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, len(spoilt) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40))
    (folder / "archive.zip").write_bytes(spoilt[: len(spoilt) - cut])
    try:
        found = open_data(folder / "archive.zip", SPEC, PLAIN)
    except CloakifyError as error:
        assert "\n" not in str(error)
    else:
        # Times and comments may be anything.
        assert found.sha256 == expected
