"""The `onnx` package's own operator cases: gradients agree with central differences, in double.

What is differentiated must agree; the rest must be refused by a clear error. ``pytest -m slow``
prints how many of how many.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from cloakify.errors import CloakifyError
from tests.support.gradcheck import gradient_model
from tests.support.onnx_cases import Case, cases, forward

pytestmark = pytest.mark.slow

STEP, DIRECTIONS, TOLERANCE = 1e-6, 3, 1e-4
# Of the differences to both sides: beyond it the point lies at a kink.
SMOOTH = 1e-3
# Fewer would mean that rules were lost.
LEAST = 935

# What the evaluator can't run in double, or to another shape when the input moves a little.
EVALUATOR_ERRORS = (Exception,)


def verdict(case: Case) -> str:
    """Return what came of a case; fail where a gradient is wrong."""
    x, (name,) = case.x, [value.name for value in case.model.graph.input]
    outputs = [value.name for value in case.model.graph.output]
    try:
        evaluator = forward(case.model)
        base = dict(zip(outputs, evaluator.run(None, {name: x}), strict=True))
    except EVALUATOR_ERRORS:
        return "not evaluated"
    floats = [n for n, value in base.items() if getattr(value, "dtype", None) == np.float64]
    for output in floats:
        expected = case.outputs[output]
        if base[output].shape != expected.shape or not np.allclose(
            base[output], expected, rtol=1e-3, atol=1e-5, equal_nan=True
        ):
            return "not evaluated"
    if not floats:
        return "not evaluated"
    random = np.random.default_rng(0)
    seeds = {n: random.standard_normal(base[n].shape) for n in floats}

    def objective(point: np.ndarray) -> float:
        found = dict(zip(outputs, evaluator.run(None, {name: point}), strict=True))
        if any(found[n].shape != base[n].shape for n in floats):
            return np.nan
        return float(sum(np.sum(found[n] * seeds[n]) for n in floats))

    try:
        model = gradient_model(case.model, {name: x.shape}, [name])
    except CloakifyError as error:
        assert "\n" not in str(error), case.name
        return "refused"
    asked = {value.name for value in model.graph.input}
    feeds = {name: x, **{f"seed_{n}": seed for n, seed in seeds.items()}}
    (gradient,) = forward(model).run(None, {n: v for n, v in feeds.items() if n in asked})
    assert gradient.shape == x.shape, case.name
    compared = 0
    with np.errstate(all="ignore"):
        for _ in range(DIRECTIONS):
            direction = random.standard_normal(x.shape)
            middle = objective(x)
            after = (objective(x + STEP * direction) - middle) / STEP
            before = (middle - objective(x - STEP * direction)) / STEP
            near = (objective(x + STEP / 8 * direction) - middle) / (STEP / 8)
            scale = max(1.0, abs(after), abs(before))
            smooth = max(abs(after - before), abs(after - near)) <= SMOOTH * scale
            if not smooth:
                # Also where a difference is NaN.
                continue
            compared += 1
            exact = float(np.sum(gradient * direction))
            assert abs(exact - (after + before) / 2) <= TOLERANCE * scale, (case.name, exact, after)
    return "agrees" if compared else "at a kink"


def test_operator_cases(capsys: pytest.CaptureFixture[str]) -> None:
    found = cases()
    told = Counter(verdict(case) for case in found.values())
    with capsys.disabled():
        listed = ", ".join(f"{count} {what}" for what, count in told.most_common())
        print(f"\n{len(found)} operator cases with float inputs and outputs: {listed}")
    assert told["agrees"] >= LEAST
