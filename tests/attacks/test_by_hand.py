"""Whole attacks against their algorithms written out in double, one sample after the other."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloakify.attacks import Apgd, FabT, Pgd, Square, Target, ThreatModel
from cloakify.attacks import square_moves as moves
from cloakify.attacks.base import sample_generator
from cloakify.attacks.starts import random_in_ball, random_on_sphere
from cloakify.data import Preprocessing
from tests.support.classifiers import mlp_classifier, target_of, threat_of

NUMBERS = target_of(mlp_classifier(3, features=6, classes=4), batch_size=4)
PREPARED = Preprocessing(2.0, (0.4, 0.6), (0.5, 0.25))
norms = pytest.mark.parametrize("norm", ["linf", "l2"])


def images() -> Target:
    """Two channels of 5 × 6 pixels, a bend, three classes."""
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 2, 5, 6] x) => (float[N, 3] logits)
        { flat = Flatten (x)  a = MatMul (flat, w)  h = Tanh (a)  logits = MatMul (h, v) }"""
    )
    for name, shape, size in (("w", (60, 8), 0.1), ("v", (8, 3), 1)):
        values = (size * rng.standard_normal(shape)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return target_of(model, batch_size=4)


IMAGES = images()


def drawn(target: Target, rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """Samples within the box, the model's answers to most of them, and what they are called."""
    shape = tuple(size or 1 for size in target.spec.shape[1:])
    x = rng.random((count, *shape), np.float32)
    if len(shape) == 3:
        x = PREPARED.to_model(x, 1)
    y = target.logits(x).argmax(axis=1)
    return x, y, rng.permutation(100)[:count]


def budget(target: Target, norm: str, eps: float) -> ThreatModel:
    return threat_of(target, norm, eps, preprocessing=PREPARED if target is IMAGES else None)


def lead(target: Target, x: np.ndarray, label: int) -> float:
    """By how much the label's logit is above the others; negative where the answer is wrong."""
    logits = target.logits(x[None].astype(np.float32))[0]
    return float(logits[label] - np.delete(logits, label).max())


def is_right(target: Target, x: np.ndarray, label: int) -> bool:
    return lead(target, x, label) > 0


def to_plane(
    normal: np.ndarray, rise: float, low: np.ndarray, high: np.ndarray, norm: str
) -> np.ndarray:
    """The shortest move within bounds that rises so much, or all that can be: by halving."""
    room = np.where((normal > 0) == (rise > 0), high, -low)
    pace = np.where(normal == 0, 0, 1 if norm == "linf" else np.abs(normal))

    def move(length: float) -> np.ndarray:
        size = np.minimum(length * pace, np.where(normal == 0, 0, room))
        return size * np.sign(normal) * np.sign(rise)

    below, above = 0.0, 1e6
    for _ in range(100):
        middle = (below + above) / 2
        if np.abs(move(middle) @ normal) < abs(rise):
            below = middle
        else:
            above = middle
    return move(above)


def plain_fab(
    target: Target,
    x: np.ndarray,
    label: int,
    threat: ThreatModel,
    steps: int,
    num_targets: int,
    enough: float,
) -> np.ndarray | None:
    """Algorithm 1 of arXiv 1907.02044, towards the classes of the largest logits in turn.

    None where rounding decides on which side of the boundary a point lies, or which is nearer.
    """
    order = -np.inf if threat.norm == "l1" else (np.inf if threat.norm == "linf" else 2)
    factor = np.broadcast_to(threat.factor[0], x.shape).astype(np.float64)
    low, high = (((bound[0] - x) / factor).ravel() for bound in (threat.lower, threat.upper))
    logits = target.logits(x[None])[0]
    others = sorted((k for k in range(len(logits)) if k != label), key=lambda k: -logits[k])
    best, distance = x, np.inf
    for towards in others[:num_targets]:
        here = np.zeros(x.size)
        for _ in range(steps):
            at = (x + here.reshape(x.shape) * factor).astype(np.float32)[None]
            seen = target.evaluate(at, np.array([label]), "targeted-margin", np.array([towards]))
            slope = (seen.gradient[0] * factor).ravel().astype(np.float64)
            missing = -float(seen.loss[0])
            first = to_plane(slope, missing, low - here, high - here, threat.norm)
            second = to_plane(slope, missing + slope @ here, low, high, threat.norm)
            near, far = (np.linalg.norm(each, order) for each in (first, second))
            alpha = min(near / (near + far), 0.1)
            here = (1 - alpha) * (here + 1.05 * first) + alpha * 1.05 * second
            here = np.clip(here, low, high)
            point = x + here.reshape(x.shape) * factor
            ahead = lead(target, point, label)
            if abs(ahead) < 1e-5:
                return None
            if ahead < 0:
                length = np.linalg.norm(here, order)
                if abs(length - distance) < 1e-6:
                    return None
                if length < distance:
                    best, distance = point, length
                here = 0.9 * here
                if distance <= enough:
                    return best
    return best


@norms
@pytest.mark.parametrize("target", [NUMBERS, IMAGES], ids=["numbers", "images"])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 6),
    num_targets=st.integers(1, 3),
    early=st.booleans(),
)
def test_fab(
    target: Target, norm: str, seed: int, steps: int, num_targets: int, early: bool
) -> None:
    """More samples than a batch holds, so that some start where others are done."""
    x, y, index = drawn(target, np.random.default_rng(seed), 7)
    y[0] = (y[0] + 1) % 3
    threat = budget(target, norm, 0.1)
    attack = FabT(steps=steps, num_targets=num_targets, stop_early=early)
    found = attack.nearest(target, x, y, threat)
    np.testing.assert_array_equal(found[0], x[0])
    for row in range(1, 7):
        enough = 0.1 if early else 0.0
        expected = plain_fab(target, x[row], int(y[row]), threat, steps, num_targets, enough)
        if expected is not None:
            np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-4)
    moved = attack.run(target, x, y, index, threat)
    np.testing.assert_array_equal(moved, threat.project(found, x))


def plain_square(
    target: Target,
    x: np.ndarray,
    label: int,
    threat: ThreatModel,
    generator: np.random.Generator,
    queries: int,
) -> tuple[np.ndarray, int]:
    """Algorithm 1 of arXiv 1912.00049 with one sample's own draws; returns queries, too."""
    shape = x.shape if x.ndim == 3 else (1, 1, x.size)
    bounds = (threat.factor, threat.lower, threat.upper)
    factor, lower, upper = (np.broadcast_to(each[0], x.shape).reshape(shape) for each in bounds)
    channels, _, width = shape
    linf = threat.norm == "linf"
    first = generator.random(channels * width if linf else 25 * (channels + 1), np.float32)
    draws = generator.random((queries, moves.draws_per_query(threat.norm, channels)), np.float32)
    if linf:
        delta = moves.initial_linf(first.reshape(1, channels, 1, width), threat.eps)
    else:
        delta = moves.initial_l2(first[None], shape, threat.eps)
    clean = x.reshape(shape)
    best, lowest = clean, np.inf
    for query in range(queries):
        if query:
            propose = moves.propose_linf if linf else moves.propose_l2
            number = np.array([query - 1])
            share = moves.share(0.8, number)
            before = ((best - clean) / factor).astype(np.float32)[None]
            delta = propose(before, draws[number], share, threat.eps)
        candidate = np.clip(clean + delta[0] * factor, lower, upper).astype(np.float32)
        logits = target.logits(candidate.reshape(1, *x.shape))[0]
        margin = logits[label] - np.delete(logits, label).max()
        if margin < lowest or logits.argmax() != label:
            best, lowest = candidate, margin
        if logits.argmax() != label:
            return best.reshape(x.shape), query + 1
    return best.reshape(x.shape), queries


@norms
@pytest.mark.parametrize("target", [NUMBERS, IMAGES], ids=["numbers", "images"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), queries=st.integers(1, 40), eps=st.sampled_from([0.02, 0.2]))
def test_square(target: Target, norm: str, seed: int, queries: int, eps: float) -> None:
    """Samples that are done make room for others, whose draws are their own."""
    x, y, index = drawn(target, np.random.default_rng(seed), 9)
    y[4] = (y[4] + 1) % 3
    threat = budget(target, norm, eps)
    found = Square(queries=queries, seed=seed).run(target, x, y, index, threat)
    for row in set(range(9)) - {4}:
        generator = sample_generator(seed, int(index[row]))
        expected, _ = plain_square(target, x[row], int(y[row]), threat, generator, queries)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[4], x[4])


def plain_pgd(
    target: Target,
    x: np.ndarray,
    label: int,
    start: np.ndarray,
    threat: ThreatModel,
    steps: int,
    size: float,
    early: bool,
) -> tuple[np.ndarray, bool]:
    """One start of PGD; returns where it ends, and whether an iterate before fooled the model."""
    at = start[None]
    ever = False
    for _ in range(steps):
        ever = ever or not is_right(target, at[0], label)
        if ever and early:
            break
        slope = target.evaluate(at, np.array([label])).gradient * threat.factor
        if threat.norm == "linf":
            way = np.sign(slope)
        else:
            leaving = (at <= threat.lower) & (slope < 0) | (at >= threat.upper) & (slope > 0)
            way = np.where(leaving, 0, slope)
            way = way / np.linalg.norm(way)
        at = threat.project((at + size * way * threat.factor).astype(np.float32), x[None])
    return at[0], ever


@norms
@pytest.mark.parametrize("target", [NUMBERS, IMAGES], ids=["numbers", "images"])
@pytest.mark.parametrize("random_start", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 5),
    restarts=st.integers(1, 3),
    size=st.sampled_from([None, 0.04]),
    early=st.booleans(),
)
def test_pgd_starts_anew_until_it_has_fooled_the_model(
    target: Target,
    norm: str,
    random_start: bool,
    seed: int,
    steps: int,
    restarts: int,
    size: float | None,
    early: bool,
) -> None:
    x, y, index = drawn(target, np.random.default_rng(seed), 7)
    eps = 0.1
    threat = budget(target, norm, eps)
    attack = Pgd(
        steps=steps,
        step_size=size,
        restarts=restarts,
        random_start=random_start,
        stop_early=early,
        seed=seed,
    )
    found = attack.run(target, x, y, index, threat)
    step = 2.5 * eps / steps if size is None else size
    for row in range(7):
        label = int(y[row])
        for number in range(restarts):
            start = x[row]
            if random_start:
                at = (x[row : row + 1], index[row : row + 1], [number], threat, seed)
                (start,) = random_in_ball(*at)
            end, ever = plain_pgd(target, x[row], label, start, threat, steps, step, early)
            if ever or not is_right(target, end, label):
                break
        np.testing.assert_allclose(found[row], end, rtol=1e-4, atol=1e-4)


@norms
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), restarts=st.integers(1, 3), given_start=st.booleans())
def test_of_several_starts_of_apgd_the_highest_or_the_first_that_fools(
    norm: str, seed: int, restarts: int, given_start: bool
) -> None:
    """Each alone, from where it begins: what is given, and else points drawn for its number."""
    rng = np.random.default_rng(seed)
    x, y, index = drawn(NUMBERS, rng, 7)
    threat = budget(NUMBERS, norm, 0.1)
    begins = [random_on_sphere(x, index, [number] * 7, threat, seed) for number in range(restarts)]
    if given_start:
        begins[0] = random_in_ball(x, index, [99] * 7, threat, seed)
    for early in (False, True):
        several = Apgd(steps=6, restarts=restarts, stop_early=early, seed=seed)
        single = Apgd(steps=6, stop_early=early, seed=seed)
        if given_start:
            found = several.resume(NUMBERS, x, y, index, threat, begins[0].copy())
        else:
            found = several.run(NUMBERS, x, y, index, threat)
        ends = [single.resume(NUMBERS, x, y, index, threat, each.copy()) for each in begins]
        losses = np.stack([NUMBERS.evaluate(end, y).loss for end in ends])
        # Which of two ends is higher that are equally high, rounding decides.
        highest = np.sort(losses, axis=0)[-2:]
        assume((np.ptp(highest, axis=0) > 1e-6).all() or restarts == 1)
        wrong = np.stack([~NUMBERS.correct(end, y) for end in ends])
        chosen = losses.argmax(axis=0)
        if early:
            chosen = np.where(wrong.any(axis=0), wrong.argmax(axis=0), chosen)
        expected = np.stack(ends)[chosen, np.arange(7)]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
