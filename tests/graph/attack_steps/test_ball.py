"""Ball, box and gradients that are no numbers, in the graph, against NumPy in double."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloakify.graph.attack_steps.steps import LARGEST, Ball, Outputs, add_step, finite
from cloakify.graph.gradient.builder import Builder

SHAPE = (4, 3, 2, 2)
FACTORS = np.array([0.5, 2.0, 4.0], np.float32).reshape(1, 3, 1, 1)


def in_graph(write, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return what a function of builder and x appends, as ONNX Runtime computes it."""
    x = gs.Variable("x", np.float32, list(SHAPE))
    graph = gs.Graph(inputs=[x], opset=21, ir_version=10)
    builder = Builder(graph)
    for name, tensor in write(builder, x):
        shape = list(SHAPE)
        graph.nodes.append(gs.Node("Identity", name, {}, [tensor], [gs.Variable(name, np.float32)]))
        graph.nodes[-1].outputs[0].shape = shape
        graph.outputs.append(graph.nodes[-1].outputs[0])
    session = ort.InferenceSession(gs.export_onnx(graph).SerializeToString())
    return session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})


def bounds(eps: float, low: float = -np.inf, high: float = np.inf) -> dict[str, np.ndarray]:
    return {
        "cloakify_eps": np.array(eps, np.float32),
        "cloakify_factor": FACTORS,
        "cloakify_lower": np.full((1, 3, 1, 1), low, np.float32),
        "cloakify_upper": np.full((1, 3, 1, 1), high, np.float32),
    }


def projected(norm: str, x: np.ndarray, clean: np.ndarray, limits) -> np.ndarray:
    def write(builder: Builder, tensor: gs.Tensor) -> Outputs:
        return [("moved", Ball(builder, norm, tensor).project(tensor))]

    return in_graph(write, {"x": x, "cloakify_clean": clean, **limits})[0]


def lengths(norm: str, offset: np.ndarray) -> np.ndarray:
    """Return each sample's distance in data units."""
    flat = (offset.astype(np.float64) / FACTORS).reshape(len(offset), -1)
    return np.abs(flat).max(axis=1) if norm == "linf" else np.linalg.norm(flat, axis=1)


def moved_by(norm: str, shares: list[float], eps: float, random: np.random.Generator):
    """Return offsets of SHAPE that are ``share · eps`` long, a share a sample."""
    offset = random.standard_normal(SHAPE)
    scale = np.array(shares) * eps / lengths(norm, offset)
    return (offset * scale.reshape(-1, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(
    shares=st.lists(st.sampled_from([0.0, 0.01, 0.5, 0.9, 1.5, 20.0]), min_size=4, max_size=4),
    eps=st.floats(0.01, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_the_nearest_point_of_the_ball(norm, shares, eps, seed) -> None:
    """What is inside stays where it is; what is outside comes to the surface, no further."""
    random = np.random.default_rng(seed)
    clean = random.standard_normal(SHAPE).astype(np.float32)
    offset = moved_by(norm, shares, eps, random)
    found = projected(norm, clean + offset, clean, bounds(eps))
    for share, own, moved in zip(shares, offset, found - clean, strict=True):
        if share <= 1:
            np.testing.assert_allclose(moved, own, rtol=1e-5, atol=1e-5)
        elif norm == "l2":
            np.testing.assert_allclose(moved, own / share, rtol=1e-4, atol=1e-5)
        else:
            radius = eps * np.broadcast_to(FACTORS[0], own.shape)
            np.testing.assert_allclose(moved, np.clip(own, -radius, radius), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(eps=st.floats(0.01, 3), seed=st.integers(0, 99), push=st.sampled_from([0.1, 1.0, 100.0]))
@settings(max_examples=20, deadline=None)
def test_never_outside(norm, eps, seed, push) -> None:
    random = np.random.default_rng(seed)
    clean = random.uniform(-1, 1, SHAPE).astype(np.float32)
    x = clean + (push * random.standard_normal(SHAPE)).astype(np.float32)
    found = projected(norm, x, clean, bounds(eps, -1, 1))
    assert (np.abs(found) <= 1).all()
    assert (lengths(norm, found - clean) <= eps * (1 + 1e-5) + 1e-6).all()


@given(
    seed=st.integers(0, 999),
    bad=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -3e30, 0.0]), max_size=12),
)
@settings(max_examples=30, deadline=None)
def test_a_gradient_that_is_no_number(seed, bad) -> None:
    """NaN is 0, and what is infinite as large as the sample's largest, each with its sign."""
    random = np.random.default_rng(seed)
    gradient = random.standard_normal(SHAPE).astype(np.float32)
    gradient.reshape(-1)[random.permutation(gradient.size)[: len(bad)]] = bad
    (found,) = in_graph(lambda builder, x: [("y", finite(builder, x))], {"x": gradient})
    np.testing.assert_array_equal(found, numbers(gradient))


def numbers(gradient: np.ndarray) -> np.ndarray:
    """What NaN and infinite entries are taken for, sample by sample."""
    found = gradient.copy()
    for row in found:
        finite = np.abs(row) <= LARGEST
        largest = np.abs(row[finite]).max(initial=0.0) or 1.0
        row[~finite] = np.nan_to_num(np.sign(row[~finite])) * largest
    return found


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_what_would_leave_the_box_has_no_share_in_a_step(seed) -> None:
    """The step of an l2 attack has its whole length among values that can move."""
    random = np.random.default_rng(seed)
    clean = random.choice([-1.0, 0.0, 1.0], SHAPE).astype(np.float32)
    gradient = random.standard_normal(SHAPE).astype(np.float32)
    stuck = (clean == -1) & (gradient < 0) | (clean == 1) & (gradient > 0)
    gradient[stuck] *= 1e12
    slopes = gs.Variable("slopes", np.float32, list(SHAPE))

    def write(builder: Builder, x: gs.Tensor) -> Outputs:
        builder.graph.inputs.append(slopes)
        return add_step(builder, "l2", x, slopes)

    size = 0.1
    feeds = {"x": clean, "cloakify_clean": clean, "slopes": gradient, **bounds(2.0, -1, 1)}
    (found,) = in_graph(write, {**feeds, "cloakify_step_size": np.array(size, np.float32)})
    free = np.where(stuck, 0, gradient.astype(np.float64)) * FACTORS
    moved = clean + size * FACTORS * free / lengths("l2", free * FACTORS).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found, moved.clip(-1, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@given(
    seed=st.integers(0, 999),
    bad=st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 1e38, 1e-38]), min_size=1, max_size=12),
)
@settings(max_examples=20, deadline=None)
def test_a_step_along_it_is_a_point_of_the_ball(norm, seed, bad) -> None:
    """An infinite slope is a direction like any other."""
    random = np.random.default_rng(seed)
    clean = random.standard_normal(SHAPE).astype(np.float32)
    gradient = random.standard_normal(SHAPE).astype(np.float32)
    gradient.reshape(-1)[random.permutation(gradient.size)[: len(bad)]] = bad
    slopes = gs.Variable("slopes", np.float32, list(SHAPE))

    def write(builder: Builder, x: gs.Tensor) -> Outputs:
        builder.graph.inputs.append(slopes)
        return add_step(builder, norm, x, finite(builder, slopes))

    size, eps = 0.5, 2.0
    feeds = {"x": clean, "cloakify_clean": clean, "slopes": gradient, **bounds(eps)}
    (found,) = in_graph(write, {**feeds, "cloakify_step_size": np.array(size, np.float32)})
    slope = numbers(gradient.astype(np.float64)) * FACTORS
    if norm == "linf":
        direction = np.sign(slope)
    else:
        direction = slope / np.linalg.norm(slope.reshape(4, -1), axis=1).reshape(4, 1, 1, 1)
    np.testing.assert_allclose(found, clean + size * direction * FACTORS, rtol=1e-4, atol=1e-5)
