"""A name for the data itself: the same samples with the same labels, in whatever order they lie.

The digest is the SHA-256 of the line ``cloakify data 2`` followed by the SHA-256 of every sample,
32 bytes each, sorted. A sample's is that of three fields, each preceded by its length in bytes (8
bytes, little-endian):

``key``
    In a class folder the path below the folder, with ``/`` between parts; in a tar file the
    sample's key; empty for rows of an array or a table. UTF-8, with bytes that are none
    left as they are.
``payload``
    The image file's bytes; or for a row of an array its element type as NumPy writes it for
    little-endian data (``<f4``), a space, its shape (``1,28,28``), a newline, and the elements,
    little-endian and in C order. For a model with several inputs that of each array, the data
    input's first and the others in the model's order, each preceded by its length in bytes. For
    text the UTF-8 of the sentence, or of both of a pair, each preceded by its length.
``label``
    The class index as 8 bytes, little-endian, two's complement; −1 where there is none. Of K
    independent labels so many bytes, 0 or 1 each.

So it depends on neither the order, nor the folder's location, nor times, nor shards, nor the
container's compression.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cloakify.numeric.arrays import Indices

Digests = NDArray[np.uint8]

Label = int | Sequence[int]
"""A class index, or 0 and 1 for independent labels."""


SIZE = 32
"""Bytes of a sample's digest."""

CONTENT = 16
"""Bytes of the SHA-256 of a payload by which samples are told apart within a run."""


def digest(samples: Digests) -> str:
    """Return the hex SHA-256 of samples by their own digests, uint8 [n, 32].

    These are sorted in place: a copy would take as much again.
    """
    samples.view(f"S{SIZE}").reshape(-1).sort()
    sha = hashlib.sha256(b"cloakify data 2\n")
    sha.update(samples.data)
    return sha.hexdigest()


def content_digest(payload: bytes) -> bytes:
    """Return what tells a payload from others within a run, ``CONTENT`` bytes."""
    return hashlib.sha256(payload).digest()[:CONTENT]


def sample_digest(key: str, payload: bytes, label: Label) -> bytes:
    """Return the digest of one sample, as the module's docstring defines it."""
    sha = hashlib.sha256()
    for field in (
        key.encode("utf-8", "surrogateescape"),
        payload,
        label.to_bytes(8, "little", signed=True) if isinstance(label, int) else bytes(label),
    ):
        sha.update(len(field).to_bytes(8, "little"))
        sha.update(field)
    return sha.digest()


def first_of_each(contents: Digests) -> Indices:
    """Return the index of the first of each of digests [n, k] that are the same, ascending."""
    # As text of a fixed length, which is compared byte by byte.
    texts = contents.view(f"S{contents.shape[1]}").reshape(-1)
    order = np.argsort(texts, kind="stable")
    begins = np.ones(len(order), bool)
    begins[1:] = texts[order[1:]] != texts[order[:-1]]
    # Equal ones are in the order of their indices.
    return np.sort(order[begins])


def row_payload(row: NDArray[np.generic]) -> bytes:
    """Payload of one row of an array."""
    little = row.astype(row.dtype.newbyteorder("<"), copy=False)
    shape = ",".join(map(str, row.shape))
    return f"{little.dtype.str} {shape}\n".encode() + little.tobytes()
