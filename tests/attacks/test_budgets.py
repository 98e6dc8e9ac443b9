"""Budgets in the data's units become budgets in the model's; what makes no sense is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import make_threat
from cloakify.attacks.threat import (
    NO_ROOM,
    check_width,
    make_relative_threat,
    packed_threat,
)
from cloakify.data import Preprocessing
from cloakify.errors import UsageError
from cloakify.graph.analysis.inputs import InputSpec

IMAGES = InputSpec("x", (None, 3, 4, 5), np.dtype(np.float32), 1)
LAST = InputSpec("x", (None, 4, 5, 3), np.dtype(np.float32), 3)
ROWS = InputSpec("x", (None, 6), np.dtype(np.float32), None)
COLOURS = Preprocessing(scale=255.0, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))


@pytest.mark.parametrize("spec", [IMAGES, LAST], ids=["NCHW", "NHWC"])
@given(eps=st.floats(1e-3, 1), low=st.floats(-1, 0), high=st.floats(0.5, 2))
def test_a_pixels_move_is_a_models_move(
    spec: InputSpec, eps: float, low: float, high: float
) -> None:
    threat = make_threat("linf", eps, spec, COLOURS, (low, high))
    pixels = np.random.default_rng(0).random((2, *spec.sample_shape), np.float32)
    there, far = (COLOURS.to_model(p, spec.channel_axis) for p in (pixels, pixels + eps))
    np.testing.assert_allclose(far - there, np.broadcast_to(threat.radius, there.shape), rtol=1e-3)
    for bound, pixel in ((threat.lower, low), (threat.upper, high)):
        expected = COLOURS.to_model(np.full_like(pixels, pixel), spec.channel_axis)
        np.testing.assert_allclose(np.broadcast_to(bound, there.shape), expected, rtol=1e-5)


@given(eps=st.floats(1e-3, 10), unit=st.floats(1e-2, 10))
def test_relative_budgets_have_no_box(eps: float, unit: float) -> None:
    threat = make_relative_threat("l2", eps, unit, 3)
    assert threat.factor.shape == (1, 1, 1)
    np.testing.assert_allclose(threat.radius, eps * unit, rtol=1e-6)
    assert np.isneginf(threat.lower).all() and np.isposinf(threat.upper).all()
    x = np.full((2, 1, 4), 7.0, np.float32)
    np.testing.assert_allclose(threat.distance(x, np.zeros_like(x)), 14 / unit, rtol=1e-5)


@pytest.mark.parametrize("make", ["absolute", "relative"])
@pytest.mark.parametrize(("norm", "eps"), [("l1", 0.1), ("linf", 0.0), ("l2", -1), ("l2", np.inf)])
def test_no_such_budget(make: str, norm: str, eps: float) -> None:
    with pytest.raises(UsageError, match="--norm" if norm == "l1" else "--eps must be above 0"):
        if make == "absolute":
            make_threat(norm, eps, ROWS, Preprocessing())
        else:
            make_relative_threat(norm, eps, 1.0, 2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(share=st.floats(0.1, 4), width=st.floats(0.1, 3))
def test_a_budget_beyond_the_box_is_a_slip(norm: str, share: float, width: float) -> None:
    threat = make_threat(norm, 0.1, IMAGES, COLOURS, (-width / 2, width / 2))
    # In l2 a ball wider than the box still has corners to reach.
    if norm == "linf" and share > 1.001:
        with pytest.raises(UsageError, match="eight levels of 255 are 8/255"):
            check_width(threat, share * width)
    elif share < 0.999 or norm == "l2":
        check_width(threat, share * width)
    check_width(make_threat(norm, 0.1, IMAGES, COLOURS, None), 1e6)


@given(rest=st.integers(1, 5), eps=st.floats(0.01, 1))
def test_what_is_packed_behind_does_not_move(rest: int, eps: float) -> None:
    plain = make_threat("linf", eps, IMAGES, COLOURS)
    packed = packed_threat([plain], [IMAGES.sample_shape], 60 + rest)
    assert (packed.norm, packed.eps) == (plain.norm, plain.eps)
    rng = np.random.default_rng(0)
    whole, clean = rng.standard_normal((2, 3, 60 + rest)).astype(np.float32) * 100
    moved = packed.project(whole, clean)
    assert (moved[:, 60:] == clean[:, 60:]).all()
    parts = (array[:, :60].reshape(3, *IMAGES.sample_shape) for array in (whole, clean))
    assert (moved[:, :60].reshape(3, *IMAGES.sample_shape) == plain.project(*parts)).all()
    assert np.float32(1e3) + NO_ROOM * np.float32(1e6) == 1e3
    assert packed.dimensions((60 + rest,)) == 60


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(unit=st.floats(0.1, 5), eps=st.floats(0.01, 1))
def test_parts_that_move_at_once_have_a_budget_each_and_in_l2_share_it(
    norm: str, unit: float, eps: float
) -> None:
    table = InputSpec("table", (None, 7), np.dtype(np.float32), None)
    parts = [
        make_threat(norm, eps, IMAGES, COLOURS),
        make_threat(norm, eps, table, Preprocessing(), None, unit),
    ]
    packed = packed_threat(parts, [IMAGES.sample_shape, (7,)], 70)
    rng = np.random.default_rng(0)
    clean = np.concatenate(
        [
            rng.uniform(parts[0].lower, parts[0].upper, (3, *IMAGES.sample_shape)).reshape(3, -1),
            rng.standard_normal((3, 10)),
        ],
        axis=1,
    ).astype(np.float32)
    moved = packed.project(clean + rng.standard_normal(clean.shape).astype(np.float32) * 9, clean)
    assert (moved[:, 67:] == clean[:, 67:]).all()
    sides = [
        (array[:, :60].reshape(3, *IMAGES.sample_shape), array[:, 60:67])
        for array in (moved, clean)
    ]
    apart = [
        part.distance(*pair) for part, pair in zip(parts, zip(*sides, strict=True), strict=True)
    ]
    # Written out: the table is in no box, and a budget of one is that many of its units.
    own = (moved[:, 60:67].astype(np.float64) - clean[:, 60:67]) / unit
    np.testing.assert_allclose(
        apart[1],
        np.abs(own).max(axis=1) if norm == "linf" else np.linalg.norm(own, axis=1),
        rtol=1e-4,
    )
    if norm == "linf":
        assert all((each <= eps * (1 + 1e-4)).all() for each in apart)
        np.testing.assert_allclose(apart[1], eps, rtol=1e-3)
    else:
        assert (np.hypot(*apart) <= eps * (1 + 1e-4)).all()


def test_another_budget_is_all_that_changes() -> None:
    threat = make_threat("l2", 0.5, IMAGES, COLOURS)
    other = threat.with_eps(0.25)
    assert (other.norm, other.eps) == ("l2", 0.25)
    assert (other.radius * 2 == threat.radius).all()
    for name in ("factor", "lower", "upper"):
        assert getattr(other, name) is getattr(threat, name)
