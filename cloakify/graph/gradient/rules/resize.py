"""Resize: separable interpolation, a matrix an axis.

``y = (R₁ ⊗ R₂ ⊗ …) x``, so ``∂x = (R₁ᵀ ⊗ R₂ᵀ ⊗ …) g``. Each R is read off the runtime, by resizing
the rows of the identity once while the gradient graph is built: every mode, coordinate
transformation and antialiasing filter is then exactly the one that the forward pass applies.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, Situation, rule
from cloakify.graph.gradient.rules.static import values
from cloakify.graph.gradient.support import all_of, known
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.model.constants import given
from cloakify.graph.model.shapes import shape_of

# The opset whose Resize is asked: that of the working graph (axes and antialias came with 18).
_OPSET = 19


def _stretches(node: gs.Node, at: Situation) -> str | None:
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    return None if policy == "stretch" else "keeps the aspect ratio"


@rule("Resize", supports=all_of(known({1: "region", 2: "scales", 3: "sizes"}), _stretches))
def resize(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y = (R₁ ⊗ R₂ ⊗ …) x``: each axis of g is multiplied with its Rᵀ.

    Integer magnification by the nearest element only adds g up over blocks.
    """
    (g,) = grads
    assert g is not None
    shape, out = shape_of(node.inputs[0]), shape_of(node.outputs[0])
    if out == shape:
        return [g]  # the runtime copies, whatever the scales' fractions
    if len(shape) == 4 and shape[2:] == [1, 1] and out[:2] == shape[:2]:
        return [context.sum_positions(g, out[2] * out[3])]
    axes = [axis % len(shape) for axis in node.attrs.get("axes") or range(len(shape))]
    for place, axis in enumerate(axes):
        matrix = _matrix(node, place, shape[axis], out[axis])
        if shape[axis] == out[axis] and np.array_equal(matrix, np.eye(out[axis])):
            continue
        times, rest = divmod(out[axis], shape[axis])
        if not rest and np.array_equal(matrix, np.repeat(np.eye(shape[axis]), times, axis=0)):
            apart = [*out[:axis], shape[axis], times, *out[axis + 1 :]]
            g = context.sum(context.reshape(g, apart), [axis + 1], keepdims=False)
        else:
            g = _multiply(context, g, axis, matrix.astype(g.dtype), len(shape))
        out[axis] = shape[axis]
    return [g]


def _multiply(context: Context, g: Tensor, axis: int, matrix: np.ndarray, rank: int) -> Tensor:
    """Multiply an axis of g with the transpose of ``matrix`` [out, in]."""
    if axis == rank - 2:
        return context.op("MatMul", context.constant(matrix.T), g)
    if axis == rank - 1:
        return context.op("MatMul", g, context.constant(matrix))
    perm = [place for place in range(rank) if place != axis] + [axis]
    moved = context.op("MatMul", context.transpose(g, perm), context.constant(matrix))
    return context.transpose(moved, np.argsort(perm).tolist())


def _matrix(node: gs.Node, place: int, size: int, out: int) -> np.ndarray:
    """Return R [out, size] of the axis at ``place`` among those that the node names."""
    attributes = {
        name: value
        for name, value in node.attrs.items()
        if name not in ("axes", "extrapolation_value", "keep_aspect_ratio_policy")
    }
    # Rows of the identity are samples, one pixel high, that double their height: the runtime would
    # copy rather than interpolate if no axis changed its size.
    inputs = ["x", "", "", ""]
    constants = {}
    if given(node, 1) and shape_of(node.inputs[1]) != [0]:
        roi = values(node, 1).astype(np.float32)
        start, end = roi[place], roi[place + len(roi) // 2]
        constants["roi"] = np.array([0, 0, 0, start, 1, 1, 1, end], np.float32)
        inputs[1] = "roi"
    if given(node, 2) and len(values(node, 2)):
        scale = values(node, 2)[place]
        constants["scales"] = np.array([1, 1, 2, scale], np.float32)
        inputs[2] = "scales"
    else:
        constants["sizes"] = np.array([size, 1, 2, out], np.int64)
        inputs[3] = "sizes"
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize", inputs, ["y"], **attributes)],
        "axis",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [size, 1, 1, size])],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    identity = np.eye(size, dtype=np.float32)[:, None, None]
    (resized,) = run_once(model, {"x": identity})
    return np.asarray(resized[:, 0, 0].T)
