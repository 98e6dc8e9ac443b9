"""How many samples a session takes at once where a user does not say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloakify.runtime import Device, Session
from cloakify.runtime.batch_size import CPU_BATCH_SIZE, CPU_NUMBERS, fitting_batch_size
from cloakify.settings import AttackSetting
from cloakify.workflows.attack import attack
from tests.support.planted import plant

CPU = Device("cpu")


@given(st.lists(st.integers(0, 4000), max_size=4))
def test_the_largest_power_of_two_that_fits(shape: list[int]) -> None:
    size = fitting_batch_size(shape, CPU)
    assert size in {1, 2, 4, 8, 16, 32}
    assert size == 1 or size * math.prod(shape) <= CPU_NUMBERS
    assert size == CPU_BATCH_SIZE or 2 * size * math.prod(shape) > CPU_NUMBERS


def test_common_sizes() -> None:
    sizes = [fitting_batch_size((3, side, side), CPU) for side in (32, 96, 224, 384)]
    assert sizes == [32, 8, 2, 1]
    elsewhere = Device("cuda")
    assert fitting_batch_size((3, 224, 224), elsewhere) == 64


@pytest.mark.parametrize(("wanted", "largest"), [(None, 4), (7, 7)])
def test_large_samples_are_run_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int | None, largest: int
) -> None:
    planted = plant(tmp_path)
    monkeypatch.setattr("cloakify.runtime.batch_size.CPU_NUMBERS", 200)  # a sample has 36 numbers
    sizes: set[int] = set()
    run = Session.run

    def seen(self: Session, feeds: dict[str, np.ndarray], *args: object) -> object:
        sizes.add(len(feeds["x"]))
        return run(self, feeds, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "run", seen)
    setting = AttackSetting(device="cpu", eps=0.02, attack="fgsm", batch_size=wanted, limit=40)
    attack(planted.model(), planted.data, tmp_path / "a.npz", setting)
    assert max(sizes) == largest
