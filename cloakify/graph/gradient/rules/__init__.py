"""Gradient rules, one file per family of operators; importing this package registers them all."""

from cloakify.graph.gradient.rules import (
    activation,
    arithmetic,
    convolution,
    linear,
    normalisation,
    pooling,
    reduction,
    shape,
    softmax,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "linear",
    "normalisation",
    "pooling",
    "reduction",
    "shape",
    "softmax",
]
