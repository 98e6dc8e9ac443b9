"""Products: MatMul, Gemm."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from cloakify.graph.gradient.builder import Tensor
from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.model.shapes import shape_of


@rule("MatMul")
def matmul(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = A B``: ``∂A = G Bᵀ``, ``∂B = Aᵀ G``, summed over broadcast batch axes."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs
    # A vector is a matrix with one row (left) or one column (right), as in numpy.
    a_shape = shape_of(a) if len(shape_of(a)) > 1 else [1, *shape_of(a)]
    b_shape = shape_of(b) if len(shape_of(b)) > 1 else [*shape_of(b), 1]
    batch = _broadcast(a_shape[:-2], b_shape[:-2])
    rows, columns = a_shape[-2], b_shape[-1]
    if len(shape_of(a)) == 1 or len(shape_of(b)) == 1:
        g = context.reshape(g, [*batch, rows, columns])
    gradients: Gradients = [None, None]
    if context.needs(a) and len(shape_of(b)) == 2 and len(shape_of(a)) > 1:
        # A layer's weights are read as they are: a transposed copy would be as large again.
        flat = context.reshape(g, [math.prod(shape_of(a)[:-1]), columns])
        gradients[0] = context.reshape(context.op("Gemm", flat, b, transB=1), shape_of(a))
    elif context.needs(a):
        product = context.op("MatMul", g, _swap(context, b, b_shape))
        product = context.sum_to(product, [*batch, rows, a_shape[-1]], a_shape)
        gradients[0] = context.reshape(product, shape_of(a)) if len(shape_of(a)) == 1 else product
    if context.needs(b):
        product = context.op("MatMul", _swap(context, a, a_shape), g)
        product = context.sum_to(product, [*batch, b_shape[-2], columns], b_shape)
        gradients[1] = context.reshape(product, shape_of(b)) if len(shape_of(b)) == 1 else product
    return gradients


@rule("Gemm")
def gemm(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``Y = α A' B' + β C`` (A', B' transposed on demand): ``∂A' = α G B'ᵀ``, ``∂B' = α A'ᵀ G``."""
    (g,) = grads
    assert g is not None
    a, b = node.inputs[:2]
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    trans_a, trans_b = node.attrs.get("transA", 0), node.attrs.get("transB", 0)
    gradients: Gradients = [None, None, None]
    if context.needs(a):
        if trans_a:  # ∂A = α B' Gᵀ
            gradients[0] = context.op("Gemm", b, g, alpha=alpha, transA=trans_b, transB=1)
        else:
            gradients[0] = context.op("Gemm", g, b, alpha=alpha, transB=1 - trans_b)
    if context.needs(b):
        if trans_b:  # ∂B = α Gᵀ A'
            gradients[1] = context.op("Gemm", g, a, alpha=alpha, transA=1, transB=trans_a)
        else:
            gradients[1] = context.op("Gemm", a, g, alpha=alpha, transA=1 - trans_a)
    if len(node.inputs) > 2 and context.needs(node.inputs[2]):
        scaled = g if beta == 1.0 else context.mul(g, context.scalar(beta, g))
        gradients[2] = context.sum_to(scaled, shape_of(node.outputs[0]), shape_of(node.inputs[2]))
    return gradients


def _swap(context: Context, tensor: Tensor, shape: list[int]) -> Tensor:
    """Transpose the last two axes; ``shape`` is the tensor's, at least a matrix's."""
    if len(shape_of(tensor)) == 1:
        return context.reshape(tensor, shape[::-1])
    perm = list(range(len(shape)))
    perm[-2:] = perm[-1], perm[-2]
    return context.transpose(tensor, perm)


def _broadcast(first: list[int], second: list[int]) -> list[int]:
    longest = max(len(first), len(second))
    padded = ([1] * (longest - len(shape)) + shape for shape in (first, second))
    return [max(pair) if 0 not in pair else 0 for pair in zip(*padded, strict=True)]
