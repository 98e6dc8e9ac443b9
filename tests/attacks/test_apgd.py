"""Auto-PGD's schedule, against what its paper says and its program does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.attacks import Apgd, ApgdDlr, ApgdT, AutoAttack, FabT, Square
from cloakify.attacks.apgd import checkpoints


def test_checkpoints_of_a_hundred_steps_are_the_papers() -> None:
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@given(st.integers(1, 400))
def test_checkpoints_are_the_programs(steps: int) -> None:
    """AutoAttack's autopgd_base.py, which counts steps since the last checkpoint."""
    size, least, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    expected, since = [], 0
    for step in range(1, steps + 1):
        since += 1
        if since == size:
            expected.append(step)
            since, size = 0, max(size - shrink, least)
    assert checkpoints(steps) == expected


@pytest.mark.parametrize("classes", range(2, 7))
def test_losses_that_need_classes_are_exchanged_where_those_are_few(classes: int) -> None:
    assert Apgd().loss_for(classes) == "ce"
    assert ApgdDlr().loss_for(classes) == ("dlr" if classes > 2 else "margin")


def test_the_standard_cascade_has_its_authors_settings() -> None:
    apgd, apgd_t, fab, square = AutoAttack(seed=3).attacks
    assert isinstance(apgd, Apgd) and isinstance(apgd_t, ApgdT)
    assert isinstance(fab, FabT) and isinstance(square, Square)
    assert [attack.steps for attack in (apgd, apgd_t, fab, square)] == [100, 100, 100, 5000]
    assert apgd_t.num_targets == fab.num_targets == 9
    assert apgd.restarts == apgd_t.restarts == 1
    assert apgd.seed == apgd_t.seed == square.seed == 3
    assert square.share == 0.8
