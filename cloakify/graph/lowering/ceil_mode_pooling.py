"""Pools in ceil mode whose last window would begin beyond the data.

The standard drops such a window, and so does ONNX Runtime in every opset; onnx's shape inference
counts it up to opset 21. Without ceil mode the same windows remain, for all to see: the window
before begins within the data and ends within the padding.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, NodeProto

from cloakify.errors import ModelError
from cloakify.graph.model.rewrite import Shapes
from cloakify.onnxfile.domains import is_standard

_POOLS = {"AveragePool", "LpPool", "MaxPool"}


def drop_last_windows(model: ModelProto, shapes: Shapes) -> bool:
    """Take pools out of ceil mode where that alone makes a last window, in place.

    Parameters
    ----------
    model
        A working copy.
    shapes
        The shapes known.

    Returns
    -------
    bool
        Whether any was; the shapes behind it have to be inferred anew.

    Raises
    ------
    ModelError
        A pool needs ceil mode along one axis and has a window too many along another.
    """
    changed = False
    for node in model.graph.node:
        if node.op_type in _POOLS and is_standard(node) and node.input[0] in shapes:
            changed |= _drop(node, shapes[node.input[0]])
    return changed


def _drop(node: NodeProto, shape: tuple[int, ...]) -> bool:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if not attributes.get("ceil_mode") or attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        return False
    kernel, size = attributes["kernel_shape"], shape[2:]
    rank = len(kernel)
    strides = attributes.get("strides") or [1] * rank
    dilations = attributes.get("dilations") or [1] * rank
    pads = attributes.get("pads") or [0] * 2 * rank
    beyond, needed = False, False
    for axis, stride in enumerate(strides):
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + pads[axis] + pads[rank + axis] - extent
        if room % stride == 0:
            continue
        begin = (room // stride + 1) * stride
        if begin >= size[axis] + pads[axis]:
            beyond = True
        else:
            needed = True
    if not beyond:
        return False
    if needed:
        raise ModelError(
            f"{node.op_type} {node.name!r} in ceil mode has a last window beyond the data along "
            "one axis only; export it with explicit pads"
        )
    for place in reversed(range(len(node.attribute))):
        if node.attribute[place].name == "ceil_mode":
            del node.attribute[place]
    return True
