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
from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.gradients import gradients_of
from cloakify.graph.gradient.rule import Context, has_rule
from cloakify.graph.lowering.specialise import bounds, specialise
from cloakify.graph.lowering.state import Shape
from cloakify.graph.model.shapes import shape_of

DISTRIBUTION = "cloakify_distribution"
SUFFIX = "_gradient"


def build_gate_gradient(
    model: ModelProto,
    shapes: Mapping[str, Shape],
    logits: str,
    gates: Sequence[str],
    *,
    independent: bool = False,
) -> ModelProto:
    """Build the model that returns logits, loss and ∂(Σ loss)/∂gate.

    The loss of a sample is the cross-entropy with a distribution over the classes:
    ``−Σ_c P_c log softmax(Z)_c``, its gradient ``(Σ_c P_c)·softmax Z − P``. P need not add up to 1:
    scaled, it gives the sample a weight. Of K independent labels P is [A, B], the weights with
    which each is to hold and not to hold, and the loss ``−Σ_k A_k log σ(Z_k) + B_k log σ(−Z_k)``,
    its gradient ``(A + B)·σ(Z) − A``.

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
    independent
        Whether the logits are those of labels.

    Returns
    -------
    ModelProto
        Inputs: the model's own and ``cloakify_distribution`` P [N, C], or [N, 2 K]. Outputs:
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
    samples = shape_of(scores)[0]
    classes = int(np.prod(shape_of(scores))) // samples
    flat = builder.reshape(scores, [samples, classes])
    flat.shape = [samples, classes]
    add_loss = _labels_loss if independent else _classes_loss
    loss, slope = add_loss(builder, flat)
    loss.shape = [samples]
    seed = builder.reshape(slope, shape_of(scores))
    with bounds("differentiating it", model, shapes):
        gradients = gradients_of(graph, [(scores, seed)], [working.tensor(name) for name in gates])
    outputs = [(LOGITS, flat), (LOSS, loss)]
    for name, gradient in zip(gates, gradients, strict=True):
        # As one sample: what is no number moves no gate.
        row = builder.reshape(gradient, [1, int(np.prod(shape_of(gradient)))])
        outputs.append((name + SUFFIX, builder.reshape(finite(builder, row), shape_of(gradient))))
    return working.finish(outputs)


def _classes_loss(builder: Builder, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Append the cross-entropy with a distribution over classes; return it and its slope."""
    soft_labels = add_input(builder, DISTRIBUTION, logits.dtype, shape_of(logits))
    log_p = builder.op("LogSoftmax", logits, axis=-1)
    loss = builder.neg(builder.sum(builder.mul(log_p, soft_labels), [1], keepdims=False))
    share = builder.mul(builder.op("Exp", log_p), builder.sum(soft_labels, [1]))
    return loss, builder.sub(share, soft_labels)


def _labels_loss(builder: Builder, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Append the sum of the labels' cross-entropies; return it and its slope."""
    samples, count = shape_of(logits)
    both = add_input(builder, DISTRIBUTION, logits.dtype, [samples, 2 * count])
    holds, fails = (
        builder.op("Slice", both, builder.ints(start), builder.ints(start + count), builder.ints(1))
        for start in (0, count)
    )
    # log σ(z) = min(z, 0) − log(1 + e^−|z|), and log σ(−z) = log σ(z) − z.
    power = builder.op("Exp", builder.neg(builder.op("Abs", logits)))
    tail = builder.op("Log", builder.add(power, builder.scalar(1.0, logits)))
    log_p = builder.sub(builder.op("Min", logits, builder.scalar(0.0, logits)), tail)
    log_q = builder.sub(log_p, logits)
    terms = builder.add(builder.mul(holds, log_p), builder.mul(fails, log_q))
    loss = builder.neg(builder.sum(terms, [1], keepdims=False))
    share = builder.mul(builder.op("Sigmoid", logits), builder.add(holds, fails))
    return loss, builder.sub(share, holds)
