"""Adam against torch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.numeric.adam import Adam


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(1e-4, 1.0), tiny=st.sampled_from([1e-8, 0.1]))
def test_steps_equal_torch(seed: int, rate: float, tiny: float) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((2, 3))
    adam = Adam.at(start)
    theta = torch.tensor(start, requires_grad=True)
    other = torch.optim.Adam([theta], lr=rate, eps=tiny)
    for _ in range(8):
        gradient = rng.standard_normal((2, 3)) * 10.0 ** rng.integers(-4, 4)
        theta.grad = torch.tensor(gradient)
        other.step()
        adam = adam.step(gradient, rate, tiny)
    np.testing.assert_allclose(adam.theta, theta.detach(), rtol=1e-9, atol=1e-12)
    assert adam.count == 8
