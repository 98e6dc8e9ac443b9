"""The truth table of verdicts: only adaptive accuracy is robustness."""

from __future__ import annotations

import numpy as np
import pytest

from cloakify.assessment.harden_report import judge_mask, missed_gate
from cloakify.evaluation import Difference, OverRandom, VerdictCode, judge
from cloakify.evaluation.robustness import Correctness
from cloakify.settings import HardenSetting

UP = Difference(0.05, 0.01, 0.09, 500)
FLAT = Difference(0.01, -0.02, 0.04, 500)
DOWN = Difference(-0.05, -0.09, -0.01, 500)
TOUCHING = Difference(0.02, 0.0, 0.04, 500)


@pytest.mark.parametrize(
    ("adaptive", "static", "code"),
    [
        (UP, UP, VerdictCode.HARDENED),
        (UP, FLAT, VerdictCode.HARDENED),
        (UP, DOWN, VerdictCode.HARDENED),
        (TOUCHING, UP, VerdictCode.TRANSFER_ONLY),
        (FLAT, UP, VerdictCode.TRANSFER_ONLY),
        (FLAT, TOUCHING, VerdictCode.NO_GAIN),
        (FLAT, FLAT, VerdictCode.NO_GAIN),
        (FLAT, DOWN, VerdictCode.NO_GAIN),
        (DOWN, UP, VerdictCode.WORSE),
        (DOWN, FLAT, VerdictCode.WORSE),
        (DOWN, DOWN, VerdictCode.WORSE),
    ],
)
def test_truth_table(adaptive: Difference, static: Difference, code: VerdictCode) -> None:
    verdict = judge(adaptive, static_gains=[FLAT, static])
    assert verdict.code is code
    assert verdict.sentence.startswith("Hardened") == (code is VerdictCode.HARDENED)
    assert verdict.sentence.endswith(".") and "\n" not in verdict.sentence
    assert verdict.over_random is None and verdict.beats_random is None


@pytest.mark.parametrize("adaptive", [UP, FLAT, TOUCHING, DOWN])
@pytest.mark.parametrize("static", [UP, FLAT, TOUCHING, DOWN])
@pytest.mark.parametrize("clean", [UP, FLAT, DOWN, Difference(-0.02, -0.04, 0.0, 500)])
def test_a_gain_or_loss_is_told_where_it_is_one(
    adaptive: Difference, static: Difference, clean: Difference
) -> None:
    sentence = judge(adaptive, static_gains=[DOWN, static], clean_gain=clean).sentence
    gains_elsewhere = static is UP and adaptive is not UP
    assert ("the gain on samples crafted on the source" in sentence) == gains_elsewhere
    assert ("clean accuracy falls" in sentence) == (clean is DOWN)


def test_static_gains_are_never_called_robustness() -> None:
    sentence = judge(FLAT, static_gains=[UP]).sentence
    assert "the mask moves static samples only: no gain against an adaptive attacker" in sentence
    assert "(+1.0 points, 95 % interval -2.0 to +4.0, 500 samples)" in sentence
    assert (
        "gain on samples crafted on the source (+5.0 points, 95 % interval +1.0 to +9.0) is not "
        in sentence
    )
    assert "is not robustness" in judge(DOWN, static_gains=[UP]).sentence


def test_doubts_take_the_claim_away() -> None:
    verdict = judge(UP, doubts=["vanishing-gradients"])
    assert verdict.code is VerdictCode.UNPROVEN
    assert "vanishing-gradients" in verdict.sentence
    assert judge(FLAT, doubts=["vanishing-gradients"]).code is VerdictCode.NO_GAIN


@pytest.mark.parametrize(
    ("adaptive", "static", "control", "words"),
    [
        (UP, FLAT, OverRandom(transfer=UP, adaptive=UP), None),
        (UP, FLAT, OverRandom(transfer=UP, adaptive=FLAT), "does as well"),
        (UP, FLAT, OverRandom(transfer=UP, adaptive=DOWN), "does better"),
        (FLAT, UP, OverRandom(transfer=FLAT, adaptive=FLAT), "does as well"),
        (FLAT, UP, OverRandom(transfer=UP, adaptive=FLAT), None),
        (FLAT, FLAT, OverRandom(transfer=FLAT, adaptive=FLAT), None),
    ],
)
def test_random_mask_is_named_where_it_does_as_well(
    adaptive: Difference, static: Difference, control: OverRandom, words: str | None
) -> None:
    verdict = judge(adaptive, static_gains=[static], over_random=control)
    assert verdict.beats_random is (control.adaptive.low > 0)
    assert verdict.over_random == control
    if words is None:
        assert "random mask" not in verdict.sentence
    else:
        assert f"random mask of the same size {words}" in verdict.sentence


@pytest.mark.parametrize("adaptive", [UP, FLAT, DOWN])
@pytest.mark.parametrize("static", [UP, FLAT])
@pytest.mark.parametrize("contest", [UP, FLAT, TOUCHING, DOWN, Difference(-0.02, -0.04, 0.0, 500)])
@pytest.mark.parametrize("doubts", [[], ["zero-gradients"]])
def test_a_random_mask_does_better_only_where_the_interval_excludes_0(
    adaptive: Difference, static: Difference, contest: Difference, doubts: list[str]
) -> None:
    """What is compared is the gain that there is, and nothing where there is none."""
    other = Difference(0.9, 0.8, 1.0, 500)
    if adaptive is UP:
        control = OverRandom(transfer=other, adaptive=contest)
    else:
        control = OverRandom(transfer=contest, adaptive=other)
    verdict = judge(adaptive, static_gains=[static], over_random=control, doubts=doubts)
    gains = adaptive is UP or (adaptive is FLAT and static is UP)
    words = ("as well" if contest.high >= 0 else "better") if gains and contest.low <= 0 else None
    for each in ("as well", "better"):
        told = f"a random mask of the same size does {each} (difference {100 * contest.value:+.1f}"
        assert (told in verdict.sentence) == (each == words)
    assert verdict.beats_random == (control.adaptive.low > 0)


def test_the_subject_can_be_another_than_a_mask() -> None:
    assert "the second model brings no" in judge(FLAT, subject="the second model").sentence
    over = OverRandom(transfer=FLAT, adaptive=FLAT)
    assert "; another does as well" in judge(UP, over_random=over, control="another").sentence


def test_of_gates_it_speaks_as_of_gates() -> None:
    flags = np.zeros((4, 50), np.bool_)
    one = Correctness(*flags)
    sentence = judge_mask(one, one, one, tuned=True)[1].sentence
    assert "the tuning brings no measurable gain" in sentence and "mask" not in sentence
    missed = missed_gate(HardenSetting(method="tuned"), 0.0, judge(FLAT))
    assert missed is not None and "the gates that cloakify tuned have the verdict" in missed


def test_a_loss_of_clean_accuracy_is_part_of_the_sentence() -> None:
    gain = Difference(0.2, 0.1, 0.3, 100)
    lost = judge(gain, clean_gain=Difference(-0.04, -0.08, -0.01, 100)).sentence
    assert "clean accuracy falls (-4.0 points" in lost
    assert "clean" not in judge(gain, clean_gain=Difference(-0.01, -0.04, 0.02, 100)).sentence
