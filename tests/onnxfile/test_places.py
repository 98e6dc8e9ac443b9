"""Outputs lie where nothing else is lost: not in the data, not on an input, nor on each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloakify.errors import CloakifyError, UsageError
from cloakify.onnxfile import check_places


@pytest.fixture
def data(tmp_path: Path) -> Path:
    image = tmp_path / "calib" / "cat" / "0.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    (tmp_path / "out").mkdir()
    return tmp_path / "calib"


@pytest.mark.parametrize("place", ["cat/0.png", "cat/new.onnx", "new.onnx", "../out/link/x.onnx"])
def test_no_output_lies_in_the_data(data, place):
    (data.parent / "out" / "link").symlink_to(data / "cat")
    with pytest.raises(UsageError, match=r"lies in .*calib, which is read"):
        check_places([data / place], [data])


def test_an_image_of_the_data_by_another_name(data):
    link = data.parent / "out" / "h.onnx"
    link.symlink_to(data / "cat" / "0.png")
    check_places([link], [data])
    with pytest.raises(UsageError, match="is read, too"):
        check_places([link], [data / "cat" / "0.png"])


def test_data_that_is_the_current_folder(data, monkeypatch):
    monkeypatch.chdir(data)
    for place in ("h.onnx", "./cat/h.onnx", f"../{data.name}/h.onnx"):
        with pytest.raises(UsageError, match="which is read"):
            check_places([Path(place)], [Path(".")])
    check_places([Path("../out/h.onnx")], [Path(".")])


@pytest.mark.parametrize("name", ["n" * 300, "nul\0", "loop/x.onnx"])
def test_names_that_no_file_can_have(data, name):
    (data.parent / "loop").symlink_to("loop")
    with pytest.raises(UsageError) as caught:
        check_places([data.parent / name], [data])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_not_replaced_by_one(data, kind):
    place = data.parent / "out" / "x"
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    with pytest.raises(UsageError, match="is no regular file"):
        check_places([place], [data])


def test_two_outputs_in_one_place(data):
    out = data.parent / "out"
    (out / "again").symlink_to(out)
    with pytest.raises(UsageError, match="two outputs would be written there"):
        check_places([out / "x.onnx", out / "again" / "x.onnx"], [data])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_the_right_to_write(data):
    (data.parent / "out").chmod(0o500)
    with pytest.raises(CloakifyError, match="can't be written to"):
        check_places([data.parent / "out" / "x"], [data])
