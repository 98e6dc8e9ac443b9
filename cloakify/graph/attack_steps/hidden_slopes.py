"""How much of what a model does its derivatives hide, as a model of its own.

x  ->  for each function of one number in the graph, the share of the numbers at which it is
       level although it is not on either side
"""

from __future__ import annotations

from collections.abc import Mapping

from onnx import ModelProto

import cloakify.graph.gradient.rules  # noqa: F401  (registers the rules)
from cloakify.graph.gradient.builder import Builder
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.gradient.secant import hidden_share
from cloakify.graph.gradient.segments import find_segments
from cloakify.graph.lowering.specialise import specialise
from cloakify.graph.lowering.state import Shape
from cloakify.graph.model.dataflow import between

HIDDEN = "cloakify_hidden"


def build_hidden_slopes(
    model: ModelProto, shapes: Mapping[str, Shape], source: str, logits: str
) -> ModelProto | None:
    """Build the model that returns ``cloakify_hidden`` [S], a share for each of S segments.

    Parameters
    ----------
    model
        The classifier with its weights in it.
    shapes
        Shape of each data input, the batch axis included.
    source, logits
        Between which tensors to look.

    Returns
    -------
    ModelProto or None
        ``None`` where there is no segment whose derivative may hide anything.
    """
    working = specialise(model, shapes, has_rule, [logits])
    graph = working.graph
    begin, end = working.tensor(source).name, working.tensor(logits).name
    on_the_way = between(graph.nodes, begin, end)
    active = {begin, *(tensor.name for node in on_the_way for tensor in node.outputs)}
    segments = [segment for segment in find_segments(graph, active) if segment.may_hide]
    if not segments:
        return None
    builder = Builder(graph)
    shares = [hidden_share(builder, segment) for segment in segments]
    shares = [builder.cast(share, shares[0].dtype) for share in shares]
    joined = builder.op("Concat", *shares, axis=0, shape=[len(shares)])
    return working.finish([(HIDDEN, joined)])
