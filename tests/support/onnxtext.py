"""Small pieces of ONNX text that tests put together."""

from __future__ import annotations

from collections.abc import Sequence


def attributes(**values: object) -> str:
    """Write a node's attributes; those that are ``None`` are left out."""
    kinds = {list: "ints", int: "int", bool: "int", str: "string", float: "float"}
    parts = []
    for name, value in values.items():
        if value is None:
            continue
        text = f'"{value}"' if isinstance(value, str) else str(value)
        text = str(int(value)) if isinstance(value, bool) else text
        parts.append(f"{name}: {kinds[type(value)]} = {text}")
    return f"<{', '.join(parts)}>" if parts else ""


def one_node(call: str, inputs: str = "double[?] x", opset: int = 18, constants: str = "") -> str:
    """Write a model of one statement, ``y = …``, with the given inputs and initializers."""
    constants = f"<{constants}>" if constants else ""
    return (
        f'<ir_version: 8, opset_import: ["" : {opset}]> '
        f"f ({inputs}) => (double y) {constants} {{ {call} }}"
    )


def unknown(kind: str, rank: int) -> str:
    """Write a tensor type of unknown sizes."""
    return f"{kind}[{', '.join('?' * rank)}]" if rank else kind


def constant(kind: str, name: str, shape: Sequence[int], values: Sequence[object]) -> str:
    """Write an initializer."""
    dims = ", ".join(map(str, shape))
    return f"{kind}[{dims}] {name} = {{{', '.join(map(str, values))}}}"
