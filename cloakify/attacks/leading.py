"""Whose gradients lead an attack on a target, where its own mislead.

    z = sin(3p), p(1 − p), the rank of s, …      p = softmax(s), s a layer's scores

The largest z is mostly where the largest s is, but uphill in z need not be: from p = 1 on p(1 − p)
rises before it falls, and a rank is level. What the layer says has no such valleys. The shipped
graph is what is judged all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace

import numpy as np

from cloakify.attacks.target import Target
from cloakify.numeric.arrays import Array, Flags, Indices, Labels


def led_by_layer(target: Target) -> Target | None:
    """Return a target with the gradients of its layer's own scores; ``None`` where it bends none.

    It shares its sessions, and answers as the given one does.
    """
    if not target.scores.layer:
        return None
    led = copy(target)
    led.differentiated = replace(target.differentiated, logits=target.scores.layer)
    return led


def led_by_near_steps(target: Target) -> Target:
    """Return a target whose gradients straight through steps go by those that are near."""
    led = copy(target)
    led.differentiated = replace(target.differentiated, near=True)
    return led


def layer_answers(target: Target, x: Array, y: Labels) -> Flags:
    """Tell for which samples the layer's largest score is the label's: bool [n].

    By those of others, as where a model puts its classes into another order, no attack should be
    led.
    """
    right: Flags = target.values(x, target.scores.layer).argmax(axis=1) == y
    return right


def leaders(target: Target, x: Array, y: Labels) -> Iterator[tuple[Target, Indices]]:
    """Yield whose gradients should lead, and for which of the samples: for each there is one."""
    led = led_by_layer(target)
    alike = np.zeros(len(x), np.bool_)
    if led is not None and len(x):
        alike = layer_answers(target, x, y)
        if alike.any():
            yield led, np.flatnonzero(alike)
    if not alike.all() or not len(x):
        yield target, np.flatnonzero(~alike)
