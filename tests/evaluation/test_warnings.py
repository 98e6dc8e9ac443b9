"""When warnings are raised, on vectors alone, and what they measure on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import ThreatModel
from cloakify.evaluation.probes import (
    Probes,
    flat_gradients,
    probabilities,
    saturated,
    unstable,
)
from cloakify.evaluation.warnings import (
    WarningCode,
    gradient_free_stronger,
    not_converged,
    not_monotone,
    probe_warnings,
    transfer_stronger,
    unbounded_fails,
)

N = 500


def right(count: int, n: int = N) -> np.ndarray:
    """The first ``count`` of n samples are right."""
    return np.arange(n) < count


@given(st.integers(0, N), st.integers(0, 40))
def test_what_is_beaten_is_counted(before: int, lost: int) -> None:
    """Against a plain count: four samples in five hundred are more than chance and negligible."""
    finding = gradient_free_stronger(right(before), right(max(0, before - lost)), "square")
    share = min(before, lost) / N
    assert (finding is not None) == (min(before, lost) >= 4)
    if finding is not None:
        assert finding.code == WarningCode.GRADIENT_FREE and finding.value == pytest.approx(share)
        assert "square" in finding.message


def test_a_small_share_of_many_samples_is_negligible() -> None:
    n = 10_000
    assert not_converged(right(n, n), right(n - 20, n), "apgd") is None
    finding = not_converged(right(n, n), right(n - 21, n), "apgd")
    assert finding is not None and finding.code == WarningCode.NOT_CONVERGED


def test_samples_that_were_lost_before_do_not_count() -> None:
    own = right(100)
    finding = transfer_stronger(own, [~right(100), right(90) | ~right(100)])
    assert finding is not None and finding.value == pytest.approx(100 / N)
    assert transfer_stronger(own, [right(100)]) is None
    assert transfer_stronger(own, []) is None


def test_the_largest_rise_of_the_curve_is_told() -> None:
    curve = np.stack([right(400), right(300), right(320), right(100), right(150)])
    finding = not_monotone(curve)
    assert finding is not None and finding.value == pytest.approx(50 / N)
    assert not_monotone(curve[:2]) is None
    assert not_monotone(np.stack([right(300), right(303)])) is None


def test_what_no_bound_leaves() -> None:
    assert unbounded_fails(right(5), 0.1) is None
    finding = unbounded_fails(right(6), 0.1)
    assert finding is not None and finding.value == pytest.approx(6 / N)


def probes(**counts: int) -> Probes:
    names = ("clean", "unstable", "flat", "saturated", "on_probabilities", "overruled")
    return Probes(*(right(counts.get(name, 0)) for name in names))


@pytest.mark.parametrize(
    ("name", "count", "code"),
    [
        ("unstable", 5, WarningCode.RANDOMISED),
        ("flat", 5, WarningCode.ZERO_GRADIENTS),
        ("saturated", 250, WarningCode.SATURATED),
        ("on_probabilities", 250, WarningCode.ON_PROBABILITIES),
        ("overruled", 5, WarningCode.OVERRULED),
    ],
)
def test_probes_have_their_bounds(name: str, count: int, code: WarningCode) -> None:
    assert probe_warnings(probes(**{name: count})) == []
    (finding,) = probe_warnings(probes(**{name: count + 1}))
    assert finding.code == code and finding.value == pytest.approx((count + 1) / N)


def test_probabilities_are_told_from_logits() -> None:
    rows = np.array([[0.2, 0.8], [0.2, 0.7], [-0.2, 1.2], [1.0, 0.0]], np.float32)
    assert probabilities(rows).tolist() == [True, False, False, True]
    assert not probabilities(rows, classes=3).any()
    assert not probabilities(np.ones((2, 1), np.float32)).any()


def test_saturation_is_where_softmax_rounds_to_one() -> None:
    gaps = np.array([0, 5, 16, 17, 40], np.float32)
    logits = np.stack([gaps, 0 * gaps], axis=1)
    p = np.exp(logits - logits.max(1, keepdims=True))
    largest = (p / p.sum(1, keepdims=True, dtype=np.float32)).max(1)
    assert saturated(logits).tolist() == (largest == 1).tolist()


def test_runs_are_compared_relative_to_the_logits() -> None:
    logits = np.array([[100.0, 0.0], [1.0, 0.0], [0.0, 0.0]], np.float32)
    again = logits + np.float32(1e-3)
    assert unstable(logits, again).tolist() == [False, True, True]
    assert not unstable(logits, logits).any()
    assert unstable(logits, np.full_like(logits, np.nan)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_is_flat_where_the_budget_changes_no_digit(norm: str) -> None:
    one = np.ones((1, 1), np.float32)
    threat = ThreatModel(norm, 0.5, 4 * one, 0 * one, one)  # type: ignore[arg-type]
    gradient = np.zeros((3, 16), np.float32)
    gradient[1] = 1e-10
    gradient[2] = 1e-3
    logits = np.array([[10.0, 0.0]] * 3, np.float32)
    assert flat_gradients(gradient, logits, threat).tolist() == [True, True, False]
    assert flat_gradients(np.full((1, 16), np.nan, np.float32), logits[:1], threat).all()


@pytest.mark.parametrize(("norm", "least"), [("linf", 1 / 32), ("l2", 1 / 8)])
def test_flatness_is_measured_in_the_dual_norm(norm: str, least: float) -> None:
    """Of 16 equal slopes g in units of 4, a budget of 1/2 changes 32·g (linf) or 8·g (l2)."""
    one = np.ones((1, 1), np.float32)
    threat = ThreatModel(norm, 0.5, 4 * one, 0 * one, one)  # type: ignore[arg-type]
    logits = np.array([[10.0, 0.0]] * 2, np.float32)
    digit = 10 * float(np.finfo(np.float32).eps)
    slopes = np.array([[0.9], [1.1]]) * least * digit
    gradient = np.repeat(slopes, 16, axis=1).astype(np.float32)
    assert flat_gradients(gradient, logits, threat).tolist() == [True, False]
