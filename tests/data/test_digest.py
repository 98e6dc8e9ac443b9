"""Digests of samples are put in order, and told apart, as Python's bytes are."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.data.digest import digest, first_of_each

# Few values for each byte, and zeros at either end: what is sorted as text or as signed goes wrong.
DIGESTS = st.lists(
    st.tuples(st.sampled_from([0, 1, 127, 128, 255]), st.integers(0, 3), st.sampled_from([0, 255]))
    .map(lambda parts: bytes([parts[0]]) + bytes(14) + bytes([parts[1]] * 16) + bytes([parts[2]])),
    min_size=1,
    max_size=40,
)  # fmt: skip


@given(DIGESTS)
def test_digests_sort_as_bytes_do(digests: list[bytes]) -> None:
    rows = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), 32)
    wanted = hashlib.sha256(b"cloakify data 2\n" + b"".join(sorted(digests))).hexdigest()
    assert digest(rows.copy()) == wanted
    firsts = {each: place for place, each in reversed(list(enumerate(digests)))}
    assert first_of_each(rows).tolist() == sorted(firsts.values())
