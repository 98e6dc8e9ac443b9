"""Classifiers inside a model put out in working copies what is read of them.

Lowering writes a `LinearClassifier` or `SVMClassifier` out as its scores, in the place of the
probabilities that it makes of them: so one is judged that ends a model. Of one whose probabilities
others read (votes of several, a classifier on top of others) they have to be what they are: it puts
out its scores, or the decisions of its pairs, and nodes behind it make the probabilities.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import ModelProto, NodeProto

from cloakify.graph.edit.coupled_probabilities import add_coupled_probabilities
from cloakify.graph.model.dataflow import values_read
from cloakify.graph.model.names import Names, names_in
from cloakify.graph.model.rewrite import Writer, attribute, store
from cloakify.graph.model.support_vectors import read_support_vectors
from cloakify.onnxfile.domains import ML

_TRANSFORMS = {"SOFTMAX", "LOGISTIC"}


def with_probabilities(model: ModelProto, judged: Collection[str]) -> ModelProto:
    """Return ``model``, or a copy with nodes of their own for inner classifiers' probabilities.

    Parameters
    ----------
    judged
        Scores that the model is judged by; a classifier stays that puts out one of these.
    """
    read = {name for node in model.graph.node for name in values_read(node)}
    inner = [_is_inner(node, read, judged) for node in model.graph.node]
    if not any(inner):
        return model
    edited, names = ModelProto(), names_in(model)
    edited.CopyFrom(model)
    del edited.graph.node[:]
    scores: dict[str, str] = {}
    for node, is_inner in zip(model.graph.node, inner, strict=True):
        edited.graph.node.append(node)
        if node.op_type == "Log" and node.input[0] in scores:
            # Small probabilities have logarithms, too.
            edited.graph.node[-1].CopyFrom(
                onnx.helper.make_node(
                    "LogSoftmax", [scores[node.input[0]]], node.output, node.name, axis=1
                )
            )
        if not is_inner:
            continue
        if node.op_type == "SVMClassifier":
            _couple(edited, names)
            continue
        scored, probabilities = edited.graph.node[-1], node.output[1]
        scored.output[1] = names.fresh(f"{probabilities}_scores")
        (transform,) = (each for each in scored.attribute if each.name == "post_transform")
        inputs, outputs = [scored.output[1]], [probabilities]
        if transform.s == b"SOFTMAX":
            # Of the rows of a matrix every version of the operator means the last axis by 1.
            made = onnx.helper.make_node("Softmax", inputs, outputs, inputs[0], axis=1)
            scores[probabilities] = inputs[0]
        else:
            made = onnx.helper.make_node("Sigmoid", inputs, outputs, inputs[0])
        transform.s = b"NONE"
        edited.graph.node.append(made)
    return edited


def _couple(edited: ModelProto, names: Names) -> None:
    """Put nodes that make its probabilities behind the last node of a model, support vectors.

    Its label stays the one that it says with probabilities; without them it says another.
    """
    whole = edited.graph.node[-1]
    vectors = read_support_vectors(whole)
    assert vectors is not None
    probabilities = whole.output[1]
    whole.output[1] = names.fresh(f"{probabilities}_unread")
    decided = edited.graph.node.add()
    decided.CopyFrom(whole)
    decided.name = names.fresh(f"{whole.name}_decisions")
    decided.output[:] = [names.fresh(f"{probabilities}_{what}") for what in ("label", "decisions")]
    kept = [each for each in decided.attribute if each.name not in ("prob_a", "prob_b")]
    del decided.attribute[:]
    decided.attribute.extend(kept)
    writer = Writer(names, "coupled")
    add_coupled_probabilities(writer, vectors, decided.output[1], probabilities)
    edited.graph.node.extend(writer.nodes)
    for values in writer.constants:
        store(edited, values)


def _is_inner(node: NodeProto, read: Collection[str], judged: Collection[str]) -> bool:
    """Tell whether a node is a classifier of which others read probabilities."""
    if (node.domain, node.op_type) == (ML, "SVMClassifier") and len(node.output) == 2:
        vectors = read_support_vectors(node)
        coupled = vectors is not None and vectors.platt is not None
        is_judged = any(name in judged for name in node.output)
        return coupled and node.output[1] in read and not is_judged
    if (node.domain, node.op_type, len(node.output)) != (ML, "LinearClassifier", 2):
        return False
    # With one score for two classes it is not written out at all.
    several = len(attribute(node, "intercepts", [])) > 1
    known = attribute(node, "post_transform", "NONE") in _TRANSFORMS
    is_judged = any(name in judged for name in node.output)
    return several and known and node.output[1] in read and not is_judged
