"""The affine map from pixels to the model's units, against plain NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cloakify.data import Preprocessing
from cloakify.errors import UsageError

channel = st.floats(-3, 3, width=32)
positive = st.floats(0.125, 8, width=32)


@st.composite
def cases(draw):
    channels = draw(st.sampled_from([1, 3]))
    sizes = st.sampled_from([1, channels])
    preprocessing = Preprocessing(
        draw(st.sampled_from([1.0, 2.0, 255.0])),
        tuple(draw(st.lists(channel, min_size=(k := draw(sizes)), max_size=k))),
        tuple(draw(st.lists(positive, min_size=(k := draw(sizes)), max_size=k))),
    )
    return preprocessing, channels


@given(cases(), hnp.array_shapes(min_dims=2, max_dims=2, max_side=4), st.booleans(), st.data())
def test_to_model_is_the_formula(case, size, channels_last, data):
    preprocessing, channels = case
    shape = (2, *size, channels) if channels_last else (2, channels, *size)
    axis = 3 if channels_last else 1
    x = data.draw(hnp.arrays(np.uint8, shape))
    got = preprocessing.to_model(x, axis)

    mean, std = (np.resize(v, channels) for v in (preprocessing.mean, preprocessing.std))
    want = np.empty(shape)
    for c in range(channels):
        at = (..., c) if channels_last else (slice(None), c)
        want[at] = (x[at].astype(np.float64) / 255 * preprocessing.scale - mean[c]) / std[c]
    assert got.dtype == np.float32
    size = preprocessing.scale + np.abs(mean).max()
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * size / std.min())


@given(cases(), st.data())
def test_box_holds_every_pixel_and_touches_the_extremes(case, data):
    preprocessing, channels = case
    low, high = preprocessing.box(0, 1, channels)
    x = data.draw(hnp.arrays(np.uint8, (4, channels)))
    got = preprocessing.to_model(x, 1)
    assert (got >= low).all()
    assert (got <= high).all()
    black, white = (np.full((1, channels), v, np.uint8) for v in (0, 255))
    np.testing.assert_array_equal(preprocessing.to_model(black, 1)[0], low)
    np.testing.assert_array_equal(preprocessing.to_model(white, 1)[0], high)


@given(cases(), st.floats(0.001, 0.5))
def test_factor_is_model_units_per_data_unit(case, eps):
    preprocessing, channels = case
    factor = preprocessing.factor(channels)
    assert factor.shape == (channels,)
    low, high = preprocessing.box(0.25, 0.25 + eps, channels)
    magnitude = np.maximum(np.abs(low), np.abs(high)).max()
    np.testing.assert_allclose(eps * factor, high - low, rtol=1e-4, atol=1e-5 * magnitude)


def test_parse_reads_numbers_and_fractions():
    parsed = Preprocessing.parse("1/255", "0.485, 0.456,0.406", "0.229,0.224,0.225")
    assert parsed == Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert Preprocessing.parse() == Preprocessing()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": "1,2"}, "--scale takes one number"),
        ({"scale": "0"}, "--scale must be a positive number"),
        ({"scale": "-1"}, "--scale must be a positive number"),
        ({"mean": "a,b"}, "--mean: 'a' in 'a,b' is not a number"),
        ({"mean": "1/0"}, "is not a number"),
        ({"mean": ""}, "--mean: '' in '' is not a number"),
        ({"std": "1,0"}, "--std must be positive"),
        ({"mean": "0,0,0", "std": "1,1"}, "--mean has 3 numbers and --std has 2"),
        ({"mean": "1e999"}, "is not a number|finite"),
        ({"mean": "nan"}, "is not a number"),
    ],
)
def test_parse_refuses(options, said):
    with pytest.raises(UsageError, match=said):
        Preprocessing.parse(**options)


def test_channels_must_match():
    with pytest.raises(UsageError, match="--mean has 3 numbers but the model has 1 channel:"):
        Preprocessing(mean=(0.1, 0.2, 0.3)).factor(1)
    with pytest.raises(UsageError, match="ascending"):
        Preprocessing().box(1, 0)


def test_whole_numbers_other_than_bytes_are_no_pixels():
    with pytest.raises(TypeError):
        Preprocessing().to_model(np.zeros((1, 2), np.int64), None)
