"""Gradient rules of operators that write elements to positions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tests.support.gradcheck import gradient_model
from tests.support.onnxtext import attributes, one_node, unknown
from tests.support.ortcheck import check_both

ELEMENTS = "double[?, ?] x, int64[?, ?] i, double[?, ?] u"
REDUCTIONS = ["add", "mul", "max", "min"]


@pytest.mark.parametrize("reduction", [None, "none"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_elements_overwrites(reduction: str | None, axis: int) -> None:
    rng = np.random.default_rng(0)
    # No index twice: which of the updates is kept is then undefined.
    places = np.stack([rng.permutation(3) for _ in range(3)], axis=1 - axis % 2)
    feeds = {"x": rng.standard_normal((3, 3)), "i": places, "u": rng.standard_normal((3, 3))}
    call = f"y = ScatterElements{attributes(axis=axis, reduction=reduction)}(x, i, u)"
    check_both(one_node(call, ELEMENTS), feeds)


@given(
    st.sampled_from(REDUCTIONS),
    st.integers(-2, 1),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.data(),
)
@settings(max_examples=30, deadline=None)
def test_scatter_elements_joins(
    reduction: str, axis: int, shape: tuple[int, int], data: st.DataObject
) -> None:
    rows, columns = (
        data.draw(st.integers(1, size + (place == axis % 2))) for place, size in enumerate(shape)
    )
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    size = shape[axis]
    feeds = {
        "x": rng.standard_normal(shape),
        "i": rng.integers(-size, size, (rows, columns)),
        "u": rng.standard_normal((rows, columns)),
    }
    call = f"y = ScatterElements{attributes(axis=axis, reduction=reduction)}(x, i, u)"
    check_both(one_node(call, ELEMENTS), feeds)


def nd(reduction: str | None, rank: int, tuples: int, updates: int) -> str:
    return one_node(
        f"y = ScatterND{attributes(reduction=reduction)}(x, i, u)",
        f"{unknown('double', rank)} x, {unknown('int64', tuples)} i, "
        f"{unknown('double', updates)} u",
    )


@pytest.mark.parametrize("reduction", [None, "none"])
def test_scatter_nd_overwrites(reduction: str | None) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((3, 4, 2)),
        "i": np.array([[0, 1], [2, 3], [1, 1]]),
        "u": rng.standard_normal((3, 2)),
    }
    check_both(nd(reduction, 3, 2, 2), feeds)


@given(st.sampled_from(REDUCTIONS), st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_scatter_nd_joins(reduction: str, depth: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, 2))
    feeds = {
        "x": x,
        "i": rng.integers(0, x.shape[:depth], (count, depth)),
        "u": rng.standard_normal((count, *x.shape[depth:])),
    }
    check_both(nd(reduction, 3, 2, 1 + 3 - depth), feeds)


@pytest.mark.parametrize("zeros", [(), ("x",), ("u",), ("x", "u"), ("u", "u")])
def test_products_with_zeros(zeros: tuple[str, ...]) -> None:
    """A product's derivative is that of the other factors, some of which may be 0."""
    feeds = {"x": np.array([2.0, -3.0]), "i": np.array([[0], [0]]), "u": np.array([0.5, 4.0])}
    for place, name in enumerate(zeros):
        feeds[name][place if name == "u" else 0] = 0.0
    check_both(nd("mul", 1, 2, 1), feeds)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([("max", "amax"), ("min", "amin"), ("mul", "prod"), ("add", "sum")]),
    st.integers(0, 1),
    st.integers(0, 999),
)
def test_as_torch_with_ties_and_zeros(names: tuple[str, str], axis: int, seed: int) -> None:
    """Few different values: ties, which torch shares out evenly, and several factors of 0."""
    torch = pytest.importorskip("torch", reason="torch is the oracle here")
    rng = np.random.default_rng(seed)
    feeds = {
        "x": rng.integers(-1, 2, (3, 4)).astype(float),
        "i": rng.integers(0, 3, (3, 4)),
        "u": rng.integers(-1, 2, (3, 4)).astype(float),
    }
    call = f"y = ScatterElements{attributes(axis=axis, reduction=names[0])}(x, i, u)"
    model = onnx.parser.parse_model(one_node(call, ELEMENTS))
    shapes = {name: value.shape for name, value in feeds.items()}
    gradient = gradient_model(model, shapes, ["x", "u"])
    seed_y = rng.standard_normal((3, 4))
    found = ReferenceEvaluator(gradient).run(None, {**feeds, "seed_y": seed_y})
    x, u = (torch.tensor(feeds[name], requires_grad=True) for name in "xu")
    y = x.scatter_reduce(axis, torch.tensor(feeds["i"]), u, names[1])
    (y * torch.tensor(seed_y)).sum().backward()
    for value, expected in zip(found, (x.grad, u.grad), strict=True):
        np.testing.assert_allclose(value, expected.numpy(), atol=1e-12)
