"""How inputs are made, in metadata: what is written is read back, and nothing else is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.onnxfile.preprocessing_entry import PreprocessingEntry, read_entry, write_entry

_NUMBERS = st.floats(-1e6, 1e6)
_ABOVE = st.floats(1e-6, 1e6)
ENTRIES = st.builds(
    PreprocessingEntry,
    scale=_ABOVE,
    mean=st.lists(_NUMBERS, min_size=1, max_size=3).map(tuple),
    std=st.lists(_ABOVE, min_size=1, max_size=3).map(tuple),
    resize=st.sampled_from(["crop", "stretch", "pad", "refuse"]),
    resize_to=st.none() | st.integers(1, 4000),
    crop_pct=st.none() | st.floats(0.01, 2),
    interpolation=st.sampled_from(["nearest", "box", "bicubic", "lanczos"]),
    cut=st.sampled_from(["nearest", "down"]),
    fill=st.lists(st.integers(0, 255), min_size=1, max_size=3).map(tuple),
    channels=st.sampled_from(["rgb", "bgr"]),
)


@given(ENTRIES)
def test_what_is_written_is_read(entry: PreprocessingEntry) -> None:
    text = write_entry(entry)
    if text is None:
        assert entry == PreprocessingEntry()
    else:
        assert read_entry(text) == entry
        # Another writing of the same is none of ours.
        assert read_entry(json.dumps(json.loads(text), indent=1)) is None


def test_what_is_as_if_nothing_had_been_said_is_not_written() -> None:
    assert write_entry(PreprocessingEntry()) is None
    assert read_entry("{}") is None


@pytest.mark.parametrize(
    "text",
    [
        "", "3", "[]", "null", '{"scale":0}', '{"scale":-1}', '{"scale":NaN}', '{"std":[0.0]}',
        '{"mean":[]}', '{"resize":"warp"}', '{"size":3}', '{"fill":[256]}', '{"crop_pct":3}',
        '{"scale":1.0}', '{"scale":2}', "{" * 100_000, "[" * 100_000, '{"resize_to":0.5}',
        '{"resize_to":99999999}',
    ],
)  # fmt: skip
def test_what_is_never_written_is_not_read(text: str) -> None:
    assert read_entry(text) is None


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_any_text_is_read_or_is_not(text: str) -> None:
    read_entry(text)
