"""AffineGrid: the sampling positions of a spatial transformer."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from cloakify.graph.gradient.rule import Context, Gradients, rule
from cloakify.graph.model.shapes import shape_of


@rule("AffineGrid")
def affine_grid(context: Context, node: gs.Node, grads: Gradients) -> Gradients:
    """``y[p] = θ · (p, 1)`` at every position p of the image: ``∂θ = Σ_p g[p] · (p, 1)ᵀ``.

    Jaderberg et al., arXiv 1506.02025, equation 1.
    """
    (g,) = grads
    assert g is not None
    theta, grid = node.inputs[0], node.outputs[0]
    samples, *size, rank = shape_of(grid)
    places = _places(size, bool(node.attrs.get("align_corners", 0)))
    flat = context.reshape(g, [samples, len(places), rank])
    turned = context.transpose(flat, [0, 2, 1])
    return [context.op("MatMul", turned, context.constant(places.astype(theta.dtype))), None]


def _places(size: list[int], align_corners: bool) -> np.ndarray:
    """Return all positions of an image, the last axis first, and 1: [positions, axes + 1].

    An axis runs from −1 to 1, from the middle of the first position to that of the last, or
    between their outer edges.
    """
    axes = []
    for count in size:
        if align_corners and count == 1:
            # Not specified: the reference says −1, torch 0. This is where the runtime puts it.
            axes.append(np.ones(1))
        else:
            ends = count - align_corners
            axes.append((2 * np.arange(count) - (count - 1)) / ends)
    meshed = np.meshgrid(*axes, indexing="ij")[::-1]
    return np.stack([*meshed, np.ones(size)], axis=-1).reshape(-1, len(size) + 1)
