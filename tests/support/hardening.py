"""The metadata of a hardened file, for tests that put a mask in without `harden`."""

from __future__ import annotations

from cloakify.graph.analysis.head import Head
from cloakify.onnxfile import OnnxFile


def made_from(source: OnnxFile, head: Head, **facts: str) -> dict[str, str]:
    """Return what `harden` says of any file, and facts of the mask (``_`` stands for a dot)."""
    return {
        "version": "0.1.0",
        "source.sha256": source.sha256,
        "head": head.node,
        "attack": "fgsm",
        "eps": "0.0156862745",
        "seed": "0",
        "data.sha256": 64 * "0",
    } | {key.replace("_", "."): value for key, value in facts.items()}
