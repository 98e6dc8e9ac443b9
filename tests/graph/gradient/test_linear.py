"""Gradient rules of products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gradcheck import check_gradient


@given(st.booleans(), st.booleans(), st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
def test_gemm(trans_a: bool, trans_b: bool, alpha: float, beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))
    check_gradient(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (double[?, ?] a, double[?, ?] b, double[5] c) => (double[3, 5] y) {{
            y = Gemm<alpha: float = {alpha:.4f}, beta: float = {beta:.4f},
                     transA: int = {int(trans_a)}, transB: int = {int(trans_b)}>(a, b, c)
        }}""",
        {"a": a.T if trans_a else a, "b": b.T if trans_b else b, "c": rng.standard_normal(5)},
    )


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)),
        ((4,), (4, 5)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((4,), (2, 4, 5)),
    ],
)
def test_matmul(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    shapes = [", ".join("?" * len(shape)) for shape in (a, b)]
    check_gradient(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        f (double[{shapes[0]}] a, double[{shapes[1]}] b) => (double y) {{ y = MatMul(a, b) }}""",
        {"a": rng.standard_normal(a), "b": rng.standard_normal(b)},
    )
