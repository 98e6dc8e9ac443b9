"""Corruptions do what they are called, sample by sample, and harder ones do more of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.evaluation.corruptions import CORRUPTIONS, corruptions_of


def images(count: int = 3, channels: int = 3) -> np.ndarray:
    """Smooth coloured blobs of different places, in [0, 1]."""
    rows, columns = np.mgrid[:24, :20] / 20
    blobs = [
        np.exp(-8 * ((rows - 0.05 * k) ** 2 + (columns - 0.3) ** 2)) * (0.3 + 0.2 * channel)
        for k in range(count)
        for channel in range(channels)
    ]
    made = np.stack(blobs).reshape(count, channels, 24, 20)
    return np.moveaxis(made, 1, 3).astype(np.float32)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_harder_ones_move_images_further_whatever_stands_beside_them(
    name: str, channels: int
) -> None:
    corrupt, strengths = CORRUPTIONS[name]
    x, index = images(channels=channels), np.array([4, 9, 2])
    moved = [corrupt(x, strength, index, 0) for strength in strengths]
    assert all(each.shape == x.shape and each.dtype == np.float32 for each in moved)
    far = [np.sqrt(np.square(each - x).mean()) for each in moved]
    assert 0 < far[0] < far[1] < far[2] < 0.5
    (alone,) = corrupt(x[1:2], strengths[1], index[1:2], 0)
    np.testing.assert_allclose(alone, moved[1][1], atol=1e-6)


def test_noise_has_its_deviation_and_contrast_its_share() -> None:
    x = images(20)
    noisy = CORRUPTIONS["noise"][0](x, 0.1, np.arange(20), 0)
    assert (noisy - x).std() == pytest.approx(0.1, rel=0.02)
    other = CORRUPTIONS["noise"][0](x, 0.1, np.arange(20), 1)
    assert np.abs(other - noisy).max() > 0.1
    pale = CORRUPTIONS["contrast"][0](x, 0.4, np.arange(20), 0)
    np.testing.assert_allclose(
        pale.std(axis=(1, 2)), 0.4 * x.std(axis=(1, 2)), rtol=1e-4, atol=1e-9
    )
    np.testing.assert_allclose(pale.mean(axis=(1, 2)), x.mean(axis=(1, 2)), rtol=1e-4)


def test_blur_is_the_sum_over_a_gaussian() -> None:
    point = np.zeros((1, 21, 21, 1), np.float32)
    point[0, 10, 10] = 1
    found = CORRUPTIONS["blur"][0](point, 1.0, np.arange(1), 0)[0, :, :, 0]
    offset = np.arange(21) - 10
    bell = np.exp(-(offset**2) / 2)
    bell[np.abs(offset) > 4] = 0
    expected = np.outer(bell, bell) / bell.sum() ** 2
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(st.sampled_from([1, 3]), st.integers(0, 255), st.integers(3, 12), st.booleans())
def test_one_shade_is_kept_by_compressing(
    channels: int, level: int, height: int, beyond: bool
) -> None:
    """JPEG keeps means best: what is off is the levels' rounding, and shades beyond the ends."""
    wanted = np.array([min(level + place, 255) for place in range(channels)]) / 255
    given_shades = np.where(wanted == 1, 1.7, np.where(wanted == 0, -0.4, wanted))
    x = np.broadcast_to(given_shades if beyond else wanted, (2, height, 5, channels))
    (found, other) = CORRUPTIONS["jpeg"][0](x.astype(np.float32), 95.0, np.arange(2), 0)
    np.testing.assert_array_equal(found, other)
    assert np.abs(found - wanted).max() <= 2 / 255 and found.dtype == np.float32


def test_only_grey_and_coloured_images_are_compressed() -> None:
    assert "jpeg" in corruptions_of(1) and "jpeg" in corruptions_of(3)
    assert corruptions_of(2) == corruptions_of(4) == ["noise", "blur", "contrast"]
