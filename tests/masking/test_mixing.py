"""Mixed samples lie between two samples of the batch, nearer to their own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.masking.course import Course
from cloakify.masking.mixing import draw_mixtures, mixed
from cloakify.masking.tuning_plan import TuningPlan


@given(st.integers(1, 12), st.integers(0, 2**32))
def test_a_mixture_is_between_its_sample_and_another(count: int, seed: int) -> None:
    # Corners of a simplex: the shares can be read off the mixture itself.
    x = np.eye(count, dtype=np.float32).reshape(count, 1, count)
    partner, share = draw_mixtures(count, np.random.default_rng(seed))
    found = mixed(x, x[partner], share)
    shares = found.reshape(count, count)
    assert found.dtype == np.float32 and sorted(partner) == list(range(count))
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
    assert ((shares > 0).sum(axis=1) <= 2).all()
    assert (np.diagonal(shares) >= 0.5).all()


@given(st.integers(3, 40), st.integers(1, 3), st.integers(0, 5), st.booleans())
def test_a_draw_is_the_same_whenever_and_in_whatever_parts(
    samples: int, folds: int, step: int, mix: bool
) -> None:
    """A fold of few samples comes round within one batch."""
    plan = TuningPlan(steps=6, batch_size=8, mix=mix, seed=3)
    dealt = [100 + np.arange(samples)[place::folds] for place in range(folds)]
    fold = 0 if step % 2 == 0 or folds == 1 else [1, folds - 1, 1][step // 2]
    draw, again = (Course(dealt, plan).draw(step) for _ in range(2))
    x = np.random.default_rng(0).random((200, 2, 3)).astype(np.float32)
    whole = draw.inputs(x[draw.samples])
    np.testing.assert_array_equal(whole, again.inputs(x[again.samples]))
    assert len(draw) == len(whole) == 8 and np.isin(draw.index, dealt[fold]).all()
    for rows in (np.arange(8)[1::3], np.arange(5, 8)):
        part = draw.at(rows)
        np.testing.assert_array_equal(part.inputs(x[part.samples]), whole[rows])
    if not mix:
        np.testing.assert_array_equal(whole, x[draw.index])
    elif draw.partner is not None:
        assert sorted(draw.partner) == sorted(draw.index)
