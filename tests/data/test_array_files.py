"""Arrays: names, layouts, element types, damage, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.data.fitting import ImageFit
from cloakify.data.rows import match_layout
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec

PLAIN = Preprocessing()
X = np.random.default_rng(3).random((6, 1, 4, 4), dtype=np.float32)
Y = np.array([0, 1, 2, 0, 1, 2])


def test_rows_outside_the_range_are_told_of_the_box(tmp_path, spec):
    """A user of a table has no pixels to scale."""
    np.savez(tmp_path / "d.npz", x=np.float32([[2.4, 5.8], [-3, 1]]), y=np.array([0, 1]))
    data = open_data(tmp_path / "d.npz", spec(2, channel_axis=None), PLAIN)
    for row in (0, 1):
        with pytest.raises(DataError, match=f"row {row} .*pass --box none if these are no pixels"):
            next(data.batches(np.array([row])))


def test_files_of_one_array_each(tmp_path, spec):
    """As KMNIST and Kuzushiji-49 are published."""
    np.savez_compressed(tmp_path / "kmnist-test-imgs.npz", np.uint8(X * 255)[:, 0])
    np.savez_compressed(tmp_path / "kmnist-test-labels.npz", np.uint8(Y))
    images, labels = tmp_path / "kmnist-test-imgs.npz", tmp_path / "kmnist-test-labels.npz"
    data = open_data(images, spec(1, 4, 4), PLAIN, labels=str(labels))
    np.testing.assert_array_equal(data.labels, Y)
    (batch,) = data.batches(batch_size=6)
    np.testing.assert_array_equal(batch.x, np.float32(np.uint8(X * 255)) / np.float32(255))
    with pytest.raises(DataError, match="holds no labels"):
        open_data(images, spec(1, 4, 4), PLAIN)


@pytest.fixture
def load(tmp_path, spec):
    """Save arrays as .npz and read them back."""

    def loaded(sample=(1, 4, 4), *, save=np.savez, channel_axis=1, dtype="float32", **arrays):
        labels, box = arrays.pop("mode", "given"), arrays.pop("box", (0.0, 1.0))
        save(tmp_path / "d.npz", **arrays)
        data = open_data(
            tmp_path / "d.npz",
            spec(*sample, channel_axis=channel_axis, dtype=dtype),
            arrays.get("preprocessing", PLAIN),
            labels=labels,
            box=box,
        )
        x = np.concatenate([batch.x for batch in data.batches(batch_size=4)])
        return x, data

    return loaded


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("x_name", ["x", "input"])
@pytest.mark.parametrize("y_name", ["y", "labels", "label"])
def test_names(load, save, x_name, y_name):
    x, data = load(save=save, **{x_name: X, y_name: Y, "other": Y})
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(data.labels, Y)


def test_arrays_that_savez_was_given_without_names(tmp_path, spec):
    np.savez(tmp_path / "d.npz", X, Y)
    data = open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN)
    np.testing.assert_array_equal(next(data.batches()).x, X)
    np.testing.assert_array_equal(data.labels, Y)
    assert any("arr_0 are the samples, arr_1 the labels" in note for note in data.notes)
    np.savez(tmp_path / "d.npz", Y, X)
    with pytest.raises(DataError):
        open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN)


def test_the_inputs_own_name_comes_first(load):
    x, _ = load(x=X * 0, input=X, y=Y)
    np.testing.assert_array_equal(x, X)


def test_an_input_named_like_labels(tmp_path):
    np.savez(tmp_path / "d.npz", y=X, labels=Y)
    data = open_data(tmp_path / "d.npz", InputSpec("y", (None, 1, 4, 4), X.dtype, 1), PLAIN)
    np.testing.assert_array_equal(data.labels, Y)


def test_fortran_order_and_byte_order(load, tmp_path, spec):
    x, _ = load(x=np.asfortranarray(X), y=Y)
    np.testing.assert_array_equal(x, X)
    x, _ = load(x=X.astype(">f4"), y=Y.astype(">i2"))
    np.testing.assert_array_equal(x, X)
    assert x.dtype.isnative


def test_a_column_of_labels_will_do(load):
    _, data = load(x=X, y=Y[:, None])
    np.testing.assert_array_equal(data.labels, Y)


def test_npy_folder_and_file(tmp_path, spec):
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match=r"holds no labels: add them as y.npy"):
        open_data(tmp_path, spec(1, 4, 4), PLAIN)
    with pytest.raises(DataError, match=r"samples without labels"):
        open_data(tmp_path / "x.npy", spec(1, 4, 4), PLAIN)
    np.save(tmp_path / "y.npy", Y)
    data = open_data(tmp_path, spec(1, 4, 4), PLAIN)
    np.testing.assert_array_equal(data.labels, Y)
    for path in (tmp_path, tmp_path / "x.npy"):
        data = open_data(path, spec(1, 4, 4), PLAIN, labels="model")
        assert data.labels is None
        np.testing.assert_array_equal(next(data.batches()).x, X)


@given(
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.booleans(), st.booleans()),
    st.booleans(),
)
def test_moving_the_channels_there_and_back(size, known, channels_last):
    channels, height, width = size
    height_axis, width_axis = (
        s if k else None for s, k in zip((height, width), known, strict=True)
    )
    first = InputSpec("i", (None, channels, height_axis, width_axis), np.dtype("f4"), 1)
    last = InputSpec("i", (None, height_axis, width_axis, channels), np.dtype("f4"), 3)
    here, there = (last, first) if channels_last else (first, last)
    shape = (height, width, channels) if channels_last else size
    x = np.arange(2 * channels * height * width).reshape(2, *shape)
    # Its own layout is never touched, even where the other one would fit as well.
    np.testing.assert_array_equal(match_layout(shape, here, "x").apply(x), x)
    moved = match_layout(shape, there, "x").apply(x)
    assert moved.shape[0] == 2
    assert moved.size == x.size
    if moved.shape[1:] == shape:
        np.testing.assert_array_equal(moved, x)
    else:
        back = np.moveaxis(moved, 1, 3) if channels_last else np.moveaxis(moved, 3, 1)
        np.testing.assert_array_equal(back, x)


def test_a_plane_of_grey_gets_its_channel(load):
    x, _ = load(x=X[:, 0], y=Y)
    np.testing.assert_array_equal(x, X)
    x, _ = load((4, 4, 1), channel_axis=3, x=X[:, 0], y=Y)
    np.testing.assert_array_equal(x, X.transpose(0, 2, 3, 1))


def test_floats_become_other_floats(load):
    for stored in ("float16", "float64"):
        x, _ = load(x=X.astype(stored), y=Y)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, X, rtol=1e-3)


def test_bytes_for_a_model_of_bytes(load):
    x, _ = load(x=(X * 255).astype(np.uint8), y=Y, dtype="uint8", box=(0, 255))
    assert x.dtype == np.uint8


def test_vectors(load):
    x, _ = load((5,), channel_axis=None, x=np.full((3, 5), 7.5, np.float32), y=Y[:3], box=None)
    assert x.shape == (3, 5)


def with_value(value):
    x = X.copy()
    x[4, 0, 1, 1] = value
    return x


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X}, r"d.npz holds no labels: add them as 'y'"),
        ({"pictures": X, "y": Y}, r"holds pictures, y: name the samples 'x', or 'input'"),
        ({"x": X, "y": Y[:5]}, r"has 5 labels but .* has 6 samples"),
        ({"x": X, "y": Y + 0.5}, r"'y' row 0 is [0-9.]+, no class index"),
        ({"x": X, "y": 2 * np.eye(6)}, r"row 0 holds 2: give a class index .* or 0 and 1"),
        ({"x": X, "y": Y.reshape(6, 1, 1)}, r"give one label for each"),
        ({"x": X, "y": Y - 1}, r"'y' row 0 is -1: class indices count from 0"),
        ({"x": X, "y": np.full(6, 2**64 - 1, np.uint64)}, r"row 0 is 18446744073709551615"),
        ({"x": X[:0], "y": Y[:0]}, r"holds no samples"),
        ({"x": X[:, :, :3], "y": Y}, r"shape \(1, 3, 4\) but input 'input' takes \(1, 4, 4\)"),
        ({"x": np.float32(1), "y": Y}, r"is a single number"),
        ({"x": (X > 0.5).astype(np.uint8), "y": Y}, r"bytes that are 0 and 1, and pixels"),
        (
            {"x": (X * 255).astype(np.uint8), "y": Y, "box": None},
            r"holds uint8 .* takes float32: .*x / 255",
        ),
        ({"x": X.astype(np.int64), "y": Y}, r"holds int64 but input 'input' takes float32"),
        ({"x": X.astype(str), "y": Y}, r"holds <U\d+: save it as plain numbers"),
        ({"x": np.array([None] * 6), "y": Y}, r"Python objects, which are never unpickled"),
        ({"x": X, "y": np.array([None] * 6)}, r"Python objects, which are never unpickled"),
        ({"x": with_value(np.nan), "y": Y}, r"array 'x' row 4 holds NaN"),
        ({"x": with_value(np.inf), "y": Y}, r"array 'x' row 4 holds infinity"),
        (
            {"x": X.astype(float) + 1e300, "y": Y},
            r"row 0 holds infinity, or a value beyond float32",
        ),
        ({"x": X * 255, "y": Y}, r"row 0 holds values from .* pass --scale 255"),
        ({"x": X * 4 - 2, "y": Y}, r"row 0 .*pass the --scale, --mean and --std"),
        ({"x": with_value(1.001), "y": Y}, r"row 4 holds values .* takes 0 to 1"),
    ],
)
def test_refused(load, arrays, said):
    with pytest.raises(DataError, match=said) as caught:
        load(**arrays)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_bytes_are_pixels_and_preprocessed_as_images_are(tmp_path, spec, layout, channels):
    fit = ImageFit(channels=channels)
    imagenet = Preprocessing.parse("1", "0.485,0.456,0.406", "0.229,0.224,0.225")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    for number, image in enumerate(pixels.transpose(0, 2, 3, 1)):
        (tmp_path / "folder" / f"{Y[number]}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / f"{Y[number]}" / f"{number}.png")
    images = open_data(tmp_path / "folder", spec(3, 8, 8), imagenet, fit=fit)
    order = [int(Path(name).name) for name in images.names]
    stored = pixels if layout == "nchw" else pixels.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "d.npz", x=stored[order], y=Y[order])
    data = open_data(tmp_path / "d.npz", spec(3, 8, 8), imagenet, fit=fit)
    np.testing.assert_array_equal(
        next(data.batches(batch_size=6)).x, next(images.batches(batch_size=6)).x
    )
    assert any("bytes are taken for pixels from 0 to 255" in note for note in data.notes)
    assert any("red first" in note for note in data.notes) == (channels == "bgr")


def test_bytes_for_a_row_of_numbers_may_be_anything(tmp_path, spec):
    np.savez(tmp_path / "d.npz", x=(X * 255).astype(np.uint8).reshape(6, 16), y=Y)
    with pytest.raises(DataError, match="holds uint8 but input 'input' takes float32"):
        open_data(tmp_path / "d.npz", spec(16, channel_axis=None), PLAIN)


def test_the_range_follows_the_preprocessing(tmp_path, spec):
    imagenet = Preprocessing.parse("1", "0.485,0.456,0.406", "0.229,0.224,0.225")
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=imagenet.to_model(pixels, 1).astype(np.float16), y=Y)
    data = open_data(tmp_path / "d.npz", spec(3, 4, 4), imagenet)
    assert next(data.batches()).x.shape == (6, 3, 4, 4)
    with pytest.raises(DataError, match="by the declared preprocessing"):
        list(open_data(tmp_path / "d.npz", spec(3, 4, 4), PLAIN).batches())


def test_an_announced_size_that_is_not_there(tmp_path, spec):
    """A zip bomb, or a file cut short: the header promises more than the member holds."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 1, 4, 4)}
    )
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "d.npz", "w", compression) as archive:
            archive.writestr("x.npy", header.getvalue() + bytes(64))
        with pytest.raises(DataError, match="64: it is damaged or cut short"):
            open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN, labels="model")
    np.save(tmp_path / "x.npy", X)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(whole[:-1])
    with pytest.raises(DataError, match="cut short"):
        open_data(tmp_path / "x.npy", spec(1, 4, 4), PLAIN, labels="model")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit_is_found(tmp_path, spec, save):
    path = tmp_path / "d.npz"
    save(path, x=np.repeat(X, 1000, axis=0))
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        whole[archive.infolist()[0].compress_size - 5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="'x' can't be read"):
        open_data(path, spec(1, 4, 4), PLAIN, labels="model")


def test_a_full_disk_is_said_before_unpacking(tmp_path, spec, monkeypatch):
    np.savez_compressed(tmp_path / "d.npz", x=X, y=Y)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="set TMPDIR elsewhere"):
        open_data(tmp_path / "d.npz", spec(1, 4, 4), PLAIN, labels="model")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(["d.npz", "z.npz", "x.npy"]), st.data())
def test_damaged_files_give_samples_or_data_errors(tmp_path, spec, name, data):
    np.savez(tmp_path / "d.npz", x=X)
    np.savez_compressed(tmp_path / "z.npz", x=X)
    np.save(tmp_path / "x.npy", X)
    damaged = bytearray((tmp_path / name).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    (tmp_path / name).write_bytes(damaged[: cut if data.draw(st.booleans()) else None])
    try:
        for batch in open_data(tmp_path / name, spec(1, 4, 4), PLAIN, labels="model").batches():
            assert batch.x.shape[1:] == (1, 4, 4)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool, np.uint8])
def test_a_row_of_labels_for_each_sample(load, kind):
    y = np.random.default_rng(0).integers(0, 2, (6, 4))
    _, data = load(x=X, y=y.astype(kind))
    labels = data.labels
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, y)


def test_labels_may_be_names(load, tmp_path, spec):
    names = np.array(["cat", "dog", "bird", "dog", "cat", "bird"])
    _, data = load(x=X, y=names)
    assert data.class_names == ("bird", "cat", "dog")
    assert data.labels.tolist() == [1, 2, 0, 2, 1, 0]
    assert data.for_classes(3, None, ("dog", "cat", "bird")).labels.tolist() == [1, 0, 2, 0, 1, 2]
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", names)
    assert open_data(tmp_path, spec(1, 4, 4), PLAIN).labels.tolist() == [1, 2, 0, 2, 1, 0]


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        # As Keras' and MedMNIST's files have them, and what scikit-learn calls them.
        (("x_{}", "y_{}"), "test"),
        (("{}_images", "{}_labels"), "val"),
        (("X", "Y"), None),
        (("data", "target"), None),
    ],
)
def test_arrays_that_are_called_otherwise(tmp_path, spec, form, taken):
    splits = {"test": ("train", "test"), "val": ("train", "val", "test"), None: ("",)}[taken]
    arrays = {}
    for place, split in enumerate(splits):
        x, y = (name.format(split) for name in form)
        arrays |= {x: X * (split in ("", taken)), y: (Y + place) % 3}
    np.savez(tmp_path / "d.npz", **arrays)
    data = open_data(tmp_path / "d.npz", spec(*X.shape[1:]), PLAIN)
    (batch,) = data.batches()
    np.testing.assert_array_equal(batch.x, X)
    place = splits.index(taken or "")
    assert data.labels is not None and data.labels.tolist() == ((Y + place) % 3).tolist()
    assert bool(data.notes) == (taken is not None)


@pytest.mark.parametrize("channel_axis", [1, 3])
@pytest.mark.parametrize("form", ["npz", "csv"])
def test_pixels_in_a_row_are_a_grey_image(tmp_path, spec, form, channel_axis):
    x = np.random.default_rng(0).random((5, 3, 4), np.float32)
    if form == "npz":
        np.savez(tmp_path / "d.npz", x=x.reshape(5, 12), y=np.arange(5))
    else:
        header = ["label", *(f"pixel{n}" for n in range(12))]
        rows = [[n, *map(float, row.ravel())] for n, row in enumerate(x)]
        lines = [",".join(map(str, row)) for row in [header, *rows]]
        (tmp_path / "d.csv").write_text("\n".join(lines))
    shape = (1, 3, 4) if channel_axis == 1 else (3, 4, 1)
    data = open_data(tmp_path / f"d.{form}", spec(*shape, channel_axis=channel_axis), PLAIN)
    (batch,) = data.batches()
    np.testing.assert_array_equal(batch.x, x.reshape(5, *shape))
    # Of colours they might be in another order.
    with pytest.raises(DataError, match=r"samples of shape \(12\)"):
        open_data(tmp_path / f"d.{form}", spec(3, 2, 2), PLAIN)


@pytest.mark.parametrize(("shape", "axis"), [((4,), None), ((8, 5), None), ((1, 9, 5), 1)])
def test_what_is_no_image_is_told_to_have_no_range(tmp_path, shape, axis):
    """Sound as a wave, as a plane, and as a plane with a channel."""
    spec = InputSpec("x", (None, *shape), np.dtype(np.float32), axis)
    np.savez(tmp_path / "d.npz", x=np.full((3, *shape), -40.0, np.float32), y=[0, 1, 2])
    data = open_data(tmp_path / "d.npz", spec, PLAIN)
    with pytest.raises(DataError, match="--box none"):
        next(data.batches(batch_size=3))
    data = open_data(tmp_path / "d.npz", spec, PLAIN, box=None)
    assert (next(data.batches(batch_size=3)).x == -40).all()
