"""cloakify's entries in a model's `metadata_props`; those of others are never touched."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

METADATA_PREFIX = "cloakify."


def read_metadata(model: ModelProto) -> dict[str, str]:
    """Return cloakify's entries, keys without the ``cloakify.`` prefix."""
    return {
        entry.key.removeprefix(METADATA_PREFIX): entry.value
        for entry in model.metadata_props
        if entry.key.startswith(METADATA_PREFIX)
    }


def write_metadata(model: ModelProto, values: Mapping[str, str]) -> None:
    """Replace cloakify's entries with ``values`` (keys without prefix), in sorted order, in place.

    An empty mapping removes them.
    """
    for place in reversed(range(len(model.metadata_props))):
        if model.metadata_props[place].key.startswith(METADATA_PREFIX):
            del model.metadata_props[place]
    for key in sorted(values):
        entry = model.metadata_props.add()
        entry.key = METADATA_PREFIX + key
        entry.value = values[key]
