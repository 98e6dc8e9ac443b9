"""Forms that samples come in, as far as options differ in what they say of them."""

from __future__ import annotations

IMAGES = "files of images"
"""Which are decoded and brought to the model's size."""

PIXELS = "arrays of pixels"
"""Bytes, which are preprocessed as images are."""

NUMBERS = "numbers as the model takes them"
"""Of which preprocessing says only what range and scale they have."""

TOKENS = "text or tokens"
"""What a model looks up embeddings of."""

COLOURS = "images with colours"
"""Beside one of these: there are some, and the model takes them."""

TEXT_FILES = "files of text"
"""Beside one of these: something of the samples was read from such."""
