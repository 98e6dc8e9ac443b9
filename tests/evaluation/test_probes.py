"""Where a model is probed, and what each probe's flags come of, with a model that is made up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto

from cloakify.attacks import ThreatModel
from cloakify.data import Batch
from cloakify.errors import NoGradientError
from cloakify.evaluation.probes import (
    Probes,
    bent_at_borders,
    blind_samples,
    probe_model,
    saturated,
    shares,
    untold_moves,
)
from cloakify.evaluation.samples import Samples

N, D, CLASSES = 12, 6, 3
seeds = st.integers(0, 2**32 - 1)


def threat_of(norm: str, eps: float) -> ThreatModel:
    """Data units differ from value to value; the box cuts."""
    factor = np.linspace(0.5, 4, D, dtype=np.float32)[None]
    return ThreatModel(norm, eps, factor, -factor, factor)  # type: ignore[arg-type]


@dataclass
class MadeUp:
    """A model with given slopes, of which each answer is overruled as a list says."""

    slope: np.ndarray | None
    weight: np.ndarray
    overruling: list[np.ndarray] = field(default_factory=list)
    independent: bool = False
    probabilities: bool = False
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.model = ModelProto()
        self.scores = SimpleNamespace(probabilities=self.probabilities)
        self.looked_at: list[np.ndarray] = []
        self.ways: list[tuple[str, bool]] = []

    def features_and_logits(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 2 * x, x @ self.weight

    def logits(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weight + np.float32(self.jitter)

    def evaluate(self, x: np.ndarray, y: np.ndarray, loss: str, *, straight_through: bool) -> Any:
        self.ways.append((loss, straight_through))
        if self.slope is None:
            raise NoGradientError("none")
        return SimpleNamespace(gradient=self.slope)

    def logits_and_overruled(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.looked_at.append(x)
        return x @ self.weight, self.overruling[len(self.looked_at) - 1]


def made_up(rng: np.random.Generator, **changes: Any) -> tuple[MadeUp, Samples]:
    """Draw a model and samples within the box."""
    factor = threat_of("linf", 1).factor
    x = (rng.uniform(-1, 1, (N, D)) * factor).astype(np.float32)
    slope = (rng.standard_normal((N, D)) * (rng.random((N, D)) < 0.8)).astype(np.float32)
    weight = rng.standard_normal((D, CLASSES)).astype(np.float32)
    overruling = [rng.random(N) < 0.2 for _ in range(3)]
    model = MadeUp(**{"slope": slope, "weight": weight, "overruling": overruling, **changes})
    return model, Samples(x, rng.integers(0, CLASSES, N), rng.permutation(100)[:N])


def probed(model: MadeUp, threat: ThreatModel, samples: Samples, gradients: bool = True) -> Probes:
    return probe_model(model, threat, samples, gradients=gradients)  # type: ignore[arg-type]


@given(seeds, st.sampled_from(["linf", "l2"]), st.floats(0.01, 0.5))
def test_three_points_are_asked_whether_they_are_overruled(
    seed: int, norm: str, eps: float
) -> None:
    """The sample, one at random in its ball, and one a step of the whole budget up the slope."""
    model, samples = made_up(np.random.default_rng(seed))
    threat = threat_of(norm, eps)
    found = probed(model, threat, samples)
    np.testing.assert_array_equal(found.overruled, np.logical_or.reduce(model.overruling))
    itself, near, uphill = (x.astype(np.float64) for x in model.looked_at)
    np.testing.assert_array_equal(itself, samples.x)
    order = np.inf if norm == "linf" else 2
    for point in (near, uphill):
        assert (np.abs(point) <= threat.upper + 1e-6).all()
        away = np.linalg.norm((point - samples.x) / threat.factor, order, axis=1)
        assert (away <= eps * (1 + 1e-4)).all() and (away > 0).any()
    assert model.slope is not None
    step = eps * np.sign(model.slope)
    if norm == "l2":
        step /= np.maximum(np.sqrt(np.count_nonzero(step, axis=1, keepdims=True)), 1)
    expected = np.clip(samples.x + step * threat.factor, threat.lower, threat.upper)
    np.testing.assert_allclose(uphill, expected, rtol=1e-4, atol=1e-5)


@given(seeds)
def test_flags_are_those_of_the_samples(seed: int) -> None:
    model, samples = made_up(np.random.default_rng(seed))
    assert model.slope is not None
    model.slope[::3] = 0
    found = probed(model, threat_of("linf", 0.1), samples)
    np.testing.assert_array_equal(
        found.clean, (samples.x @ model.weight).argmax(axis=1) == samples.y
    )
    flat = ~model.slope.any(axis=1)
    np.testing.assert_array_equal(found.flat, flat)
    assert not found.unstable.any() and not found.on_probabilities.any()
    assert model.ways == [("margin", False)]


def test_what_no_gradient_reaches_is_flat_and_nothing_is_where_none_is_looked_at() -> None:
    model, samples = made_up(np.random.default_rng(0), slope=None)
    assert probed(model, threat_of("linf", 0.1), samples).flat.all()
    # Uphill is nowhere, then.
    np.testing.assert_array_equal(model.looked_at[2], samples.x)
    other, samples = made_up(np.random.default_rng(0), slope=None)
    assert not probed(other, threat_of("linf", 0.1), samples, gradients=False).flat.any()
    assert not other.ways


@pytest.mark.parametrize("through", [False, True])
def test_an_attack_is_blind_where_its_own_slope_is_flat(through: bool) -> None:
    model, samples = made_up(np.random.default_rng(1))
    assert model.slope is not None
    model.slope[[2, 5]] = 0
    batch = Batch(samples.x, samples.y, samples.index)
    blind = blind_samples(
        model,  # type: ignore[arg-type]
        threat_of("l2", 0.1),
        batch,
        straight_through=through,
    )
    assert np.flatnonzero(blind).tolist() == [2, 5]
    assert model.ways == [("margin", through)]


def test_a_model_that_answers_otherwise_again_is_unstable() -> None:
    model, samples = made_up(np.random.default_rng(2), jitter=1.0)
    assert probed(model, threat_of("linf", 0.1), samples).unstable.all()


def test_what_lies_between_0_and_1_is_taken_for_probabilities_where_it_may_be_none() -> None:
    """Features or logits that sum to 1; of labels, logits that are shares."""
    rng = np.random.default_rng(3)
    sums = (rng.dirichlet(np.ones(D), N) / 2).astype(np.float32)
    for changes, expected in (
        ({}, False),
        ({"probabilities": True}, False),
        ({"independent": True}, True),
        ({"independent": True, "probabilities": True}, False),
    ):
        # Features are twice the samples: they sum to 1, but are more than the classes.
        model, samples = made_up(rng, weight=np.full((D, CLASSES), 0.9, np.float32), **changes)
        samples = Samples(sums, samples.y % 2, samples.index)
        if changes.get("independent"):
            samples = Samples(sums, rng.integers(0, 2, (N, CLASSES)), samples.index)
        found = probed(model, threat_of("linf", 0.1), samples).on_probabilities
        np.testing.assert_array_equal(found, np.full(N, expected))
    square = np.eye(D, dtype=np.float32)
    for weight in (square, 2 * square):
        model, samples = made_up(rng, weight=weight)
        samples = Samples(sums, samples.y, samples.index)
        assert probed(model, threat_of("linf", 0.1), samples).on_probabilities.all()


logit = st.floats(-30, 30, width=32).filter(lambda z: abs(abs(z) - 16.6355) > 0.01)


@given(st.lists(st.lists(logit, min_size=2, max_size=2), min_size=1, max_size=8))
def test_labels_are_saturated_where_every_sigmoid_rounds_to_one_or_its_complement_does(
    rows: list[list[float]],
) -> None:
    logits = np.array(rows, np.float32)
    larger = 1 / (1 + np.exp(-np.abs(logits)))
    assert larger.dtype == np.float32
    np.testing.assert_array_equal(saturated(logits, independent=True), (larger == 1).all(axis=1))


@given(st.lists(st.lists(st.floats(-0.5, 1.5, width=32), min_size=2, max_size=2), min_size=1))
def test_shares_are_all_between_0_and_1(rows: list[list[float]]) -> None:
    expected = [all(0 <= value <= 1 for value in row) for row in rows]
    assert shares(np.array(rows, np.float32)).tolist() == expected
    assert shares(np.array([[0.0, 1.0]], np.float32)).all()


@dataclass
class Bent:
    """A model whose slopes on the border are others than a hair inside."""

    weight: np.ndarray
    slopes: list[np.ndarray]
    independent: bool = False

    def __post_init__(self) -> None:
        self.seen: list[tuple[np.ndarray, np.ndarray, str, bool]] = []

    def logits(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weight

    def evaluate(self, x: np.ndarray, y: np.ndarray, loss: str, *, straight_through: bool) -> Any:
        self.seen.append((x, y, loss, straight_through))
        return SimpleNamespace(gradient=self.slopes[len(self.seen) - 1])


@given(seeds, st.sampled_from(["linf", "l2"]), st.booleans())
def test_a_bend_is_where_half_of_a_slope_that_counts_is_gone_or_more(
    seed: int, norm: str, independent: bool
) -> None:
    rng = np.random.default_rng(seed)
    threat = threat_of(norm, 0.1)
    x = (rng.choice([-1, -0.95, 0, 1], (N, D)) * threat.factor).astype(np.float32)
    # Kept, turned, halved or half as much again, by a little less and a little more.
    off = rng.standard_normal((N, D)) * rng.choice([0.001, 1], (N, D), p=[0.2, 0.8])
    on = off * rng.choice([1, 0, -1, 0.49, 0.51, 1.49, 1.51], (N, D))
    # The first is what the border says, the second what a hair inside does.
    model = Bent(
        rng.standard_normal((D, CLASSES)).astype(np.float32),
        [on.astype(np.float32), off.astype(np.float32)],
        independent,
    )
    batch = Batch(x, rng.integers(0, CLASSES, N), np.arange(N))
    found = bent_at_borders(model, threat, batch)  # type: ignore[arg-type]
    bent = [
        abs(on[row, place] - off[row, place]) > abs(off[row, place]) / 2
        and abs(off[row, place]) > np.abs(off[row]).mean() / 10
        for row in range(N)
        for place in range(D)
    ]
    assert found == pytest.approx(np.mean(bent))
    # Of the model's own answers, on the border first.
    logits = x @ model.weight
    answers = (logits > 0).astype(np.int64) if independent else logits.argmax(axis=1)
    for _, y, loss, through in model.seen:
        np.testing.assert_array_equal(y, answers)
        assert (loss, through) == ("margin", False)
    corner, near = (x.astype(np.float64) for x, *_ in model.seen)
    moved = np.abs(corner - x) / threat.factor
    at_box = np.isclose(np.abs(corner), threat.upper, rtol=1e-5)
    if norm == "linf":
        assert (np.isclose(moved, 0.1, atol=1e-4) | at_box).all()
    else:
        lengths = np.linalg.norm(moved, axis=1)
        assert (np.isclose(lengths, 0.1, atol=1e-4) | at_box.any(axis=1)).all()
    # All but where they were, and nowhere on the border.
    assert (np.abs(near) < threat.upper).all()
    assert (np.abs(near - corner) / threat.factor <= 1e-3).all()


@given(seeds, st.sampled_from(["linf", "l2"]))
def test_moves_of_a_linear_model_are_told(seed: int, norm: str) -> None:
    """And are not where the slope is that of another model; a level one makes none."""
    rng = np.random.default_rng(seed)
    model, samples = made_up(rng)
    # So near that neither the answer nor its nearest rival is another one, but beyond rounding.
    gap = float(np.diff(np.sort(samples.x @ model.weight, axis=1)[:, -3:], axis=1).min())
    assume(gap > 2e-3)
    threat = threat_of(norm, gap / 100)
    ranked = np.argsort(samples.x @ model.weight, axis=1)
    own, rival = (model.weight[:, ranked[:, place]].T for place in (-1, -2))
    model.slope = (rival - own).astype(np.float32)
    assert untold_moves(model, threat, samples) == 0  # type: ignore[arg-type]
    model.slope = -model.slope
    assert untold_moves(model, threat, samples) == 1  # type: ignore[arg-type]
    level, samples = made_up(rng, weight=np.zeros((D, CLASSES), np.float32))
    assert untold_moves(level, threat, samples) == 0  # type: ignore[arg-type]


class Rounding(MadeUp):
    """A linear model of numbers that are rounded to steps first, with the gradient of one."""

    step = 1.0

    def logits(self, x: np.ndarray) -> np.ndarray:
        return np.rint(x / self.step).astype(np.float32) * np.float32(self.step) @ self.weight


@given(seeds, st.sampled_from([2.0, 4.0, 8.0]))
def test_rounding_by_design_counts_where_the_gradient_does_not_lead_further(
    seed: int, width: float
) -> None:
    """A step is a half to an eighth of the budget, and within it nothing is told."""
    rng = np.random.default_rng(seed)
    linear, samples = made_up(rng)
    scores = samples.x @ linear.weight
    gap = float(np.diff(np.sort(scores, axis=1)[:, -3:], axis=1).min())
    assume(gap > 2e-3)
    eps = gap / 400
    threat = replace(threat_of("linf", eps), factor=np.float32(1))
    model = Rounding(None, linear.weight)
    model.step = eps / width
    ranked = np.argsort(scores, axis=1)
    own, rival = (model.weight[:, ranked[:, place]].T for place in (-1, -2))
    right = (rival - own).astype(np.float32)
    figures = {}
    for quantised, model.slope in product([False, True], [right, -right]):
        nodes = ["QuantizeLinear"] * quantised
        model.model = onnx.helper.make_model(
            onnx.helper.make_graph(
                [onnx.helper.make_node(kind, ["x", "s"], ["q"]) for kind in nodes], "g", [], []
            )
        )
        share = untold_moves(model, threat, samples)  # type: ignore[arg-type]
        figures[quantised, model.slope is right] = share
    assert figures[True, True] == 0 <= figures[False, True]
    assert figures[True, False] == figures[False, False]
