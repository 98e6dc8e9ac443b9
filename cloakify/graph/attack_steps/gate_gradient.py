"""From a classifier whose gates are inputs to one model that returns ∂loss/∂gate.

    x, targets, gates  ->  logits, loss, ∂(Σ loss)/∂gate for each vector of gates

The same rules and the same engine as for the input's gradient; only what is differentiated with
respect to is another, so nothing before the first gate is entered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import ModelProto

from cloakify.graph.attack_steps.build import LOGITS, LOSS
from cloakify.graph.attack_steps.steps import add_input, finite
from cloakify.graph.gradient.gradients import gradients_of
from cloakify.graph.gradient.rule import Context, has_rule
from cloakify.graph.lowering.specialise import specialise
from cloakify.graph.lowering.state import Shape

DISTRIBUTION = "cloakify_distribution"
SUFFIX = "_gradient"


def build_gate_gradient(
    model: ModelProto, shapes: Mapping[str, Shape], logits: str, gates: Sequence[str]
) -> ModelProto:
    """Build the model that returns logits, loss and ∂(Σ loss)/∂gate.

    The loss of a sample is the cross-entropy with a distribution over the classes:
    ``−Σ_c P_c log softmax(Z)_c``, its gradient ``(Σ_c P_c)·softmax Z − P``. P need not add up to 1:
    scaled, it gives the sample a weight.

    Parameters
    ----------
    model
        The classifier with its weights in it and its gates as inputs, see
        :func:`~cloakify.graph.edit.gates.open_gates`.
    shapes
        Shape of the data input, the batch axis included; the result is fixed to it.
    logits
        Name of the logits in the model.
    gates
        Names of the inputs to differentiate with respect to.

    Returns
    -------
    ModelProto
        Inputs: the model's own and ``cloakify_distribution`` P [N, C]. Outputs:
        ``cloakify_logits`` [N, C], ``cloakify_loss`` [N], and for each gate input the gradient,
        named after it with ``_gradient`` appended.

    Raises
    ------
    ModelError
        The shapes do not fit, or the logits do not depend on a gate.
    UnsupportedOperatorError
        An operator on the way has no gradient rule.
    """
    working = specialise(model, shapes, has_rule)
    graph = working.graph
    scores = working.tensor(logits)
    builder = Context(graph)
    samples = scores.shape[0]
    classes = int(np.prod(scores.shape)) // samples
    flat = builder.reshape(scores, [samples, classes])
    soft_labels = add_input(builder, DISTRIBUTION, flat.dtype, [samples, classes])
    log_p = builder.op("LogSoftmax", flat, axis=-1)
    loss = builder.neg(builder.sum(builder.mul(log_p, soft_labels), [1], keepdims=False))
    loss.shape = [samples]
    share = builder.mul(builder.op("Exp", log_p), builder.sum(soft_labels, [1]))
    seed = builder.reshape(builder.sub(share, soft_labels), scores.shape)
    found = gradients_of(graph, [(scores, seed)], [working.tensor(name) for name in gates])
    outputs = [(LOGITS, flat), (LOSS, loss)]
    for name, gradient in zip(gates, found, strict=True):
        # As one sample: what is no number moves no gate.
        row = builder.reshape(gradient, [1, int(np.prod(gradient.shape))])
        outputs.append((name + SUFFIX, builder.reshape(finite(builder, row), gradient.shape)))
    return working.finish(outputs)
