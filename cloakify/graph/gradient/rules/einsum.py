"""Einsum: a sum of products over indices."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.model.shapes import shape_of


@rule("Einsum")
def einsum(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y_out = Σ Π xᵢ``: ``∂xₖ`` is the Einsum of g with the other operands, to xₖ's indices.

    An index that only xₖ has is summed away in y; along it the gradient is constant. An index
    along which xₖ has size 1 and others more is summed away in the gradient. An index that xₖ has
    twice takes a diagonal, which is a product with an identity matrix.
    """
    (g,) = grads
    assert g is not None
    terms = parse(node)
    eyes = [
        context.constant(np.eye(terms.sizes[pair[0]], dtype=g.dtype)) for pair in terms.diagonals
    ]
    gradients: Gradients = []
    for place, operand in enumerate(node.inputs):
        if not context.needs(operand):
            gradients.append(None)
            continue
        own = terms.inputs[place]
        others = [term for other, term in enumerate(terms.inputs) if other != place]
        tensors = [tensor for other, tensor in enumerate(node.inputs) if other != place]
        others += terms.diagonals
        tensors += eyes
        known = set(terms.output).union(*others)
        sizes = dict(zip(own, shape_of(operand), strict=True))
        kept = "".join(i for i in own if i in known and sizes[i] == terms.sizes[i])
        equation = f"{','.join((terms.output, *others))}->{kept}"
        product = context.op("Einsum", g, *tensors, equation=equation)
        product = context.reshape(product, [sizes[i] if i in kept else 1 for i in own])
        alone = any(i not in known and sizes[i] > 1 for i in own)
        gradients.append(context.expand(product, shape_of(operand)) if alone else product)
    return gradients


@dataclass(frozen=True)
class Terms:
    """An Einsum equation with every index a letter, which no operand has twice.

    Attributes
    ----------
    inputs, output
        The indices of each operand, and of the result.
    diagonals
        Pairs of indices that must be equal: factors that are identity matrices.
    sizes
        Of each index.
    """

    inputs: tuple[str, ...]
    output: str
    diagonals: tuple[str, ...]
    sizes: dict[str, int]


def parse(node: gs.Node) -> Terms:
    """Read an Einsum node's equation; an ellipsis becomes letters that it does not use."""
    equation = node.attrs["equation"].replace(" ", "")
    left, arrow, output = equation.partition("->")
    inputs = left.split(",")
    ranks = [len(shape_of(tensor)) for tensor in node.inputs]
    hidden = max(
        (rank - len(term) + 3 for term, rank in zip(inputs, ranks, strict=True) if "..." in term),
        default=0,
    )
    letters = "".join(c for c in string.ascii_letters if c not in equation)[:hidden]
    if not arrow:
        # Implicit form: the ellipsis, then in alphabetic order the indices that occur once.
        once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    explicit = [
        # An ellipsis of fewer axes stands for the last of them, as in broadcasting.
        term.replace("...", letters[hidden - (rank - len(term) + 3) :])
        for term, rank in zip(inputs, ranks, strict=True)
    ]
    output = output.replace("...", letters)
    free = iter(c for c in string.ascii_letters if c not in {*equation, *letters})
    apart, diagonals = [], []
    for term in explicit:
        indices = ""
        for index in term:
            if index in indices:
                twin = next(free)
                diagonals.append(index + twin)
                index = twin
            indices += index
        apart.append(indices)
    return Terms(tuple(apart), output, tuple(diagonals), _sizes(apart, node.inputs))


def _sizes(terms: Sequence[str], operands: Sequence[Tensor]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for index, size in zip(term, shape_of(operand), strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return sizes
