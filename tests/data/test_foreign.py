"""Formats that are not read are refused by what they are."""

from __future__ import annotations

import gzip
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cloakify.data import Preprocessing, open_data
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

SPEC = InputSpec("x", (None, 1, 4, 4), np.dtype(np.float32), 1)


class Bomb:
    """What says so where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/1.png", b"")


def database(path: Path) -> None:
    with sqlite3.connect(path) as opened:
        opened.execute("create table t (x)")


def content(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "data_batch_1": (content(pickle.dumps(Bomb())), "Python pickle.*never.*binary version, which"),
    "d.pkl": (content(pickle.dumps(Bomb(), 0)), "Python pickle.*never"),
    "d.pt": (zipped, "saved by torch.*weights_only"),
    "d.h5": (content(b"\x89HDF\r\n\x1a\n"), "HDF5.*h5py"),
    "d.mat": (
        content(b"MATLAB 5.0 MAT-file"),
        "MATLAB.*loadmat, bring the samples' axis to the front",
    ),
    "d.db": (database, "SQLite.*csv"),
    "d.xlsx": (zipped, "spreadsheet.*csv"),
    "d.arff": (content(b"@relation r"), "ARFF.*loadarff"),
    "d.svmlight": (content(b"1 1:0.5"), "load_svmlight_file"),
    "d.safetensors": (content(b"{}"), "safetensors"),
    "data.mdb": (content(b"\0" * 40), "LMDB.*package lmdb"),
    "d.mp4": (content(b"\0\0\0\x18ftypmp42"), "a video.*frames"),
    "d.tfrecord-00000-of-00002": (content(b"\0" * 40), "TFRecord"),
    "d.bin.gz": (content(gzip.compress(b"a")), "packed by gzip.*unpack"),
    "d.bin.bz2": (content(b"BZh9"), "bzip2.*unpack"),
    "d.json": (content(b"[]"), "jsonl"),
    "d.data": (content(b"1,2"), "call it .csv"),
    "data_batch_1.bin": (content(b"\3" * 3074), "binary version of CIFAR-10 .*savez"),
    "d.bin": (content(b"\0\0\x08"), "no data that cloakify reads"),
    "empty": (content(b""), "no data that cloakify reads"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("labels", ["given", "model"])
def test_a_file_is_called_what_it_is(tmp_path: Path, name: str, labels: str) -> None:
    write, said = FILES[name]
    write(tmp_path / name)
    with pytest.raises(DataError, match=said) as caught:
        open_data(tmp_path / name, SPEC, Preprocessing(), labels=labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("data_b")])
def test_so_it_is_in_a_folder(tmp_path: Path, name: str) -> None:
    write, said = FILES[name]
    write(tmp_path / name)
    for labels in ("given", "model"):
        with pytest.raises(DataError, match=said):
            open_data(tmp_path, SPEC, Preprocessing(), labels=labels)


@pytest.mark.parametrize("ending", [".avif", ".heic", ".jp2", ".svg", ".dcm"])
def test_images_that_are_not_decoded(tmp_path: Path, ending: str) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / f"1{ending}").write_bytes(b"x")
    with pytest.raises(DataError, match=r"not decoded: convert it to \.png"):
        open_data(tmp_path, SPEC, Preprocessing())


LISTS: dict[str, tuple[bytes, str]] = {
    "imagelabels.mat": (b"MATLAB 5.0 MAT-file", "MATLAB.*count classes from 0 on.*numpy.save"),
    "labels.h5": (b"\x89HDF\r\n\x1a\n", "HDF5.*h5py.*numpy.save"),
    "labels.pkl": (pickle.dumps([1]), "Python pickle.*never"),
    "labels": (pickle.dumps([1]), "Python pickle.*never"),
    "labels.xlsx": (b"PK\3\4", "spreadsheet.*as .csv$"),
    "labels.parquet": (b"PAR1", "as .csv"),
    "instances.json": (b'{"images": [], "annotations": []}', "COCO.*class of each image"),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_labels_as_well(tmp_path: Path, name: str) -> None:
    data, said = LISTS[name]
    (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 4, 4), np.float32))
    with pytest.raises(DataError, match=said) as caught:
        open_data(tmp_path / "x.npy", SPEC, Preprocessing(), labels=str(tmp_path / name))
    assert "\n" not in str(caught.value) and "encoding" not in str(caught.value)
    assert "savez" not in str(caught.value)
