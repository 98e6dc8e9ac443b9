"""Give a model with one logit two: that of class 0, which is 0, and its own.

    z [N, 1], [N], …   ->   [0, z]     for a sigmoid, softmax([0, z]) = [1 − σ(z), σ(z)]

Only working copies are edited so; what is shipped keeps its form.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto

from cloakify.graph.analysis.classifier import ClassifierSearch
from cloakify.graph.analysis.scores import TWO_LOGITS
from cloakify.graph.edit.mask import features_type


def with_class_scores(model: ModelProto, found: ClassifierSearch) -> ModelProto:
    """Return ``model``, or where its scores are one logit a copy that has one for each class.

    Parameters
    ----------
    model
        A classifier, or a part of one that ends in its scores.
    found
        What was found in it.
    """
    scores = found.scores
    if scores.logits != TWO_LOGITS:
        return model
    edited = ModelProto()
    edited.CopyFrom(model)
    graph, boundary = edited.graph, scores.boundary
    dtype = onnx.helper.tensor_dtype_to_np_dtype(features_type(model, found.head))
    sign = 1.0 if boundary.rising else -1.0
    constants = {
        "shape": np.array([-1, 1], np.int64),
        "sign": np.array([[0.0, sign]]).astype(dtype),
        "bound": np.array([[0.0, sign * boundary.bound]]).astype(dtype),
    }
    for name, values in constants.items():
        graph.initializer.append(onnx.numpy_helper.from_array(values, f"{TWO_LOGITS}_{name}"))
    steps = [("Reshape", "shape", "column"), ("Mul", "sign", "both"), ("Sub", "bound", "")]
    value = scores.shipped
    for op_type, constant, result in steps:
        output = f"{TWO_LOGITS}_{result}" if result else TWO_LOGITS
        inputs = [value, f"{TWO_LOGITS}_{constant}"]
        graph.node.append(onnx.helper.make_node(op_type, inputs, [output], output))
        value = output
    # An initializer that is no input needs IR version 4.
    edited.ir_version = max(edited.ir_version, 4)
    return edited
