"""The domains that operators come from."""

from __future__ import annotations

from typing import Protocol

from onnx import ModelProto

STANDARD = ("", "ai.onnx")
"""Both names of the standard's own."""

ML = "ai.onnx.ml"
"""Of the standard's classical models."""

MICROSOFT = "com.microsoft"
"""Of what ONNX Runtime's optimiser and quantiser write, and exporters for it."""


class _Node(Protocol):
    @property
    def domain(self) -> str | None: ...


def domain_of(node: _Node) -> str:
    """Return the domain of a node's operator; empty for the standard's own."""
    return "" if is_standard(node) else str(node.domain)


def is_standard(node: _Node) -> bool:
    """Tell whether a node's operator is one of the standard's own."""
    return not node.domain or node.domain in STANDARD


def standard_version(model: ModelProto, default: int) -> int:
    """Return the version of the standard's operators that a model imports, or ``default``."""
    versions = (entry.version for entry in model.opset_import if entry.domain in STANDARD)
    return max(versions, default=default)
