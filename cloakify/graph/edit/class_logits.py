"""Give working copies the logits that classifiers are judged by, where the shipped ones are others.

    one logit z [N, 1], [N], …     ->   [0, ±(z − bound)]     with the boundary at a half,
                                                              softmax([0, z]) = [1 − σ(z), σ(z)]
    those of labels z [N, K]       ->   ±(z − bounds)
    two for each label             ->   z₁ − z₀ − bounds
    scores of which the smallest wins, and quantised ones      ->   −z, and the real ones
    scores that were bent one by one                           ->   those before, side by side
    mixed probabilities                                        ->   their logarithms, or log odds

What is shipped keeps its form.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.graph.analysis.classifier_search import ClassifierSearch
from cloakify.graph.analysis.log_arithmetic import LogStep
from cloakify.graph.analysis.scores import CLASS_LOGITS, Scores
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.inner_classifiers import with_probabilities
from cloakify.graph.edit.mask import features_type
from cloakify.graph.edit.taps import with_parts
from cloakify.graph.model.branches import exposing


def with_class_scores(model: ModelProto, search: ClassifierSearch) -> ModelProto:
    """Return ``model``, or where the shipped logits are others a copy with those that count.

    What is needed of a branch that is always taken is no longer inside it, and classifiers inside
    have nodes for their probabilities (:mod:`~cloakify.graph.edit.inner_classifiers`).

    Parameters
    ----------
    model
        A classifier, or a part of one that ends in its scores.
    search
        What was found in it.
    """
    judged = {search.scores.shipped, search.scores.logits, *search.scores.parts}
    if search.head is not None and not search.mixed:
        judged |= {search.head.linear, *search.head.read_by}
    return with_probabilities(_with_logits(model, search), judged)


def _with_logits(model: ModelProto, search: ClassifierSearch) -> ModelProto:
    scores = search.scores
    model = exposing(model, [scores.shipped, scores.features, *filter(None, [scores.layer])])
    if scores.logits != CLASS_LOGITS:
        return model
    edited = ModelProto()
    edited.CopyFrom(model)
    graph, boundary = edited.graph, scores.boundary
    value, dtype = scores.shipped, np.dtype(np.float32)
    if scores.parts:
        edited, value = with_parts(edited, _columns(edited, scores) or scores.parts)
        graph = edited.graph
    if scores.logs is not None:
        graph.node.extend(map(_step, scores.logs.steps))
        value = scores.logs.output
    if scores.scale is not None:
        value = f"{CLASS_LOGITS}_floats"
        inputs = [scores.shipped, *scores.scale]
        graph.node.append(onnx.helper.make_node("DequantizeLinear", inputs, [value], value))
    elif search.head is None:
        given, value = value, f"{CLASS_LOGITS}_floats"
        graph.node.append(
            onnx.helper.make_node("Cast", [given], [value], value, to=TensorProto.FLOAT)
        )
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(features_type(model, search.head))
    sign = np.array([[1.0 if boundary.rising else -1.0]])
    bound = sign * np.array([boundary.bounds])
    if scores.task is Task.BINARY:
        sign, bound = (np.pad(values, ((0, 0), (1, 0))) for values in (sign, bound))
    constants = {
        "shape": np.array([-1, search.shipped_count], np.int64),
        "sign": sign.astype(dtype),
        "bound": bound.astype(dtype),
    }
    for name, values in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(values, f"{CLASS_LOGITS}_{name}"))
    steps = [("Reshape", "shape", "rows"), ("Mul", "sign", "turned"), ("Sub", "bound", "")]
    differences = scores.differences()
    if differences is not None:
        name = f"{CLASS_LOGITS}_differences"
        graph.initializer.append(onnx.numpy_helper.from_array(differences.astype(dtype), name))
        steps.insert(1, ("MatMul", "differences", "paired"))
    for op_type, constant, result in steps:
        output = f"{CLASS_LOGITS}_{result}" if result else CLASS_LOGITS
        inputs = [value, f"{CLASS_LOGITS}_{constant}"]
        graph.node.append(onnx.helper.make_node(op_type, inputs, [output], output))
        value = output
    # An initializer that is no input needs IR version 4.
    edited.ir_version = max(edited.ir_version, 4)
    return edited


def _columns(edited: ModelProto, scores: Scores) -> list[str]:
    """Append the scores that classifiers' probabilities are made of, a column for each label.

    They come of copies of these classifiers: what the model answers with stays what it is.
    """
    makers = {name: node for node in edited.graph.node for name in node.output}
    columns: list[str] = []
    for count, place in enumerate(scores.places):
        label, whole, column = (
            f"{CLASS_LOGITS}_{what}_{count}" for what in ("label", "whole", "column")
        )
        copy = edited.graph.node.add()
        copy.CopyFrom(makers[scores.parts[count]])
        copy.name, copy.output[:] = whole, [label, whole]
        for entry in copy.attribute:
            if entry.name == "post_transform":
                entry.s = b"NONE"
        at = onnx.numpy_helper.from_array(np.array([place], np.int64), f"{column}_at")
        edited.graph.initializer.append(at)
        edited.graph.node.append(
            onnx.helper.make_node("Gather", [whole, at.name], [column], column, axis=1)
        )
        columns.append(column)
    return columns


def _step(step: LogStep) -> NodeProto:
    """Return a step as a node."""
    attributes = {
        # onnx-graphsurgeon has element types as numpy's.
        name: onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value))
        if isinstance(value, type | np.dtype)
        else value
        for name, value in step.attributes
    }
    name = step.outputs[0]
    made: NodeProto = onnx.helper.make_node(
        step.op_type,
        step.inputs,
        step.outputs,
        name,
        domain=None,
        **attributes,  # type: ignore[arg-type]
    )
    return made
