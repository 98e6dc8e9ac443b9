"""Attacked copies find their samples by name, by index or by order, or the run stops."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from cloakify.data import Preprocessing, open_copies, open_data
from cloakify.data.fitting import ImageFit
from cloakify.errors import DataError

PLAIN = Preprocessing()


@pytest.fixture
def images(class_folder, pixels, spec):
    """A folder of 8 images in two classes, opened."""
    path = class_folder({"a": pixels(4, 5, 5), "b": pixels(4, 5, 5)[::-1]})
    return open_data(path, spec(1, 5, 5), PLAIN)


@pytest.fixture
def rows(tmp_path, spec):
    """Eight rows, opened."""
    x = np.arange(8, dtype=np.float32)[:, None] / 10 + np.zeros((8, 3), np.float32)
    np.savez(tmp_path / "d.npz", input=x, y=np.arange(8) % 2)
    return open_data(tmp_path / "d.npz", spec(3, channel_axis=None), PLAIN)


def pair(dataset, path, spec):
    return open_copies(path, dataset, spec(*dataset.sample_shape), PLAIN, ImageFit())


def pair_rows(dataset, path, spec):
    return open_copies(path, dataset, spec(3, channel_axis=None), PLAIN, ImageFit())


def test_images_pair_by_name_whatever_their_ending_and_order(images, tmp_path, spec):
    from PIL import Image

    copies = tmp_path / "copies"
    for file in images.path.rglob("*.png"):
        other = copies / file.relative_to(images.path).with_suffix(".bmp")
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - np.asarray(Image.open(file))).save(other)
    index = np.array([6, 0, 3])
    (clean,) = images.batches(index)
    found = pair(images, copies, spec).load(index)
    np.testing.assert_allclose(found, 1 - clean.x, atol=1e-6)
    assert found.dtype == np.float32
    limited = open_data(images.path, spec(1, 5, 5), PLAIN, limit=3)
    (clean,) = limited.batches()
    np.testing.assert_allclose(
        pair(limited, copies, spec).load(clean.index), 1 - clean.x, atol=1e-6
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: (p / "b" / "002.png").unlink(), r"holds no attacked copy of b/002"),
        (lambda p: shutil.copy(p / "b" / "002.png", p / "b" / "x.png"), r"holds b/x, which .* not"),
        (lambda p: (p / "a").rename(p / "c"), r"holds c/000, c/001, c/002 and 1 more, which"),
    ],
)
def test_names_without_a_partner(images, tmp_path, spec, change, text):
    copies = tmp_path / "copies"
    shutil.copytree(images.path, copies)
    change(copies)
    with pytest.raises(DataError, match=text) as caught:
        pair(images, copies, spec)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 4


def test_images_for_rows_have_no_partner(images, rows, spec, tmp_path):
    np.savez(tmp_path / "i.npz", input=np.zeros((8, 1, 5, 5), np.float32), y=np.arange(8) % 2)
    data = open_data(tmp_path / "i.npz", spec(1, 5, 5), PLAIN)
    with pytest.raises(DataError, match="rows without"):
        pair(data, images.path, spec)


def test_arrays_pair_by_index(rows, tmp_path, spec):
    order = np.array([3, 1, 2, 0, 7, 6, 5, 4])
    (clean,) = rows.batches()
    np.savez(tmp_path / "c.npz", x=clean.x[order] + 1, index=order)
    found = pair_rows(rows, tmp_path / "c.npz", spec).load(np.array([7, 0]))
    np.testing.assert_allclose(found, clean.x[[7, 0]] + 1)
    folder = tmp_path / "npy"
    folder.mkdir()
    np.save(folder / "x.npy", clean.x[order] + 2)
    np.save(folder / "index.npy", order)
    found = pair_rows(rows, folder, spec).load(np.array([1]))
    np.testing.assert_allclose(found, clean.x[[1]] + 2)


@pytest.mark.parametrize("given", ["c", "c.zip", "c/*.npz"])
@pytest.mark.parametrize("parts", [1, 2])
def test_an_index_is_found_wherever_the_copies_are(rows, tmp_path, spec, given, parts):
    (clean,) = rows.batches()
    order = np.arange(8)[::-1]
    (tmp_path / "c").mkdir()
    for number, part in enumerate(np.split(order, parts)):
        np.savez(tmp_path / "c" / f"{number}.npz", x=clean.x[part] + 1, index=part)
    shutil.make_archive(str(tmp_path / "c"), "zip", tmp_path / "c")
    found = pair_rows(rows, tmp_path / given, spec).load(np.arange(8))
    np.testing.assert_allclose(found, clean.x + 1)
    if parts > 1 and given != "c.zip":
        np.savez(tmp_path / "c" / "1.npz", x=clean.x[:4])
        with pytest.raises(DataError, match=r"1.npz has no array 'index', and other files"):
            pair_rows(rows, tmp_path / given, spec)


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ([0, 1, 2, 3, 4, 5, 6], "shape"),
        ([0.0, 1, 2, 3, 4, 5, 6, 7], "float64"),
        ([0, 1, 2, 3, 4, 5, 6, 8], "holds 8, but .* 0 to 7"),
        ([0, 1, 2, 3, 4, 5, -1, 7], "holds -1, but"),
        ([0, 1, 2, 3, 4, 5, 5, 7], "holds 5 twice"),
    ],
)
def test_an_index_that_does_not_fit(rows, tmp_path, spec, index, text):
    np.savez(tmp_path / "c.npz", x=np.zeros((8, 3), np.float32), index=np.array(index))
    with pytest.raises(DataError, match=text):
        pair_rows(rows, tmp_path / "c.npz", spec)


def test_an_index_that_lacks_samples(rows, tmp_path, spec):
    np.savez(tmp_path / "c.npz", x=np.zeros((6, 3), np.float32), index=np.arange(6))
    with pytest.raises(DataError, match="no attacked copy of sample 6, sample 7"):
        pair_rows(rows, tmp_path / "c.npz", spec)


def test_arrays_pair_by_order(rows, tmp_path, spec):
    (clean,) = rows.batches()
    np.save(tmp_path / "all.npy", clean.x + 1)
    limited = open_data(rows.path, spec(3, channel_axis=None), PLAIN, limit=4)
    (some,) = limited.batches()
    for data, want in ((rows, clean), (limited, some)):
        found = pair_rows(data, tmp_path / "all.npy", spec).load(want.index)
        np.testing.assert_allclose(found, want.x + 1)
    np.save(tmp_path / "some.npy", some.x + 1)
    found = pair_rows(limited, tmp_path / "some.npy", spec).load(some.index)
    np.testing.assert_allclose(found, some.x + 1)
    np.save(tmp_path / "few.npy", clean.x[:3])
    with pytest.raises(DataError, match=r"3 attacked copies, but .* 8 samples, of which 4"):
        pair_rows(limited, tmp_path / "few.npy", spec)


def test_copies_of_another_shape(rows, tmp_path, spec):
    np.save(tmp_path / "wide.npy", np.zeros((8, 4), np.float32))
    anything = spec(None, channel_axis=None)
    with pytest.raises(DataError, match=r"shape \(4,\), .* of \(3,\)"):
        open_copies(tmp_path / "wide.npy", rows, anything, PLAIN, ImageFit())
    with pytest.raises(DataError, match="takes"):
        pair_rows(rows, tmp_path / "wide.npy", spec)
