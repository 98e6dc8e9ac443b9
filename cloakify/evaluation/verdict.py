"""What the figures allow one to say, in one plain sentence.

A model is called hardened only if its gain against an adaptive attacker, one whose gradients
flow through the mask, has an interval above 0. Such an interval never disagrees with the exact
McNemar test beside it (`intervals.agreed_difference`): both exclude 0, or neither. A gain on
static samples, crafted against the source model, never counts as robustness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from cloakify.evaluation.figures import Difference


class VerdictCode(StrEnum):
    """The possible verdicts, for scripts; the sentence is for people."""

    HARDENED = "hardened"
    """The adaptive gain's interval lies above 0."""
    UNPROVEN = "unproven"
    """It does, but a warning says that the figure is not to be trusted, or what it cost."""
    TRANSFER_ONLY = "transfer-only"
    """Static samples are moved; the adaptive attacker is not."""
    NO_GAIN = "no-gain"
    """Nothing measurable."""
    WORSE = "worse"
    """The adaptive gain's interval lies below 0."""


@dataclass(frozen=True)
class OverRandom:
    """Hardened minus a random mask of the same size, paired on the same samples."""

    transfer: Difference
    adaptive: Difference


@dataclass(frozen=True)
class Verdict:
    """A code, a sentence, and the control that the sentence speaks of.

    ``beats_random`` says whether the interval of ``over_random.adaptive`` lies above 0; None
    where no random mask was tried.
    """

    code: VerdictCode
    sentence: str
    over_random: OverRandom | None
    beats_random: bool | None


def judge(
    adaptive_gain: Difference,
    *,
    static_gains: Sequence[Difference] = (),
    over_random: OverRandom | None = None,
    doubts: Sequence[str] = (),
    clean_gain: Difference | None = None,
    subject: str = "the mask",
    control: str = "a random mask of the same size",
) -> Verdict:
    """Decide what may be claimed.

    Parameters
    ----------
    adaptive_gain
        Hardened minus source, each under an attack crafted against itself.
    static_gains
        Hardened minus source on samples crafted against the source, one per attack tried.
    over_random
        The random-mask control, where there is one.
    doubts
        Codes of warnings that stand against a claim (vanishing gradients, a gradient-free attack
        that beats the adaptive one, measured on the calibration data, more clean accuracy lost
        than was allowed, …). With one, no gain is claimed.
    clean_gain
        Hardened minus source on clean samples: a loss is part of the sentence.
    subject
        What was changed, as the sentence names it.
    control
        What ``over_random`` compares it with.

    Returns
    -------
    Verdict
    """
    code = _code(adaptive_gain, static_gains, doubts)
    static = max(static_gains, key=lambda gain: gain.low, default=None)
    change = f"{_points(adaptive_gain)}, {adaptive_gain.n} samples"
    if code is VerdictCode.HARDENED:
        sentence = f"Hardened: accuracy against an adaptive attacker rises ({change})"
    elif code is VerdictCode.UNPROVEN:
        sentence = (
            f"Not proven: accuracy against the adaptive attack rises ({change}), but a warning "
            f"stands against it: {', '.join(doubts)}"
        )
    elif code is VerdictCode.WORSE:
        sentence = f"Worse: accuracy against an adaptive attacker falls ({change})"
    elif code is VerdictCode.TRANSFER_ONLY:
        sentence = (
            f"Not hardened: {subject} moves static samples only: no gain against an adaptive "
            f"attacker ({change})"
        )
    else:
        sentence = (
            f"Not hardened: {subject} brings no measurable gain, static or against an adaptive "
            f"attacker ({change})"
        )
    moved = code in (VerdictCode.TRANSFER_ONLY, VerdictCode.WORSE)
    if moved and static is not None and static.low > 0:
        sentence += (
            f"; the gain on samples crafted on the source ({_points(static)}) is not robustness"
        )
    beats_random = None if over_random is None else over_random.adaptive.low > 0
    sentence += _control(code, over_random, control)
    if clean_gain is not None and clean_gain.high < 0:
        sentence += f"; clean accuracy falls ({_points(clean_gain)})"
    return Verdict(code, sentence + ".", over_random, beats_random)


def _code(
    adaptive_gain: Difference, static_gains: Sequence[Difference], doubts: Sequence[str]
) -> VerdictCode:
    if adaptive_gain.low > 0:
        return VerdictCode.UNPROVEN if doubts else VerdictCode.HARDENED
    if adaptive_gain.high < 0:
        return VerdictCode.WORSE
    if any(gain.low > 0 for gain in static_gains):
        return VerdictCode.TRANSFER_ONLY
    return VerdictCode.NO_GAIN


def _control(code: VerdictCode, over_random: OverRandom | None, control: str) -> str:
    """Say so where the control does as well; silence where there is no gain to share."""
    if over_random is None:
        return ""
    if code in (VerdictCode.HARDENED, VerdictCode.UNPROVEN):
        contest = over_random.adaptive
    elif code is VerdictCode.TRANSFER_ONLY:
        contest = over_random.transfer
    else:
        return ""
    if contest.low > 0:
        return ""
    if contest.high < 0:
        return f"; {control} does better (difference {_points(contest)})"
    return f"; {control} does as well (difference {_points(contest)})"


def _points(difference: Difference) -> str:
    value, low, high = (100 * part for part in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
