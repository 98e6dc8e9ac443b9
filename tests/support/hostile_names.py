"""Names that would do something to a terminal, and models that bear them."""

from __future__ import annotations

import onnx
from hypothesis import strategies as st

# Moves the cursor, renames the window, reverses text, starts a line of its own.
WORST = "a\x1b[2K\x1b]0;owned\x07\x9b31m\u202e\u2066b\r\nError: forged\x7f\u2028"

hostile_text = st.text(
    st.one_of(
        st.characters(categories=["Cc", "Cf", "Zl", "Zp"]), st.sampled_from("ab[]<&|\\\"' \x1b\x9b")
    ),
    min_size=1,
    max_size=12,
)


def shown_raw(text: str) -> set[str]:
    """Return the characters that would do something to a terminal, line ends aside."""
    return {character for character in text if not (character.isprintable() or character == "\n")}


def rename_everything(model: onnx.ModelProto, suffix: str) -> onnx.ModelProto:
    """Return a copy in which each name, the producer and the metadata end in ``suffix``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    for node in graph.node:
        node.name += suffix
        for names in (node.input, node.output):
            names[:] = [name and name + suffix for name in names]
    for named in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        named.name += suffix
    graph.name += suffix
    copy.producer_name = copy.producer_version = copy.domain = suffix
    copy.metadata_props.add(key=suffix, value=suffix)
    return copy
