"""Scores that are not one for each sample and class are told by what they are."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.attacks.passes import check_scores
from cloakify.errors import ModelError


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        # One sample at a time, or the samples along another axis.
        ((1, 4), "does not count samples"),
        ((4,), "does not count samples"),
        ((7, 4), "does not count samples"),
        # Answers at each of five positions.
        ((6, 5, 4), "many positions"),
        ((30, 4), "many positions"),
    ],
)
def test_what_is_no_answer_a_sample_is_told(shape, told):
    with pytest.raises(ModelError, match=told):
        check_scores({"z": np.zeros(shape)}, "z", 6, 4)


def test_one_answer_a_sample_passes():
    check_scores({"z": np.zeros((6, 4, 1, 1))}, "z", 6, 4)
