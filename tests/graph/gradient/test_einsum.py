"""Gradient rule of Einsum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.onnxtext import one_node, unknown
from tests.support.ortcheck import check_both

SIZES = dict(zip("ijklbhqd", (2, 3, 4, 5, 2, 3, 2, 4), strict=True))


def check(equation: str, *shapes: tuple[int, ...]) -> None:
    names = "abc"[: len(shapes)]
    rng = np.random.default_rng(0)
    inputs = ", ".join(
        f"{unknown('double', len(s))} {n}" for n, s in zip(names, shapes, strict=True)
    )
    text = one_node(f'y = Einsum<equation = "{equation}">({", ".join(names)})', inputs)
    feeds = {n: np.asarray(rng.standard_normal(s)) for n, s in zip(names, shapes, strict=True)}
    check_both(text, feeds)


def shapes_of(equation: str) -> list[tuple[int, ...]]:
    left = equation.partition("->")[0].replace(" ", "")
    return [tuple(SIZES[index] for index in term) for term in left.split(",")]


@pytest.mark.parametrize(
    "equation",
    [
        "ij,jk->ik",
        "ij,jk",
        "ij->ji",
        "ij->i",
        "ij->",
        "i,j->ij",
        "i,i->",
        "ij,ij->ij",
        "bhqd,bhkd->bhqk",
        "bhqk,bhkd->bqhd",
        "ij,kl->i",
        "ij,jk,kl->il",
        "ij , jk -> k i",
        "ba",
    ],
)
def test_equations(equation: str) -> None:
    check(equation, *shapes_of(equation.replace("ba", "ji")))


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
        ("...ij,jk->...ik", [(2, 3, 3, 4), (4, 5)]),
        ("...ij,...jk->...ik", [(2, 1, 3, 4), (1, 3, 4, 5)]),
        ("...ij,...jk", [(2, 3, 4), (2, 4, 5)]),
        ("...i->...", [(2, 3, 4)]),
        ("b...,b->...", [(2, 3, 4), (2,)]),
    ],
)
def test_ellipsis(equation: str, shapes: list[tuple[int, ...]]) -> None:
    check(equation, *shapes)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.permutations("ijkl"), min_size=1, max_size=3),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.permutations("ijkl"),
    st.integers(0, 4),
)
def test_generated(terms: list[list[str]], ranks: list[int], order: list[str], kept: int) -> None:
    inputs = ["".join(term[:rank]) for term, rank in zip(terms, ranks, strict=False)]
    output = "".join([index for index in order if any(index in term for term in inputs)][:kept])
    equation = f"{','.join(inputs)}->{output}"
    check(equation, *shapes_of(equation))


@pytest.mark.parametrize(
    "equation",
    [
        "ii->i",
        "ii",
        "ii->",
        "bkii->bki",
        "iji->j",
        "iii->i",
        "bii,bi->b",
        "ii,ij,jj->j",
        "iijj->ij",
    ],
)
def test_diagonals(equation: str) -> None:
    check(equation, *shapes_of(equation))
