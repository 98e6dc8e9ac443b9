"""Readouts behind a model's features, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.graph.attack_steps.build import GRADIENT, LABELS, GradientSpec, build_gradient
from cloakify.graph.edit.readouts import Readouts, with_readouts
from cloakify.runtime import CPU, Session
from tests.support.classifiers import mlp_classifier


@pytest.mark.parametrize("samples", [1, 3])
def test_each_point_is_read_by_its_sample(samples: int) -> None:
    model = mlp_classifier(0, 5, 3)
    rng = np.random.default_rng(samples)
    readouts = Readouts(
        rng.uniform(0, 1, (samples, 5)).astype(np.float32),
        rng.standard_normal((samples, 16)).astype(np.float32),
        rng.standard_normal((samples, 16)).astype(np.float32),
        rng.standard_normal(samples).astype(np.float32),
    )
    edited, logits = with_readouts(model, "x", "h", readouts)
    x = np.concatenate([readouts.samples + rng.uniform(-0.05, 0.05) for _ in range(4)])
    x = x.astype(np.float32)
    found = Session(edited, CPU).run({"x": x}, [logits])[logits]
    constants = {t.name: np.array(t.float_data).reshape(t.dims) for t in model.graph.initializer}
    features = np.tanh(x @ constants["w1"] + constants["b1"])
    nearest = np.square(x[:, None] - readouts.samples).sum(axis=2).argmin(axis=1)
    assert set(nearest) == set(range(samples))
    products = (features - readouts.centre[nearest]) * readouts.weight[nearest]
    expected = products.sum(axis=1) + readouts.bias[nearest]
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-4, atol=1e-4)
    assert not found[:, 0].any()
    # No gradient flows through the choice of the readout, straight through or not.
    slopes = [
        Session(
            build_gradient(
                edited,
                {"x": x.shape},
                GradientSpec("x", logits, loss="margin", straight_through=through),
            ),
            CPU,
        ).run({"x": x, LABELS: np.zeros(len(x), np.int64)}, [GRADIENT])[GRADIENT]
        for through in (False, True)
    ]
    bend = 1 - np.square(features)
    exact = (readouts.weight[nearest] * bend) @ constants["w1"].T
    np.testing.assert_allclose(slopes[0], exact, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(slopes[1], exact, rtol=0.05, atol=0.05)


def test_names_that_are_taken_are_left_be() -> None:
    model = mlp_classifier(0, 5, 3)
    name = "cloakify_readout_weight"
    model.graph.initializer.add(name=name, data_type=1, dims=[1], float_data=[1.0])
    one = np.ones((1, 16), np.float32)
    readouts = Readouts(np.ones((1, 5), np.float32), one, one, np.ones(1, np.float32))
    edited, _ = with_readouts(model, "x", "h", readouts)
    names = [tensor.name for tensor in edited.graph.initializer]
    assert len(names) == len(set(names)) and f"{name}_1" in names
