"""What happens to images without an attacker: noise, blur, loss of contrast, JPEG.

Four of the corruptions of Hendrycks and Dietterich (arXiv 1903.12261), each at three strengths that
double; theirs are made for two sizes of images.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from cloakify.attacks.base import sample_generator
from cloakify.numeric.arrays import Array, Indices, floats

# (pixels [n, H, W, C] in [0, 1], strength, index of each, seed) -> the same, corrupted
Corrupt = Callable[[Array, float, Indices, int], Array]

# Modes in which Pillow writes JPEG, by the number of channels.
_MODES = {1: "L", 3: "RGB"}

# Which draw the noise is, apart from the starts of attacks.
_NOISE = 1 << 29


def add_noise(pixels: Array, deviation: float, index: Indices, seed: int) -> Array:
    """Add Gaussian noise of this standard deviation."""
    noise = [
        sample_generator(seed, int(place), _NOISE).standard_normal(pixels.shape[1:])
        for place in index
    ]
    return np.asarray(pixels + deviation * np.stack(noise), np.float32)


def blur(pixels: Array, radius: float, index: Indices, seed: int) -> Array:
    """Blur with a Gaussian of this standard deviation, in pixels."""
    return np.asarray(gaussian_filter(pixels, (0, radius, radius, 0), mode="nearest"), np.float32)


def lower_contrast(pixels: Array, kept: float, index: Indices, seed: int) -> Array:
    """Draw each channel towards its mean."""
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    return floats(mean + kept * (pixels - mean))


def compress(pixels: Array, quality: float, index: Indices, seed: int) -> Array:
    """Write and read images as JPEG of this quality."""
    return np.stack([_compressed(image, round(quality)) for image in pixels])


def _compressed(image: Array, quality: int) -> Array:
    channels = image.shape[2]
    levels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
    plain = Image.fromarray(levels[..., 0] if channels == 1 else levels, _MODES[channels])
    file = io.BytesIO()
    plain.save(file, "JPEG", quality=quality)
    pixels = np.asarray(Image.open(file, formats=["JPEG"]), np.float32)
    return floats(pixels.reshape(image.shape) / 255)


CORRUPTIONS: dict[str, tuple[Corrupt, tuple[float, ...]]] = {
    "noise": (add_noise, (0.04, 0.08, 0.16)),
    "blur": (blur, (0.5, 1.0, 2.0)),
    "contrast": (lower_contrast, (0.8, 0.4, 0.2)),
    "jpeg": (compress, (80, 40, 20)),
}
"""By name: what does it, and its strengths, the mildest first."""


def corruptions_of(channels: int) -> list[str]:
    """Return the names of those that images of so many channels can suffer."""
    return [name for name in CORRUPTIONS if name != "jpeg" or channels in _MODES]
