"""The activations of `RNN`, `GRU` and `LSTM`, and where a node keeps their parameters.

A node lists the activations of all its directions, and in activation_alpha and activation_beta the
parameters of those that have some, each activation taking the next one of either list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto

from cloakify.graph.model.rewrite import Writer, attribute

_DEFAULT = {
    "RNN": ["Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
}
# What an activation takes of each list, with the defaults that ONNX Runtime has (those of Affine,
# ScaledTanh and ThresholdedRelu differ from the operators of that name).
_PARAMETERS: dict[str, dict[str, float]] = {
    "Affine": {"alpha": 0.0, "beta": 0.0},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "LeakyRelu": {"alpha": 0.01},
    "Relu": {},
    "ScaledTanh": {"alpha": 0.0, "beta": 0.0},
    "Sigmoid": {},
    "Softplus": {},
    "Softsign": {},
    "Tanh": {},
    "ThresholdedRelu": {"alpha": 0.0},
}
# The runtime reads names in any case.
_NAMES = {name.lower(): name for name in _PARAMETERS}


@dataclass(frozen=True)
class Activation:
    """An activation by its ONNX name, with its parameters."""

    name: str
    parameters: dict[str, Any]

    def write(self, writer: Writer, tensor: str, dtype: np.dtype) -> str:
        """Append it for a tensor of a floating ``dtype``, and return its result."""
        if self.name not in ("Affine", "ScaledTanh"):
            return writer.op(self.name, tensor, **self.parameters)
        alpha, beta = (
            writer.constant(np.array(self.parameters[key], dtype)) for key in ("alpha", "beta")
        )
        if self.name == "Affine":
            return writer.op("Add", writer.op("Mul", tensor, alpha), beta)
        return writer.op("Mul", writer.op("Tanh", writer.op("Mul", tensor, beta)), alpha)


def read_activations(node: NodeProto) -> list[list[Activation]] | str:
    """Return the activations of each direction; what is wrong with one that is not known."""
    each = _DEFAULT[node.op_type]
    directions = 2 if attribute(node, "direction") == "bidirectional" else 1
    # As given, or the default, for every direction; a list for both directions has twice as many.
    chosen = attribute(node, "activations") or each * directions
    lists = {key: iter(attribute(node, f"activation_{key}") or ()) for key in ("alpha", "beta")}
    activations = []
    for given in chosen:
        name = _NAMES.get(given.lower())
        if name is None:
            return f"has the activation {given!r}"
        own = {key: next(lists[key], value) for key, value in _PARAMETERS[name].items()}
        activations.append(Activation(name, own))
    return [
        activations[place : place + len(each)] for place in range(0, len(activations), len(each))
    ]
