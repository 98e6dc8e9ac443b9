"""How far two models' outputs are apart, and what that is measured by."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.verification.mask_edit import _precision, largest_difference, magnitude

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -3.5, 1e30, math.inf, -math.inf, math.nan])


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4))
def test_numbers_one_by_one(pairs: list[tuple[float, float]]) -> None:
    """Infinite or no number in both is the same; in one alone it is no agreement."""
    expected = 0.0
    for one, two in pairs:
        if one == two or (math.isnan(one) and math.isnan(two)):
            continue
        apart = abs(one - two)
        expected = math.nan if math.isnan(apart) or math.isnan(expected) else max(expected, apart)
    first, second = (np.array([pair[side] for pair in pairs], np.float32) for side in (0, 1))
    assert largest_difference(first, second) == pytest.approx(expected, rel=1e-6, nan_ok=True)
    assert largest_difference(first, np.append(second, 0)) == math.inf
    finite = [abs(float(value)) for value in first if math.isfinite(value)]
    assert magnitude(first) == max([1.0, *finite])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_the_step_from_one_to_the_next_number(kind: type) -> None:
    assert _precision(np.dtype(kind)) == float(ml_dtypes.finfo(kind).eps)
