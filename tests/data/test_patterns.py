"""Patterns of files: as shells expand them, and the same samples as those of the files."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Preprocessing, open_data, patterns
from cloakify.data.open_source import shards_at
from cloakify.errors import DataError
from cloakify.limits.stages import stored

PLAIN = Preprocessing()
_ENDS = st.integers(0, 130).map(str) | st.sampled_from(["000", "007", "012", "09"])
_GROUPS = st.tuples(_ENDS, _ENDS).map(lambda ends: f"{{{ends[0]}..{ends[1]}}}") | st.lists(
    st.sampled_from(["a", "b2", ""]), min_size=2, max_size=3
).map(lambda names: "{" + ",".join(names) + "}")
_PLAIN = st.sampled_from(["x", "", "-", "{}", "{one}", "}", "a.b"])


@settings(max_examples=60)
@given(st.lists(st.tuples(_PLAIN, _GROUPS), min_size=1, max_size=2), _PLAIN)
def test_braces_are_bash_s(parts: list[tuple[str, str]], end: str) -> None:
    text = "p" + "".join(map("".join, parts)) + end
    shell = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True
    )
    assert patterns.written_out(text) == shell.stdout.splitlines()


def encode(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_tar(path, images, start):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images, start):
            for name, data in ((f"{number}.png", encode(image)), (f"{number}.cls", b"1")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


def test_shards_by_braces_and_by_stars(tmp_path, spec, pixels):
    images = pixels(12, 4, 4)
    for shard in range(6):
        write_tar(tmp_path / "shards" / f"{shard + 7:03}.tar", images[2 * shard :][:2], 2 * shard)
    whole = open_data(tmp_path / "shards", spec(1, 4, 4), PLAIN)
    shards = sorted((tmp_path / "shards").iterdir())
    for place in (tmp_path / "shards", tmp_path / "shards" / "*.tar"):
        assert shards_at(place) == shards
    assert shards_at(shards[0]) == shards_at(tmp_path / "absent") == []
    for pattern in ("{007..012}.tar", "*.tar", "0{07,08,09,10,11,12}.tar", "0*{7..9}.tar"):
        data = open_data(tmp_path / "shards" / pattern, spec(1, 4, 4), PLAIN)
        if pattern != "0*{7..9}.tar":
            assert data.sha256 == whole.sha256
            assert data.where(9).endswith("011.tar member 9")
        else:
            assert len(data) == 6
    with pytest.raises(DataError, match=r"2 of 3 files .*000\.tar.*013\.tar"):
        open_data(tmp_path / "shards" / "0{00,07,13}.tar", spec(1, 4, 4), PLAIN)


def test_images_by_stars_are_of_their_folder_s_class(tmp_path, spec, pixels, class_folder):
    folder = class_folder({"cat": pixels(3, 4, 4), "dog": pixels(5, 4, 4)[3:]})
    (folder / "cat" / "readme.txt").touch()
    whole = open_data(folder, spec(1, 4, 4), PLAIN)
    for pattern in ("*/*.png", "**/*.png", "{cat,dog}/*.png", "*/0*"):
        data = open_data(folder / pattern, spec(1, 4, 4), PLAIN)
        assert (data.sha256, data.class_names) == (whole.sha256, ("cat", "dog"))
    some = open_data(folder / "*" / "*1.png", spec(1, 4, 4), PLAIN)
    assert (some.class_names, [some.where(row)[-11:] for row in range(2)]) == (
        ("cat", "dog"),
        ["cat/001.png", "dog/001.png"],
    )
    (noted,) = open_data(folder / "*" / "*", spec(1, 4, 4), PLAIN).notes
    assert "readme.txt" in noted
    flat = folder / "cat" / "*.png"
    with pytest.raises(DataError, match=r"in no class folder.*--labels"):
        open_data(flat, spec(1, 4, 4), PLAIN)
    assert len(open_data(flat, spec(1, 4, 4), PLAIN, labels="model")) == 3


def test_rows_of_several_files_are_those_of_one(tmp_path, spec):
    x = np.random.default_rng(0).random((20, 3), np.float32)
    names = np.array(["cat", "dog", "eel", "cat"] * 5)
    for part in range(4):
        own = slice(5 * part, 5 * part + 5)
        np.savez(tmp_path / f"part-{part}.npz", x=x[own], y=names[own])
    np.savez(tmp_path / "all.npz", x=x, y=names)
    (tmp_path / "folder").mkdir()
    data = open_data(tmp_path / "part-*.npz", spec(3, channel_axis=None), PLAIN)
    whole = open_data(tmp_path / "all.npz", spec(3, channel_axis=None), PLAIN)
    assert (data.sha256, data.class_names) == (whole.sha256, whole.class_names)
    order = np.random.default_rng(1).permutation(20)
    (batch,) = data.batches(order)
    np.testing.assert_array_equal(batch.x, x[order])
    assert data.where(7).endswith("part-1.npz array 'x' row 2")
    limited = open_data(tmp_path / "part-*.npz", spec(3, channel_axis=None), PLAIN, limit=9)
    assert len(limited) == 9


@pytest.mark.parametrize(
    ("files", "pattern", "said"),
    [
        ([], "*.jpg", "matches no file: check the pattern, and keep it in quotes"),
        (["a/b/", "c/"], "*", "matches folders alone"),
        (["a.npz", "b.csv"], "*", "matches both"),
        (["a.doc", "b.doc"], "*.doc", "is no data that cloakify reads"),
        (["a.tar"], "{0..99999999}.tar", "names more than"),
        (["a.tar"], "{0..9999}{0..9999}.tar", "names more than"),
        (["a.tar"], "{a,b}.tar", r"1 of 2 files that it names can't be found \(.*b.tar"),
    ],
)
def test_what_a_pattern_can_not_stand_for(tmp_path, spec, files, pattern, said):
    for name in files:
        path = tmp_path / name
        path.mkdir(parents=True) if name.endswith("/") else path.touch()
    with pytest.raises(DataError, match=said) as caught:
        open_data(tmp_path / pattern, spec(1, 4, 4), PLAIN)
    assert "\n" not in str(caught.value)


def test_parts_of_different_kinds_are_refused(tmp_path, spec):
    np.savez(tmp_path / "0.npz", x=np.zeros((2, 3), np.float32), y=[0, 1])
    np.savez(tmp_path / "1.npz", x=np.zeros((2, 4), np.float32), y=[0, 1])
    with pytest.raises(DataError, match="give files of one kind"):
        open_data(tmp_path / "*.npz", spec(3, channel_axis=None), PLAIN)
    np.savez(tmp_path / "1.npz", x=np.zeros((2, 3), np.float32), y=["a", "b"])
    with pytest.raises(DataError, match="has numbers for labels where other files have names"):
        open_data(tmp_path / "*.npz", spec(3, channel_axis=None), PLAIN)


def test_what_exists_is_no_pattern(tmp_path, spec):
    path = tmp_path / "odd[1]{a,b}*.npz"
    np.savez(path, x=np.zeros((2, 3), np.float32), y=[0, 1])
    assert not patterns.is_pattern(path)
    assert len(open_data(path, spec(3, channel_axis=None), PLAIN)) == 2
    assert not patterns.is_pattern(Path("plain.npz"))
    assert not patterns.is_pattern(Path("set{7}"))


@pytest.mark.parametrize("name", ["x\0y", "a" * 5000, "*\0", "a" * 300 + "/*"])
def test_names_that_no_file_can_have(tmp_path, spec, name):
    assert stored([name]) == 0
    with pytest.raises(DataError, match=r"does not exist|matches no file") as caught:
        open_data(tmp_path / name, spec(1, 4, 4), PLAIN)
    assert "\n" not in str(caught.value)
