"""Square attack's proposals: windows, budgets, schedule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import square_moves as moves

shapes = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))


def test_schedule_is_autoattacks():
    query = np.array([0, 10, 11, 50, 51, 200, 201, 500, 501, 1000, 1001, 2000, 2001, 4001, 8001])
    halvings = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 9]
    np.testing.assert_array_equal(moves.share(0.8, query), 0.8 / 2 ** np.array(halvings))


@given(shapes, st.floats(0.001, 0.9), st.integers(0, 1000))
def test_linf_sets_one_window_to_the_budget(shape, p, seed):
    rng = np.random.default_rng(seed)
    delta = rng.uniform(-0.5, 0.5, (3, *shape)).astype(np.float32)
    draws = rng.random((3, moves.draws_per_query("linf", shape[0])), np.float32)
    found = moves.propose_linf(delta, draws, np.full(3, p), 2.0)
    changed = np.abs(found) == 2
    assert (found[~changed] == delta[~changed]).all()
    for window, values in zip(changed, found, strict=True):
        rows, columns = (np.flatnonzero(window[0].any(axis=axis)) for axis in (1, 0))
        # One solid rectangle, the same in every channel, of one sign in each.
        assert window.all(axis=0).sum() == len(rows) * len(columns) == window[0].sum() > 0
        assert np.ptp(rows) + 1 == len(rows) and np.ptp(columns) + 1 == len(columns)
        assert all(len(set(values[c][window[c]])) == 1 for c in range(shape[0]))


def test_windows_lie_everywhere():
    """Algorithm 2 draws rows and columns from the first to the last at which a window fits."""
    rng = np.random.default_rng(0)
    delta = np.zeros((400, 1, 6, 5), np.float32)
    draws = rng.random((400, moves.draws_per_query("linf", 1)), np.float32)
    found = np.abs(moves.propose_linf(delta, draws, np.full(400, 4 / 30), 2.0))[:, 0] == 2
    assert {int(each.sum()) for each in found} == {4}
    corners = {(int(each.any(1).argmax()), int(each.any(0).argmax())) for each in found}
    assert corners == {(row, column) for row in range(5) for column in range(4)}


@given(shapes, st.floats(0.001, 0.9), st.integers(0, 1000))
def test_l2_keeps_the_whole_budget(shape, p, seed):
    rng = np.random.default_rng(seed)
    first = moves.initial_l2(rng.random((2, 25 * (shape[0] + 1)), np.float32), shape, 0.7)
    np.testing.assert_allclose(np.linalg.norm(first.reshape(2, -1), axis=1), 0.7, rtol=1e-5)
    draws = rng.random((2, moves.draws_per_query("l2", shape[0])), np.float32)
    length = np.linalg.norm(moves.propose_l2(first, draws, np.full(2, p), 0.7), axis=(2, 3))
    length = np.linalg.norm(length, axis=1)
    # In images of a few pixels the new bumps may cancel the old ones.
    cancelled = (length < 1e-6) & (min(shape[1:]) < 6)
    np.testing.assert_allclose(length[~cancelled], 0.7, rtol=1e-5)


@given(st.integers(1, 3), st.integers(12, 20), st.floats(0.05, 0.69), st.integers(0, 1000))
def test_l2_gives_two_windows_alone_what_is_unused(channels, size, norm, seed):
    rng = np.random.default_rng(seed)
    delta = rng.standard_normal((3, channels, size, size)).astype(np.float32)
    delta *= np.float32(norm) / np.linalg.norm(delta.reshape(3, -1), axis=1)[:, None, None, None]
    draws = rng.random((3, moves.draws_per_query("l2", channels)), np.float32)
    found = moves.propose_l2(delta, draws, np.full(3, 0.1), 0.7)
    np.testing.assert_allclose(np.linalg.norm(found.reshape(3, -1), axis=1), 0.7, rtol=1e-5)
    # Two windows of a tenth of the pixels, or a little more where that is no square.
    left = np.isclose(found, delta, rtol=1e-5, atol=0).mean(axis=(1, 2, 3))
    assert (left > 0.6).all()


@given(st.integers(1, 3), st.integers(10, 31), st.integers(10, 31), st.integers(0, 1000))
def test_the_first_point_for_l2_is_a_grid_of_bumps_in_the_middle(channels, height, width, seed):
    """Section 3.3: 5 by 5 tiles as large as fit, of the same weight, each of its own sign."""
    draws = np.random.default_rng(seed).random((2, 25 * (channels + 1)), np.float32)
    delta = moves.initial_l2(draws, (channels, height, width), 0.7)
    rows, columns = height // 5, width // 5
    above, before = (height % 5) // 2, (width % 5) // 2
    grid = delta[:, :, above : above + 5 * rows, before : before + 5 * columns]
    np.testing.assert_allclose(np.square(grid).sum(), np.square(delta).sum(), rtol=1e-6)
    tiles = grid.reshape(2, channels, 5, rows, 5, columns)
    weights = np.sqrt(np.square(tiles).sum(axis=(3, 5)))
    np.testing.assert_allclose(weights, 0.7 / np.sqrt(25 * channels), rtol=1e-4)
    # What channels differ by is the sign alone.
    np.testing.assert_allclose(np.abs(tiles), np.abs(tiles[:, :1]).repeat(channels, axis=1))


@pytest.mark.parametrize("axis", [None, 1, 3])
def test_layouts_come_back(axis):
    from cloakify.attacks.square import channels_back, channels_first

    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    first = channels_first(x, axis)
    assert first.shape == {None: (2, 1, 1, 60), 1: (2, 3, 4, 5), 3: (2, 5, 3, 4)}[axis]
    assert (channels_back(first, x.shape[1:], axis) == x).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_draw_counts(norm):
    """Place, way and sign of a window are drawn; a number that changes nothing is not looked at."""
    shape, many = (2, 15, 15), 40
    rng = np.random.default_rng(0)
    delta = moves.initial_l2(rng.random((many, 75), np.float32), shape, 1.0)
    draws = rng.random((many, moves.draws_per_query(norm, 2)), np.float32)
    propose = moves.propose_linf if norm == "linf" else moves.propose_l2
    before = propose(delta, draws, np.full(many, 0.1), 1.0)
    for column in range(draws.shape[1]):
        other = draws.copy()
        other[:, column] = (other[:, column] + 0.5) % 1
        after = propose(delta, other, np.full(many, 0.1), 1.0)
        assert (after != before).any(axis=(1, 2, 3)).mean() > 0.7, column


@given(st.integers(2, 12), st.integers(1, 12))
def test_a_bump_and_its_opposite_weigh_the_same(rows, columns):
    """Section 3.3: two halves, each normalised, so that neither sign is the stronger."""
    pair = moves._pair(rows, columns)
    half = rows // 2
    assert pair.shape == (rows, columns)
    assert (pair[:half] > 0).all() and (pair[half:] < 0).all()
    for part in (pair[:half], pair[half:]):
        assert np.linalg.norm(part) == pytest.approx(0.5**0.5, rel=1e-5)
    largest = np.unravel_index(np.abs(pair[:half]).argmax(), (half, columns))
    assert largest == (half // 2, columns // 2)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.001, 0.9), st.sampled_from([1, 3]))
def test_window_sizes(height, width, p, least):
    """A square of the share p of the image, odd where bumps need a middle, as far as it fits."""
    shares = np.array([p, p / 2, p])
    sizes = list(moves._by_size(shares, (3, 1, height, width), least))
    assert sorted(lane for _, lanes in sizes for lane in lanes) == [0, 1, 2]
    for (rows, columns), lanes in sizes:
        assert len(set(shares[lanes])) == 1
        assert 1 <= rows <= height and 1 <= columns <= width
        side = (shares[lanes[0]] * height * width) ** 0.5
        if rows < height and columns < width:
            assert rows == columns
            assert least == 1 or rows % 2
            # A side is rounded to the next number, or the next odd one.
            assert abs(rows - side) <= (0.5 if least == 1 else 1.5) or rows == least
        elif max(side, least) <= min(height, width) - 1:
            assert rows == columns
