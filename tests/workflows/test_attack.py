"""`attack` says where the attack sees no slope, as `evaluate` does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloakify.settings import AttackSetting
from cloakify.workflows.attack import attack
from tests.support.planted import Planted, plant

BLIND = "have an input gradient that is 0 to float precision"
ENDS = "no gradient passes "


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def notes(planted: Planted, defence: str | None, output: Path, name: str = "pgd") -> str:
    setting = AttackSetting(attack=name, steps=3, eps=0.04, device="cpu")
    return "\n".join(attack(planted.model(defence), planted.data, output, setting).notes)


@pytest.mark.parametrize(
    ("defence", "said"),
    [
        ("softmax-inside", [BLIND]),
        ("mean-sparse", [BLIND]),
        ("stepped", [f"{ENDS}Round (v)"]),
    ],
)
def test_a_blind_attack_says_so(
    planted: Planted, tmp_path: Path, defence: str, said: list[str]
) -> None:
    found = notes(planted, defence, tmp_path / "a.npz")
    assert all(part in found for part in said)


@pytest.mark.parametrize(
    ("defence", "name"),
    [
        (None, "pgd"),
        (None, "square"),
        ("saturated", "pgd"),
        # It goes through.
        ("quantised-input", "apgd-bpda"),
        ("mean-sparse", "apgd-bpda"),
        # It follows no gradient.
        ("softmax-inside", "square"),
    ],
)
def test_one_that_sees_its_way_says_nothing(
    planted: Planted, tmp_path: Path, defence: str | None, name: str
) -> None:
    found = notes(planted, defence, tmp_path / "a.npz", name)
    assert BLIND not in found and ENDS not in found
