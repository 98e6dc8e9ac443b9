"""Attacks are tried where there is something to find: those that see it find it, others do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

import cloakify.evaluation.planted_samples as planting
from cloakify.attacks import Apgd, ApgdT, Attack, Target, ThreatModel
from cloakify.attacks.apgd import ApgdBpda
from cloakify.evaluation.planted_samples import (
    INSIDE,
    PASSES,
    PLANTED,
    PlantedTest,
    fit_readout,
    planted_in,
    try_planted,
)
from cloakify.evaluation.samples import Samples
from cloakify.evaluation.warnings import WarningCode, planted_missed
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import open_experiment
from cloakify.settings import EvaluateSetting
from tests.support.classifiers import linear_classifier, target_of, threat_of
from tests.support.planted import CLASSES, DEAD_ZONES, HIDDEN, Planted, plant

QUICK = Apgd(steps=10)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def tried(
    model: Path, data: Path, *attacks: Attack, eps: float = 0.1, norm: str = "linf"
) -> PlantedTest:
    setting = EvaluateSetting(eps=(eps,), norm=norm, device="cpu", limit=96)
    classifier = open_classifier(model, setting.model)
    experiment = open_experiment(classifier, data, setting.at(eps), lambda *_: None)
    chosen = planted_in(np.arange(len(experiment.dataset)))
    samples = Samples.of(experiment.dataset.batch(chosen))
    test = try_planted(experiment.target(), attacks or (QUICK,), experiment.threat, samples, 0)
    assert test is not None
    return test


def is_missed(test: PlantedTest) -> bool:
    warning = planted_missed(test)
    return warning is not None and warning.code is WarningCode.PLANTED_MISSED


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 12))
def test_a_readout_tells_the_last_row_from_the_others(seed: int, depth: int, others: int) -> None:
    """There is one just where the last row is no mean of the others, which linprog tells too."""
    rows = np.random.default_rng(seed).standard_normal((others + 1, depth)).astype(np.float32)
    readout = fit_readout(rows)
    mean = linprog(
        np.zeros(others),
        A_eq=np.concatenate([rows[:-1].T, np.ones((1, others))]),
        b_eq=np.append(rows[-1], 1),
    )
    assert (readout is None) == (mean.status == 0)
    if readout is not None:
        values = (rows - readout.centre).astype(np.float64) @ readout.weight + readout.bias
        assert values[-1] == pytest.approx(0.1, abs=1e-3)
        assert values[:-1].max() == pytest.approx(-0.9, abs=1e-3)


def test_the_margin_is_the_widest() -> None:
    """Between a corner and a segment: the normal is the line to its nearest point."""
    rows = np.array([[0, 0], [2, 0], [1, 4]], np.float32)
    readout = fit_readout(rows)
    assert readout is not None
    np.testing.assert_allclose(readout.weight, [0, 1 / 4], atol=1e-6)


@pytest.mark.parametrize("rows", [np.ones((3, 2)), np.full((3, 2), np.nan), [[0], [1], [np.inf]]])
def test_rows_that_tell_nothing_have_no_readout(rows: np.ndarray) -> None:
    assert fit_readout(np.array(rows, np.float32)) is None


@pytest.mark.parametrize(("norm", "eps"), [("linf", 4 / 255), ("l2", 0.5)])
def test_all_is_found_in_the_sample_models(
    sample_model: Path, samples: Path, norm: str, eps: float
) -> None:
    test = tried(sample_model, samples / "test.npz", eps=eps, norm=norm)
    assert test.found == test.planted == 16


@pytest.mark.parametrize("attack", [QUICK, ApgdT(steps=10, num_targets=1, by_slope=True)])
def test_all_is_found_in_an_ordinary_model(planted: Planted, attack: Attack) -> None:
    for defence in (None, "saturated", "tiny", "stepped"):
        test = tried(planted.model(defence), planted.data, attack)
        assert test.found == test.planted >= 14, defence


@pytest.mark.parametrize(
    "defence", ["quantised-input", "hard-threshold", "steep-steps", "steep-features", *DEAD_ZONES]
)
def test_what_a_blind_attack_misses_is_said(planted: Planted, defence: str) -> None:
    test = tried(planted.model(defence), planted.data, eps=0.04)
    assert test.planted >= 6
    assert is_missed(test)


@pytest.mark.parametrize("defence", ["quantised-input", "steep-steps", "zone-where", "zone-shrink"])
def test_one_that_sees_finds_it(planted: Planted, defence: str) -> None:
    test = tried(planted.model(defence), planted.data, ApgdBpda(steps=10), QUICK)
    assert test.attacks == ("apgd-bpda", "apgd")
    assert test.found == test.planted and not is_missed(test)


@pytest.mark.parametrize("defence", ["shattered", "shattered-input"])
def test_random_slopes_lead_nowhere(planted: Planted, defence: str) -> None:
    """Those of waves much shorter than the budget; secants go by what is beneath."""
    assert is_missed(tried(planted.model(defence), planted.data, Apgd(steps=10)))
    assert not is_missed(tried(planted.model(defence), planted.data, ApgdBpda(steps=10)))


def test_true_slopes_that_hardly_count_hide_no_random_ones(tmp_path: Path) -> None:
    """What decides has slopes of no meaning; beside it stand large features that do not count.

    A corner of the cube that is known from how the model is made misleads it everywhere.
    """
    model, data, attacked = write_decoys(tmp_path)
    test = tried(model, data)
    assert is_missed(test)
    labels = np.load(data)["y"]
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    clean, fooled = (
        session.run(None, {"x": x})[0].argmax(axis=1) for x in (np.load(data)["x"], attacked)
    )
    assert (clean == labels).all() and (fooled != labels).all()
    assert np.abs(attacked - np.load(data)["x"]).max() <= 0.1 + 1e-6


def write_decoys(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """Write model and data; return their paths, and samples attacked by 0.1."""
    rng, size, count = np.random.default_rng(0), 64, 32
    toward = np.sign(rng.standard_normal(size))
    labels = np.arange(count) % 2
    signs = 2.0 * labels[:, None] - 1
    spread = rng.uniform(-0.3, 0.3, (count, size))
    spread -= np.outer(spread @ toward, toward) / size
    x = (0.5 + signs * 0.075 * toward + spread).astype(np.float32)
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N, {size}] x) => (float[N, 2] z)
        <float half = {{0.5}}, float steep = {{10000.0}}, float little = {{0.01}}>
        {{
            k = Mul (x, steep)  s = Sin (k)  t = Mul (s, little)  c = Sub (x, half)
            i = Add (c, t)  b = MatMul (i, v)  d = MatMul (c, p)
            f = Concat <axis = 1> (b, d)  z = MatMul (f, w)
        }}"""
    )
    decoys = 6
    weights = {
        "v": toward[:, None],
        "p": 30 * rng.standard_normal((size, decoys)),
        "w": np.concatenate([[[-1, 1]], 1e-4 * rng.standard_normal((decoys, 2))]),
    }
    for name, values in weights.items():
        array = np.asarray(values, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, folder / "decoys.onnx")
    np.savez(folder / "decoys.npz", x=x, y=labels)
    attacked = np.clip(x - signs * 0.1 * toward, 0, 1).astype(np.float32)
    return folder / "decoys.onnx", folder / "decoys.npz", attacked


def test_features_that_do_not_move_hold_nothing(planted: Planted) -> None:
    test = tried(planted.model("frozen"), planted.data)
    warning = planted_missed(test)
    assert warning is not None and warning.code is WarningCode.NOTHING_PLANTED
    assert "apgd" in warning.message and test.obstacle in warning.message


def test_a_head_of_too_many_features_has_nothing_planted_before_it(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its readouts would be too large a table; behind the logits they need not be."""
    monkeypatch.setattr(planting, "MOST_FEATURES", CLASSES)
    assert tried(planted.model(), planted.data, eps=0.04).planted == PLANTED
    monkeypatch.setattr(planting, "MOST_FEATURES", CLASSES - 1)
    test = tried(planted.model(), planted.data, eps=0.04)
    assert (test.planted, test.obstacle) == (0, f"its head takes {HIDDEN} features")


def test_features_that_are_not_counted_by_samples_have_nothing_planted(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(self: Target, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((2 * len(x), 3), np.float32), np.zeros((2 * len(x), 3), np.float32)

    monkeypatch.setattr(Target, "features_and_logits", twice)
    test = tried(planted.model(), planted.data)
    assert (test.planted, test.obstacle) == (0, "its features are not counted by samples")


def test_without_attacks_nothing_is_tried(planted: Planted) -> None:
    nothing: object = None
    assert try_planted(nothing, (), nothing, nothing, 0) is None  # type: ignore[arg-type]


class Still(Attack):
    """Leaves samples where they are; sees what it is given."""

    name = "still"

    def __init__(self) -> None:
        self.seen: list[tuple[Target, np.ndarray, ThreatModel]] = []

    @property
    def steps(self) -> int:
        return 1

    def run(
        self, target: Target, x: np.ndarray, y: np.ndarray, index: np.ndarray, threat: ThreatModel
    ) -> np.ndarray:
        assert not y.any() and target.correct(x, y).all()
        self.seen.append((target, x, threat))
        return x


def test_what_is_planted_lies_in_the_ball_and_is_seldom_met_by_chance(planted: Planted) -> None:
    """A random corner of the cube is adversarial for one sample in ten at most."""
    still = Still()
    test = tried(planted.model(), planted.data, still, eps=0.04)
    assert test.found == 0 and test.planted == 16
    assert len(still.seen) == 2
    for target, x, threat in still.seen:
        corners = np.random.default_rng(0).choice([-1.0, 1.0], (100, *x.shape)) * threat.eps
        points = np.clip(x + corners, 0, 1).astype(np.float32).reshape(-1, *x.shape[1:])
        right = target.correct(points, np.zeros(len(points), np.int64))
        assert right.mean() >= 0.9


def test_so_many_passes_are_made_besides_the_attacks(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features and logits, or answers: whatever is asked of the model or of its copies."""
    asked: list[int] = []
    forward = Target._forward

    def counted(self: Target, x: np.ndarray, *names: object) -> object:
        asked.append(len(x))
        return forward(self, x, *names)  # type: ignore[arg-type]

    class Idle(Attack):
        name = "idle"
        steps = 1  # type: ignore[assignment]

        def run(self, target: Target, x: np.ndarray, *_: object) -> np.ndarray:
            # That it withstands is no part of it.
            asked.append(-len(x))
            return x

    monkeypatch.setattr(Target, "_forward", counted)
    test = tried(planted.model(), planted.data, Idle(), eps=0.04)
    assert test.planted == 2 * PLANTED and sum(asked) == PLANTED * PASSES


@given(st.integers(0, 2**32 - 1), st.sampled_from(["linf", "l2"]), st.integers(0, 1))
@settings(max_examples=15, deadline=None)
def test_differences_lead_where_a_linear_margin_falls(seed: int, norm: str, label: int) -> None:
    """To a corner of the cube, and to the border of the ball; nearly the way that falls most.

    Of 32 pairs of points in three dimensions the way is known to some 20 degrees, which is not
    always enough for the sign of the smallest slope.
    """
    rng, depth, eps = np.random.default_rng(seed), 3, 0.2
    weight = rng.uniform(0.5, 2, (depth, 2)) * rng.choice([-1, 1], (depth, 1)) * [1, -1]
    target = target_of(linear_classifier(weight.astype(np.float32), np.zeros(2, np.float32)))
    threat = threat_of(target, norm, eps, box=None)
    x = rng.random((1, depth), np.float32)
    sample = Samples(x, np.array([label]), np.array([seed % 1000]))
    found = planting._led_to(target, sample, threat, seed % 7)
    slope = weight[:, label] - weight[:, 1 - label]
    moved = (found - x)[0]
    if norm == "linf":
        np.testing.assert_allclose(np.abs(moved), eps, rtol=1e-4)
        assert moved @ slope < -0.5 * eps * np.abs(slope).sum()
        return
    assert np.linalg.norm(moved) == pytest.approx(eps, rel=1e-4)
    assert moved @ slope < -0.75 * eps * np.linalg.norm(slope)


def test_where_no_difference_leads_the_point_is_any_on_the_border() -> None:
    target = target_of(linear_classifier(np.zeros((3, 2), np.float32), np.ones(2, np.float32)))
    threat = threat_of(target, "linf", 0.2, box=None)
    x = np.full((1, 3), 0.5, np.float32)
    found = planting._led_to(target, Samples(x, np.array([0]), np.array([4])), threat, 0)
    np.testing.assert_allclose(np.abs(found - x), 0.2, rtol=1e-4)


@pytest.mark.parametrize("wrong", [0, 3, INSIDE, INSIDE + 1])
def test_what_the_edited_graph_does_not_bear_out_is_not_planted(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, wrong: int
) -> None:
    """Of a sample, points inside and one on the border, each must be answered as it should."""
    correct = Target.correct

    def mistaken(self: Target, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        right = correct(self, x, y)
        if len(x) == INSIDE + 2:
            right[wrong] ^= True
        return right

    monkeypatch.setattr(Target, "correct", mistaken)
    test = tried(planted.model(), planted.data)
    assert test.planted == 0 and test.obstacle


@pytest.mark.parametrize(
    ("planted_points", "found", "expected"),
    [(8, 8, None), (8, 7, None), (8, 6, 0.25), (4, 3, None), (4, 2, 0.5), (60, 57, None)],
)
def test_a_single_one_is_luck(planted_points: int, found: int, expected: float | None) -> None:
    warning = planted_missed(PlantedTest(("apgd",), planted_points, found))
    assert (warning and warning.value) == expected
