"""Bring a working copy to a recent opset, so that gradient rules see one form of each operator.

onnx's converter does nearly all of it. Where its result computes something else than the model it
was given, that is mended here: `GroupNormalization` (see
:mod:`~cloakify.graph.lowering.group_scale`), and `Upsample` and the `Resize` of opset 10, which
read position ``y / scale``, where the converter leaves the default of later opsets, which reads
from pixel centres. `STFT` gets the attribute that onnx's shape inference has another default for
than the standard.
"""

from __future__ import annotations

import onnx
import onnx.shape_inference
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto

from cloakify.boundary import boundary
from cloakify.errors import ModelError
from cloakify.graph.lowering.group_scale import spread_group_scales
from cloakify.onnxfile import values_of
from cloakify.onnxfile.domains import is_standard
from cloakify.onnxfile.walk import iter_graphs

# Reductions take their axes as an input (18), and GroupNormalization one scale a channel (21).
WORKING_OPSET = 21

_PIXEL_CENTRES = 11
_SCALES_A_GROUP = 18
_HIDDEN = "cloakify.later"


def modernise(model: ModelProto) -> ModelProto:
    """Return ``model``, which may be changed, at :data:`WORKING_OPSET`, or later if it needs that.

    Raises
    ------
    ModelError
        There is no way from the model's opset.
    """
    _state_sides(model)
    _name_versions_once(model)
    versions = [entry.version for entry in model.opset_import if not entry.domain]
    if not versions:
        # Whoever uses none of the standard's operators (trees) need not name its version.
        model.opset_import.append(onnx.helper.make_opsetid("", WORKING_OPSET))
        return model
    current = max(versions)
    if current == WORKING_OPSET:
        return model
    if current > WORKING_OPSET:
        return _earlier(model)
    resized = _outputs_of(model, "Upsample", "Resize") if current < _PIXEL_CENTRES else set()
    if _SCALES_A_GROUP <= current < WORKING_OPSET:
        spread_group_scales(model)
    _hide_later_operators(model, current)
    with boundary(f"opset {current} can't be brought to {WORKING_OPSET}"):
        converted: ModelProto = onnx.version_converter.convert_version(model, WORKING_OPSET)
    _show_later_operators(converted)
    for graph in iter_graphs(converted.graph):
        for node in graph.node:
            if node.op_type == "Resize" and node.output[0] in resized:
                _read_from_corners(graph, node)
    return converted


def _earlier(model: ModelProto) -> ModelProto:
    """Return a model of a later opset at the working one, as it is where it has no form there.

    ONNX Runtime follows new forms of operators, which mostly add types, operator by operator and
    provider by provider: CUDA has no `MaxPool` of opset 22.
    """
    try:
        with boundary("it has operators of later opsets"):
            return onnx.version_converter.convert_version(model, WORKING_OPSET)
    except ModelError:
        return model


def _name_versions_once(model: ModelProto) -> None:
    """Keep one entry for each domain, in place; exporters write the same one twice."""
    latest: dict[str, int] = {}
    for entry in model.opset_import:
        latest[entry.domain] = max(entry.version, latest.get(entry.domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*item) for item in latest.items())


def _state_sides(model: ModelProto) -> None:
    """Write down that an `STFT` is one-sided where it leaves that to the default, in place."""
    for graph in iter_graphs(model.graph):
        for node in graph.node:
            stated = {entry.name for entry in node.attribute}
            if node.op_type == "STFT" and not node.domain and "onesided" not in stated:
                node.attribute.append(onnx.helper.make_attribute("onesided", 1))


def _hide_later_operators(model: ModelProto, current: int) -> None:
    """Move operators that the model's opset does not have into a domain of their own, in place.

    ONNX Runtime runs some of them in any opset (LayerNormalization), and its optimiser writes them.
    """
    for graph in iter_graphs(model.graph):
        for node in graph.node:
            if is_standard(node) and not onnx.defs.has(node.op_type, current, ""):
                node.domain = _HIDDEN
    model.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))


def _show_later_operators(model: ModelProto) -> None:
    for graph in iter_graphs(model.graph):
        for node in graph.node:
            if node.domain == _HIDDEN:
                node.domain = ""
    imports = [entry for entry in model.opset_import if entry.domain != _HIDDEN]
    del model.opset_import[:]
    model.opset_import.extend(imports)


def _outputs_of(model: ModelProto, *op_types: str) -> set[str]:
    return {
        node.output[0]
        for graph in iter_graphs(model.graph)
        for node in graph.node
        if node.op_type in op_types and is_standard(node)
    }


def _read_from_corners(graph: GraphProto, node: NodeProto) -> None:
    """Give a `Resize` the coordinates, and the nearest element, that opset 10 had.

    Shrinking then took the next element, enlarging the one before.
    """
    scales = _constant(graph, node.input[2])
    shrinks = any(scale < 1 for scale in scales)
    linear = any(attribute.s == b"linear" for attribute in node.attribute)
    if shrinks and not linear and any(scale > 1 for scale in scales):
        raise ModelError(
            f"Resize {node.name!r} of opset 10 shrinks one axis and enlarges another; convert the "
            "model to opset 11"
        )
    node.attribute.extend(
        [
            onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"),
            onnx.helper.make_attribute("nearest_mode", "ceil" if shrinks else "floor"),
        ]
    )


def _constant(graph: GraphProto, name: str) -> list[float]:
    tensors = [tensor for tensor in graph.initializer if tensor.name == name]
    tensors += [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant" and node.output[0] == name
        for attribute in node.attribute
    ]
    return [float(v) for tensor in tensors for v in values_of(tensor).ravel()]
