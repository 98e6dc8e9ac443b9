"""From a classifier to one model that also returns the loss and its gradient.

The result is an ordinary ONNX model, so that any runtime can attack the graph that was shipped:

    x, labels  ->  logits, features, loss, gradient
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

import cloakify.graph.attack_steps.apgd_step  # noqa: F401  (registers its step)
from cloakify.graph.attack_steps.label_losses import (
    LABEL_LOSSES,
    LABEL_LOSSES_FOR_STEPS,
    as_choice,
    rival_class,
)
from cloakify.graph.attack_steps.losses import FOR_STEPS, LOSSES, TARGETED
from cloakify.graph.attack_steps.steps import ITERATION_STEPS, Outputs, add_input, add_step, finite
from cloakify.graph.gradient.builder import Builder, Tensor
from cloakify.graph.gradient.gradients import gradients_of
from cloakify.graph.gradient.rule import Context, has_rule
from cloakify.graph.lowering.specialise import bounds, specialise
from cloakify.graph.lowering.state import Shape
from cloakify.graph.model.shapes import shape_of

LABELS = "cloakify_labels"
TARGETS = "cloakify_targets"
LOGITS_GRADIENT = "cloakify_logits_gradient"
LOGITS = "cloakify_logits"
FEATURES = "cloakify_features"
LOSS = "cloakify_loss"
GRADIENT = "cloakify_gradient"


@dataclass(frozen=True)
class GradientSpec:
    """What to differentiate.

    Attributes
    ----------
    input, logits
        Names of the data input and of the logits in the model.
    features
        Name of the head's data input, to be returned as well; ``None`` for not.
    loss
        A key of :data:`~cloakify.graph.attack_steps.losses.LOSSES`, or ``None``: the gradient with
        respect to the logits is then an input, ``cloakify_logits_gradient``.
    step
        What to return in place of the gradient: ``step`` for the next iterate of steepest ascent, a
        key of :data:`~cloakify.graph.attack_steps.steps.ITERATION_STEPS` for that and all that such
        an iteration carries on. ``None`` for the gradient.
    norm
        ``linf`` or ``l2``: that of the step.
    independent
        Whether the logits are those of independent labels: the labels are int64 [N, K] then, and
        losses are taken as :mod:`~cloakify.graph.attack_steps.label_losses` says.
    straight_through
        Whether the gradient passes steps and levels by secants that span them (BPDA: Athalye,
        Carlini & Wagner, arXiv 1802.00420, section 4.1), and choices as if both were taken.
    near
        Whether of steps those count most that are next to where a number is.
    """

    input: str
    logits: str
    features: str | None = None
    loss: str | None = "ce"
    step: str | None = None
    norm: str = "linf"
    independent: bool = False
    straight_through: bool = False
    near: bool = False


def build_gradient(
    model: ModelProto, shapes: Mapping[str, Shape], spec: GradientSpec
) -> ModelProto:
    """Build the model that returns logits, features, loss and ∂loss/∂input.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    shapes
        Shape of each data input, the batch axis included; the result is fixed to them.
    spec
        What to differentiate.

    Returns
    -------
    ModelProto
        Inputs: the model's own, ``cloakify_labels`` int64 [N] or [N, K] (and ``cloakify_targets``
        int64 [N] for a targeted loss: classes, or labels). Outputs: ``cloakify_logits`` [N, C],
        ``cloakify_features`` (as in the model), ``cloakify_loss`` [N], and ``cloakify_gradient``
        (shape and dtype of the input) or the outputs of the step. Every sample's loss is its own,
        so what is returned for a sample does not depend on the others.

    Raises
    ------
    ModelError
        The shapes do not fit, or a tensor of that name is missing.
    UnsupportedOperatorError
        An operator on the way has no gradient rule.
    """
    features = [] if spec.features is None else [spec.features]
    working = specialise(model, shapes, has_rule, [spec.logits, *features])
    graph = working.graph
    x, logits = working.tensor(spec.input), working.tensor(spec.logits)
    outputs = [(FEATURES, working.tensor(name)) for name in features]
    builder = Context(graph)
    samples = shape_of(x)[0]
    scores = builder.reshape(logits, [samples, -1])
    classes = int(np.prod(shape_of(logits))) // samples
    scores.shape = [samples, classes]
    outputs.append((LOGITS, scores))
    judged: tuple[Tensor, Tensor] | None = None
    if spec.loss is None:
        seed: Tensor = add_input(builder, LOGITS_GRADIENT, scores.dtype, [samples, classes])
    else:
        loss, seed, fooled = _add_loss(builder, scores, spec.loss, spec)
        loss.shape = [samples]
        outputs.append((LOSS, loss))
        judged = loss, fooled
    with bounds("differentiating it", model, shapes):
        (gradient,) = gradients_of(
            graph,
            [(logits, builder.reshape(seed, shape_of(logits)))],
            [x],
            straight_through=spec.straight_through,
            near=spec.near,
        )
    return working.finish([*outputs, *_add_step(Context(graph), spec, x, gradient, judged)])


def _add_step(
    builder: Builder,
    spec: GradientSpec,
    x: Tensor,
    gradient: Tensor,
    judged: tuple[Tensor, Tensor] | None,
) -> Outputs:
    """Append what is done with the gradient; return the gradient, or what comes of it.

    ``judged`` is the loss and who is fooled, if there is a loss.
    """
    if judged is not None:
        # What is handed through for a loss outside is its reader's to judge.
        gradient = finite(builder, gradient)
    if spec.step is None:
        return [(GRADIENT, gradient)]
    if spec.step == "step":
        return add_step(builder, spec.norm, x, gradient)
    if judged is None:
        raise ValueError(f"the step {spec.step!r} needs a loss")
    loss, fooled = judged
    return ITERATION_STEPS[spec.step](builder, spec.norm, x, loss, gradient, fooled)


def _add_loss(
    builder: Builder, scores: Tensor, name: str, spec: GradientSpec
) -> tuple[Tensor, Tensor, Tensor]:
    """Append a loss; return it [N], its gradient in the scores, and who is fooled: bool [N]."""
    samples, count = shape_of(scores)
    shape = [samples, count] if spec.independent else [samples]
    labels = add_input(builder, LABELS, np.int64, shape)
    targets = None
    if name in TARGETED:
        targets = add_input(builder, TARGETS, np.int64, [samples])
    if not spec.independent:
        chosen = name if spec.step is None else FOR_STEPS.get(name, name)
        loss, seed = LOSSES[chosen](builder, scores, labels, targets)
        return loss, seed, _fooled(builder, scores, labels)
    choice = as_choice(builder, scores, labels)
    if targets is not None:
        targets = rival_class(builder, targets)
    instead = LABEL_LOSSES if spec.step is None else LABEL_LOSSES_FOR_STEPS
    taken = instead.get(name, LOSSES[name])
    loss, slope = taken(builder, choice.logits, choice.labels, targets)
    return loss, choice.back(builder, slope), _fooled(builder, choice.logits, choice.labels)


def _fooled(builder: Builder, logits: Tensor, labels: Tensor) -> Tensor:
    """Tell which samples' largest logit, the first of equal ones, is not the label's: bool [N]."""
    place = builder.op("ArgMax", logits, dtype=np.int64, axis=1, keepdims=0)
    right = builder.compare("Equal", place, labels)
    return builder.op("Not", right, dtype=np.bool_)
