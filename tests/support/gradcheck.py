"""Check gradient rules against central differences, in double, by onnx's own reference evaluator.

The reference evaluator is independent of ONNX Runtime and has every operator in double, which the
runtime has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from cloakify.graph.gradient.gradients import gradients_of
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.specialise import specialise
from tests.support.on_cuda import appended_fallbacks
from tests.support.reference_ops import OPS


def gradient_model(
    model: ModelProto, shapes: Mapping[str, tuple[int, ...]], wanted: Sequence[str]
) -> ModelProto:
    """Return the model of ∂(Σ seed·output)/∂wanted, from ``seed_<output>`` to ``grad_<name>``."""
    working = specialise(model, shapes, has_rule)
    graph = working.graph
    seeds = []
    for output in graph.outputs:
        if np.issubdtype(output.dtype, np.floating):
            seed = gs.Variable(f"seed_{output.name}", output.dtype, list(output.shape))
            graph.inputs.append(seed)
            seeds.append((output, seed))
    found = gradients_of(graph, seeds, [working.tensor(name) for name in wanted])
    return working.finish([(f"grad_{n}", t) for n, t in zip(wanted, found, strict=True)])


def check_gradient(
    model: ModelProto | str,
    feeds: Mapping[str, np.ndarray],
    wanted: Sequence[str] | None = None,
    *,
    seed: int = 0,
    step: float = 1e-6,
    tolerance: float = 1e-5,
) -> None:
    """Assert that the rules' gradient equals central differences along random directions.

    And that CUDA has kernels for all that they append.

    ``model`` is a message or ONNX text whose data inputs are double; ``feeds`` gives a value for
    each input; ``wanted`` defaults to every floating input.
    """
    if isinstance(model, str):
        model = onnx.parser.parse_model(model)
    wanted = [n for n, v in feeds.items() if v.dtype.kind == "f"] if wanted is None else wanted
    rng = np.random.default_rng(seed)
    shapes = {name: value.shape for name, value in feeds.items()}
    forward = ReferenceEvaluator(model, new_ops=OPS)
    names = [output.name for output in model.graph.output]
    outputs = dict(zip(names, forward.run(None, dict(feeds)), strict=True))
    floating = [name for name, value in outputs.items() if value.dtype.kind == "f"]
    seeds = {f"seed_{name}": rng.standard_normal(outputs[name].shape) for name in floating}
    backward = gradient_model(model, shapes, wanted)
    onnx.checker.check_model(backward)
    assert appended_fallbacks(backward) == []
    found = ReferenceEvaluator(backward, new_ops=OPS).run(None, {**feeds, **seeds})

    def objective(values: Mapping[str, np.ndarray]) -> float:
        results = dict(zip(names, forward.run(None, dict(values)), strict=True))
        return float(sum(np.sum(results[name] * seeds[f"seed_{name}"]) for name in floating))

    for name, gradient in zip(wanted, found, strict=True):
        assert gradient.shape == feeds[name].shape, (name, gradient.shape, feeds[name].shape)
        assert gradient.dtype == feeds[name].dtype
        for _ in range(3):
            direction = rng.standard_normal(feeds[name].shape)
            above = objective({**feeds, name: feeds[name] + step * direction})
            below = objective({**feeds, name: feeds[name] - step * direction})
            numeric = (above - below) / (2 * step)
            exact = float(np.sum(gradient * direction))
            scale = max(1.0, abs(numeric), float(np.abs(gradient).max(initial=0.0)))
            assert abs(exact - numeric) <= tolerance * scale, (name, exact, numeric)
