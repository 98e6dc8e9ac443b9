"""cloakify's metadata entries come and go; those of others stay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.onnxfile import read_metadata, write_metadata

ENTRIES = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5)


@given(ours=ENTRIES, before=ENTRIES)
def test_what_is_written_is_read_and_removed_without_trace(small, ours, before):
    model = ModelProto()
    model.CopyFrom(small)
    source = model.SerializeToString(deterministic=True)
    write_metadata(model, before)
    write_metadata(model, ours)
    assert read_metadata(model) == ours
    assert [entry.key for entry in model.metadata_props] == [
        "author",
        *(f"cloakify.{key}" for key in sorted(ours)),
    ]
    write_metadata(model, {})
    assert model.SerializeToString(deterministic=True) == source
