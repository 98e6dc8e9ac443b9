"""Mixed samples lie between two samples of their set, nearer to their own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cloakify.masking.course import Course
from cloakify.masking.mixing import Mixtures, mixed
from cloakify.masking.tuning_plan import TuningPlan


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 2**32))
def test_a_mixture_is_between_its_sample_and_another(count: int, times: int, seed: int) -> None:
    mixtures = Mixtures.draw([np.arange(count)], times, seed)
    # Corners of a simplex: the shares can be read off the mixture itself.
    x = np.eye(count, dtype=np.float32).reshape(count, 1, count)
    for partner, share in zip(mixtures.partner, mixtures.share, strict=True):
        found = mixed(x, x[partner], share)
        shares = found.reshape(count, count)
        assert found.dtype == np.float32 and sorted(partner) == list(range(count))
        assert (shares >= 0).all()
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)
        assert ((shares > 0).sum(axis=1) <= 2).all()
        assert (np.diagonal(shares) >= 0.5).all()


@given(st.data(), st.integers(1, 20), st.integers(1, 3), st.integers(0, 2**32))
def test_what_is_held_out_from_a_set_is_in_none_of_its_mixtures(
    data: st.DataObject, count: int, times: int, seed: int
) -> None:
    """Sets may overlap: a whole with its halves, and what is in all of them."""
    every = st.integers(0, count - 1)
    folds = [np.array(sorted(data.draw(st.sets(every, min_size=1)))) for _ in range(3)]
    mixtures = Mixtures.draw(folds, times, seed)
    assert list(mixtures.samples) == sorted(set().union(*map(set, map(np.ndarray.tolist, folds))))
    assert mixtures.partner.shape == mixtures.share.shape == (times, len(mixtures.samples))
    for fold in folds:
        held = mixtures.partner[:, np.isin(mixtures.samples, fold)]
        assert np.isin(held, fold).all()


@given(st.integers(3, 40), st.integers(1, 3), st.integers(0, 4), st.integers(0, 3))
def test_a_draw_is_the_same_whenever_and_in_whatever_parts(
    samples: int, folds: int, step: int, count: int
) -> None:
    """A fold of few samples comes round within one batch."""
    plan = TuningPlan(steps=5, max_accuracy_drop=0.01, batch_size=8, mixtures=count, seed=3)
    dealt = [100 + np.arange(samples)[place::folds] for place in range(folds)]
    fold = 0 if folds == 1 else [0, 0, 1, 0, folds - 1][step]
    course = Course(dealt, plan)
    draw, again = (each.draw(step) for each in (course, Course(dealt, plan)))
    x = np.random.default_rng(0).random((200, 2, 3)).astype(np.float32)
    whole = draw.inputs(x[draw.samples])
    np.testing.assert_array_equal(whole, again.inputs(x[again.samples]))
    assert len(draw) == len(whole) == 8 and np.isin(draw.index, dealt[fold]).all()
    for rows in (np.arange(8)[1::3], np.arange(5, 8)):
        part = draw.at(rows)
        np.testing.assert_array_equal(part.inputs(x[part.samples]), whole[rows])
    # All that can be drawn is known before.
    every = [each.inputs(x[each.samples]) for each in course.every()]
    number = np.zeros(8, np.int64) if draw.mixture is None else draw.mixture
    places = np.searchsorted(course.samples, draw.index)
    np.testing.assert_array_equal(whole, np.stack(every)[number, places])
    if not count:
        np.testing.assert_array_equal(whole, x[draw.index])
    else:
        assert draw.partner is not None and np.isin(draw.partner, dealt[fold]).all()


def test_a_sample_is_mixed_otherwise_each_time_it_comes_round() -> None:
    plan = TuningPlan(steps=20, max_accuracy_drop=0.01, batch_size=8, mixtures=4, seed=3)
    course = Course([np.arange(11)], plan)
    draws = [course.draw(step) for step in range(20)]
    index = np.concatenate([draw.index for draw in draws])
    shares = np.concatenate([draw.share for draw in draws if draw.share is not None])
    for sample in range(11):
        seen = shares[index == sample]
        assert len(set(seen[:4])) == 4
        np.testing.assert_array_equal(seen[4:], seen[: len(seen) - 4])
