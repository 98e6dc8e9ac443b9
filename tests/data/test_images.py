"""Decoding: modes, sizes, layouts, and files that are damaged or hostile."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cloakify.data import Preprocessing, open_data
from cloakify.data.fitting import ImageFit
from cloakify.errors import CloakifyError, DataError, UsageError

PLAIN = Preprocessing()


@pytest.fixture
def load(tmp_path, spec):
    """Write one image and read it back as the model takes it."""

    def loaded(image, *sample, preprocessing=PLAIN, resize="crop", ending="png", **spec_options):
        (tmp_path / "c").mkdir(exist_ok=True)
        file = tmp_path / "c" / f"i.{ending}"
        if isinstance(image, bytes):
            file.write_bytes(image)
        else:
            image.save(file)
        data = open_data(
            tmp_path, spec(*sample, **spec_options), preprocessing, fit=ImageFit(resize=resize)
        )
        (batch,) = data.batches()
        assert batch.x.flags.c_contiguous
        assert batch.x.shape[1:] == data.sample_shape
        return batch.x[0]

    return loaded


def test_layouts(load, pixels):
    rgb = pixels(5, 7, 3)
    image, unit = Image.fromarray(rgb), rgb.astype(np.float32) / 255
    np.testing.assert_array_equal(load(image, 3, 5, 7), unit.transpose(2, 0, 1))
    np.testing.assert_array_equal(load(image, 5, 7, 3, channel_axis=3), unit)
    luma = np.asarray(image.convert("L")) / np.float32(255)
    np.testing.assert_array_equal(load(image, 1, 5, 7)[0], luma)
    np.testing.assert_array_equal(load(image, 5, 7, channel_axis=None), luma)


def test_any_size_takes_the_images_own(load, pixels):
    assert load(Image.fromarray(pixels(5, 7)), 1, None, None).shape == (1, 5, 7)
    assert load(Image.fromarray(pixels(5, 7)), None, None, 1, channel_axis=3).shape == (5, 7, 1)


def test_modes(load, pixels):
    grey = pixels(4, 4)
    unit = grey.astype(np.float32) / 255
    three = load(Image.fromarray(grey), 3, 4, 4)
    np.testing.assert_array_equal(three, np.stack([unit] * 3))
    rgba = Image.fromarray(pixels(4, 4, 4))
    rgb = np.asarray(rgba)[..., :3].transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(load(rgba, 3, 4, 4), rgb)
    assert load(rgba, 4, 4, 4, channel_axis=1).shape == (4, 4, 4)
    palette = Image.fromarray(pixels(4, 4, 3)).quantize(4)
    palette.info["transparency"] = 0
    assert load(palette, 3, 4, 4).shape == (3, 4, 4)
    bilevel = Image.fromarray(grey > 128)
    np.testing.assert_array_equal(load(bilevel, 1, 4, 4)[0], (grey > 128).astype(np.float32))


def test_sixteen_bits_keep_their_precision(load):
    deep = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4369
    x = load(Image.fromarray(deep), 1, 4, 4)
    np.testing.assert_array_equal(x[0], deep.astype(np.float32) / 65535)
    assert load(Image.fromarray(deep), 3, 4, 4).shape == (3, 4, 4)
    with pytest.raises(DataError, match="16-bit grey, but the model takes 4 channels"):
        load(Image.fromarray(deep), 4, 4, 4, channel_axis=1)


def test_float_pixels_have_no_known_range(load):
    with pytest.raises(DataError, match="floats of unknown range"):
        load(Image.fromarray(np.zeros((4, 4), np.float32)), 1, 4, 4, ending="tiff")


def test_whole_numbers_of_32_bits_have_no_known_range(load):
    """As 16 bits, which Pillow gives the same mode, levels from 0 to 255 would all be black."""
    levels = np.arange(16).reshape(4, 4) * 17
    with pytest.raises(DataError, match="whole numbers of 32 bits and of unknown range"):
        load(Image.fromarray(levels.astype(np.int32)), 1, 4, 4, ending="tiff")
    deep = Image.fromarray((levels * 257).astype(np.uint16))
    expected = levels.astype(np.float32) / 255
    np.testing.assert_allclose(load(deep, 1, 4, 4, ending="tiff")[0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (3, 5), (8, 9), (1, 30)])
def test_crop_covers_the_model_size_and_cuts_the_centre(load, size):
    x = load(Image.linear_gradient("L").resize(size), 1, 8, 8)
    assert x.shape == (1, 8, 8)
    # A gradient from top to bottom stays centred: black and white are cut off alike.
    assert abs(float(x.mean()) - 0.5) < 0.06


def test_stretch_keeps_the_edges_and_refuse_refuses(load):
    image = Image.linear_gradient("L").resize((4, 64))
    stretched = load(image, 1, 8, 8, resize="stretch")
    assert stretched[0, 0, 0] < 0.1
    assert stretched[0, -1, 0] > 0.9
    with pytest.raises(DataError, match="is 4×64 pixels but the model takes 8×8"):
        load(image, 1, 8, 8, resize="refuse")


def test_preprocessing_is_applied_by_channel(load, pixels):
    rgb = pixels(4, 4, 3)
    preprocessing = Preprocessing(255.0, (100.0, 110.0, 120.0), (2.0, 3.0, 4.0))
    x = load(Image.fromarray(rgb), 4, 4, 3, channel_axis=3, preprocessing=preprocessing)
    np.testing.assert_allclose(x, (rgb - [100.0, 110, 120]) / [2, 3, 4], rtol=1e-5, atol=1e-4)
    with pytest.raises(UsageError, match="--mean has 3 numbers"):
        load(Image.fromarray(rgb), 1, 4, 4, preprocessing=preprocessing)


def test_a_model_of_whole_numbers_gets_the_bytes(load, pixels):
    grey = pixels(4, 4)
    white = Preprocessing(scale=255.0)
    x = load(Image.fromarray(grey), 1, 4, 4, dtype="uint8", preprocessing=white)
    np.testing.assert_array_equal(x[0], grey)
    with pytest.raises(DataError, match="pass --scale 255"):
        load(Image.fromarray(grey), 1, 4, 4, dtype="uint8")


def test_half_precision(load, pixels):
    assert load(Image.fromarray(pixels(4, 4)), 1, 4, 4, dtype="float16").dtype == np.float16


@pytest.mark.parametrize("sample", [(784,), (64, 8, 8), (2, 3, 4, 5)])
def test_models_that_take_no_images(load, pixels, sample):
    axis = 1 if len(sample) == 3 else None
    with pytest.raises(DataError, match=r"which are no images: give the data as .npz"):
        load(Image.fromarray(pixels(8, 8)), *sample, channel_axis=axis)


def test_large_images_are_decoded_on_several_threads_in_order(
    class_folder, pixels, spec, monkeypatch
):
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    images = pixels(7, 160, 160)
    data = open_data(class_folder({"a": images}), spec(1, 160, 160), PLAIN)
    x = np.concatenate([batch.x for batch in data.batches(batch_size=4)])
    np.testing.assert_array_equal(x[:, 0], images.astype(np.float32) / 255)
    (data.path / "a" / "005.png").write_bytes(b"")
    data = open_data(data.path, spec(1, 160, 160), PLAIN)
    with pytest.raises(DataError, match=r"005.png .*the file is empty"):
        list(data.batches(batch_size=4))


def test_images_of_several_sizes_for_a_model_of_any_size(class_folder, pixels, spec):
    folder = class_folder({"a": pixels(2, 8, 8), "b": pixels(1, 8, 9)})
    data = open_data(folder, spec(1, None, None), PLAIN)
    with pytest.raises(DataError, match=r"b/000.png is 9×8 pixels but the first image is 8×8"):
        list(data.batches())


def test_not_an_image(load):
    with pytest.raises(DataError, match=r"i.png can't be read as an image \(not one of PNG"):
        load(b"hello", 1, 4, 4)
    with pytest.raises(DataError, match="the file is empty"):
        load(b"", 1, 4, 4)


def test_a_decompression_bomb_is_an_error(load, pixels, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match="40 pixels"):
        load(Image.fromarray(pixels(8, 8)), 1, 8, 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match="decompression bomb"):
        load(Image.fromarray(pixels(8, 8)), 1, 8, 8)


def _encoded(ending):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(file, ending)
    return file.getvalue()


SEEDS = {ending: _encoded(ending) for ending in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM")}


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_damaged_files_give_samples_or_data_errors(load, ending, data):
    damaged = bytearray(SEEDS[ending])
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    damaged = damaged[: cut if data.draw(st.booleans()) else None]
    try:
        x = load(bytes(damaged), 3, 8, 8)
    except CloakifyError as error:
        assert isinstance(error, DataError)
        assert "\n" not in str(error)
    else:
        assert x.min() >= 0
        assert x.max() <= 1
