"""Gradient rules, one file per family of operators; importing this package registers them all."""

from cloakify.graph.gradient.rules import (
    activation,
    arithmetic,
    constant,
    convolution,
    einsum,
    elementary,
    indexing,
    linear,
    normalisation,
    pooling,
    reduction,
    resize,
    selection,
    shape,
    smooth_activation,
    softmax,
)

__all__ = [
    "activation",
    "arithmetic",
    "constant",
    "convolution",
    "einsum",
    "elementary",
    "indexing",
    "linear",
    "normalisation",
    "pooling",
    "reduction",
    "resize",
    "selection",
    "shape",
    "smooth_activation",
    "softmax",
]
