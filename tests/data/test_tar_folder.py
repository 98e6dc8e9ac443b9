"""A tar file without images is read as the folder that it unpacks to."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
COLOURED = InputSpec("x", (None, 3, 32, 32), np.dtype(np.float32), 1)
GREY = InputSpec("x", (None, 1, 32, 32), np.dtype(np.float32), 1)
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), np.uint8)
LABELS = np.arange(10, dtype=np.uint8)


def cifar_10(folder: Path) -> InputSpec:
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True)
    records = np.concatenate([LABELS[:, None], PIXELS.reshape(10, -1)], axis=1)
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (place / name).write_bytes(records.tobytes())
    (place / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    (place / "readme.html").write_text("<html>")
    return COLOURED


def cifar_100(folder: Path) -> InputSpec:
    place = folder / "cifar-100-binary"
    place.mkdir(parents=True)
    records = np.concatenate([LABELS[:, None] // 2, LABELS[:, None], PIXELS.reshape(10, -1)], 1)
    for name in ("train.bin", "test.bin"):
        (place / name).write_bytes(records.tobytes())
    (place / "fine_label_names.txt").write_text("\n".join("abcdefghij"))
    return COLOURED


def idx(folder: Path) -> InputSpec:
    place = folder / "MNIST" / "raw"
    place.mkdir(parents=True)
    for name, array in (("images-idx3", PIXELS[:, 0]), ("labels-idx1", LABELS)):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (place / f"t10k-{name}-ubyte").write_bytes(head + array.tobytes())
    return GREY


def arrays(folder: Path) -> InputSpec:
    folder.mkdir()
    np.savez(folder / "data.npz", x=PIXELS, y=LABELS)
    return COLOURED


def table(folder: Path) -> InputSpec:
    folder.mkdir()
    (folder / "data.csv").write_text("a,b,label\n0,1,0\n1,0,1\n")
    return InputSpec("x", (None, 2), np.dtype(np.float32), None)


def pack(folder: Path, path: Path) -> Path:
    kind = path.name.partition(".tar")[2].removeprefix(".")
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.add(folder, arcname=".")
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("form", [cifar_10, cifar_100, idx, arrays, table])
@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_a_tar_file_is_its_folder(
    tmp_path: Path, temporary: Path, form: Callable[[Path], InputSpec], kind: str
) -> None:
    spec = form(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / f"data{kind}")
    expected, data = (open_data(each, spec, PLAIN) for each in (tmp_path / "folder", path))
    np.testing.assert_array_equal(data.labels, expected.labels)
    assert data.class_names == expected.class_names and data.sha256 == expected.sha256
    np.testing.assert_array_equal(
        next(data.batches(batch_size=12)).x, next(expected.batches(batch_size=12)).x
    )
    assert f"{path} was unpacked" in data.notes[0]
    assert str(temporary) not in " ".join(data.notes)
    del data
    assert not os.listdir(temporary)


def write(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("data.npz")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


TABLE = b"a,b,label\n0,1,0\n"
REFUSED: dict[str, tuple[dict[str, bytes], str, str]] = {
    "pickles": (
        {"cifar-10-batches-py/data_batch_1": pickle.dumps([]), "cifar-10-batches-py/a.html": b""},
        "",
        "data_batch_1 is a Python pickle: .*never does; take CIFAR's binary version",
    ),
    "video": ({"run/1.mp4": b"\0" * 20}, "", "1.mp4 is a video: take frames"),
    "nothing known": ({"notes": b"abcd", "b.qqq": b"abcd"}, "", r"holds no image \(only 2 other"),
    "a link": ({"data.csv": TABLE}, "/etc/passwd", "is a link or sparse"),
    "a way out": ({"data.csv": TABLE, "../data.csv": TABLE}, "", "no name for a file"),
    "one twice": ({"./data.csv": TABLE, "data.csv": TABLE}, "", "is there already"),
    "samples of their own": ({"1.npz": b"", "1.cls": b"1"}, "", "holds no image"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(tmp_path: Path, temporary: Path, case: str) -> None:
    members, link, said = REFUSED[case]
    path = write(tmp_path / "d.tar.gz", members, link)
    spec = InputSpec("x", (None, 2), np.dtype(np.float32), None)
    with pytest.raises(DataError, match=said) as caught:
        open_data(path, spec, PLAIN)
    assert "\n" not in str(caught.value)
    assert not os.listdir(temporary) and not (tmp_path / "data.csv").exists()


def test_no_room(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = arrays(tmp_path / "folder")
    path = pack(tmp_path / "folder", tmp_path / "d.tar")
    monkeypatch.setattr("cloakify.data.unpacked_folder.room_in", lambda folder: 10)
    with pytest.raises(DataError, match="more than the 10 bytes that go to"):
        open_data(path, spec, PLAIN)
    assert not os.listdir(temporary)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    packed = write(folder / "d.tar.gz", {"a/data.csv": TABLE, "a/readme": b"abc"})
    content = bytearray(gzip.decompress(packed.read_bytes()))
    # Where anything stands: the rest of a block is zeros.
    places = np.flatnonzero(np.frombuffer(content, np.uint8)).tolist()
    for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    (folder / "d.tar").write_bytes(content)
    (folder / "temporary").mkdir()
    spec = InputSpec("x", (None, 2), np.dtype(np.float32), None)
    with mock.patch.object(tempfile, "tempdir", str(folder / "temporary")):
        try:
            open_data(folder / "d.tar", spec, PLAIN)
        except DataError as error:
            assert "\n" not in str(error)
    assert not os.listdir(folder / "temporary")
    assert sorted(os.listdir(folder)) == ["d.tar", "d.tar.gz", "temporary"]
