"""∂loss/∂gate against central differences in double and against torch's autograd."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.attack_steps.gate_gradient import SUFFIX, build_gate_gradient
from cloakify.graph.edit.gates import gate_name, open_gates
from cloakify.graph.lowering.run_once import run_once
from tests.support.gate_models import CNN, TRANSFORMER, filled


def as_double(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize("shifts", [False, True])
@pytest.mark.parametrize(("text", "shape"), [(CNN, (4, 3, 6, 6)), (TRANSFORMER, (4, 5, 4))])
def test_gradient_equals_central_differences(
    text: str, shape: tuple[int, ...], shifts: bool
) -> None:
    model = filled(text)
    as_double(model)
    head = find_head(model).head
    sites = find_gate_sites(model, head, shifts=shifts)
    rng = np.random.default_rng(0)
    opened = open_gates(model, sites)
    gates = {gate_name(k, site): rng.uniform(0.5, 1.5, site.shape) for k, site in enumerate(sites)}
    built = build_gate_gradient(opened, {"x": shape}, head.logits, list(gates))
    onnx.checker.check_model(built)
    feeds = {
        "x": rng.standard_normal(shape),
        # No distribution that adds up to 1: the samples have weights of their own.
        "cloakify_distribution": rng.uniform(0, 1, (shape[0], 3)),
    }
    names = [output.name for output in built.graph.output]
    session = ReferenceEvaluator(built)

    def run(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {**feeds, **values}), strict=True))

    def objective(values: dict[str, np.ndarray]) -> float:
        return float(run(values)["cloakify_loss"].sum())

    found = run(gates)
    for name, values in gates.items():
        gradient = found[name + SUFFIX]
        assert gradient.shape == values.shape
        direction, step = rng.standard_normal(values.shape), 1e-6
        above = objective({**gates, name: values + step * direction})
        below = objective({**gates, name: values - step * direction})
        exact = float((gradient * direction).sum())
        assert (above - below) / (2 * step) == pytest.approx(exact, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("shifts", [False, True])
def test_gradient_equals_torch(shifts: bool) -> None:
    torch = pytest.importorskip("torch")
    model = filled(CNN)
    head = find_head(model).head
    sites = find_gate_sites(model, head, shifts=shifts)
    rng = np.random.default_rng(0)
    opened = open_gates(model, sites)
    gates = {gate_name(k, site): _floats(rng, site.shape) for k, site in enumerate(sites)}
    built = build_gate_gradient(opened, {"x": (4, 3, 6, 6)}, head.logits, list(gates))
    x, y = _floats(rng, (4, 3, 6, 6)), np.array([0, 1, 2, 0])
    feeds = {"x": x, "cloakify_distribution": np.eye(3, dtype=np.float32)[y], **gates}
    outputs = [output.name for output in built.graph.output]
    found = dict(zip(outputs, run_once(built, feeds), strict=True))

    weight = {t.name: torch.tensor(onnx.numpy_helper.to_array(t)) for t in model.graph.initializer}
    g = [torch.tensor(values, requires_grad=True) for values in gates.values()]
    functional = torch.nn.functional
    h = functional.conv2d(torch.tensor(x), weight["w1"], weight["b1"], padding=1)

    def normal(bias: object) -> object:
        return functional.batch_norm(
            h, weight["mean"], weight["var"], weight["scale"], bias, eps=1e-5
        )

    if shifts:
        h = normal(weight["shift"]) * g[0] + g[1]
        h = functional.conv2d(h.relu(), weight["w2"], groups=4) * g[2] + g[3]
        h = (h.relu().mean((2, 3)) @ weight["w3"].T + weight["b3"]) * g[4] + g[5]
    else:
        h = normal(weight["shift"] * g[1]) * g[0]
        h = functional.conv2d(h.relu(), weight["w2"], groups=4) * g[2]
        h = (h.relu().mean((2, 3)) @ weight["w3"].T + weight["b3"] * g[4]) * g[3]
    logits = h.relu() @ weight["w4"] + weight["b4"]
    functional.cross_entropy(logits, torch.tensor(y), reduction="sum").backward()
    np.testing.assert_allclose(found["cloakify_logits"], logits.detach(), rtol=1e-4, atol=1e-5)
    for name, tensor in zip(gates, g, strict=True):
        np.testing.assert_allclose(found[name + SUFFIX], tensor.grad, rtol=1e-4, atol=1e-5)


def _floats(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_labels_have_a_loss_each(scale: float) -> None:
    """Value and slope of the weighted binary cross-entropies, also where a sigmoid is 0 or 1."""
    model = filled(CNN)
    as_double(model)
    head = find_head(model).head
    sites = find_gate_sites(model, head)
    rng = np.random.default_rng(0)
    opened = open_gates(model, sites)
    gates = {gate_name(k, s): scale * rng.uniform(0.5, 1.5, s.shape) for k, s in enumerate(sites)}
    built = build_gate_gradient(
        opened, {"x": (4, 3, 6, 6)}, head.logits, list(gates), independent=True
    )
    weights = rng.uniform(0, 1, (4, 6))
    feeds = {"x": rng.standard_normal((4, 3, 6, 6)), "cloakify_distribution": weights}
    names = [output.name for output in built.graph.output]
    session = ReferenceEvaluator(built)

    def run(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {**feeds, **values}), strict=True))

    found = run(gates)
    z = found["cloakify_logits"]
    holds, fails = weights[:, :3], weights[:, 3:]
    loss = (holds * np.logaddexp(0, -z) + fails * np.logaddexp(0, z)).sum(axis=1)
    np.testing.assert_allclose(found["cloakify_loss"], loss, rtol=1e-9)
    for name, values in gates.items():
        direction, step = rng.standard_normal(values.shape), 1e-6 * scale
        above, below = (
            float(run({**gates, name: values + sign * step * direction})["cloakify_loss"].sum())
            for sign in (1, -1)
        )
        exact = float((found[name + SUFFIX] * direction).sum())
        assert (above - below) / (2 * step) == pytest.approx(exact, rel=1e-4, abs=1e-6)
