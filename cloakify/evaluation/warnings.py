"""Signs that an attack was misled rather than withstood, each with its figure and a stable code.

After Athalye, Carlini & Wagner, arXiv 1802.00420, section 3.1 (how to tell masked gradients from
robustness), and Carlini et al., arXiv 1902.06705, section 3. All functions are pure: vectors over
the same n samples in, a finding or nothing out.

That an attack is beaten raises a warning from ``FEWEST`` samples on, if they are more than
``NEGLIGIBLE`` of all, AutoAttack's own bound for Square. A warning needs less proof than a gain:
one sample can be a search's luck, and doubt costs less than a false claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from cloakify.evaluation.figures import compare
from cloakify.evaluation.probes import Probes
from cloakify.evaluation.trials import AttackResults
from cloakify.numeric.arrays import Flags

NEGLIGIBLE = 0.002
"""Share of the samples up to which nothing is made of a difference."""

FEWEST = 4
"""Samples from which on nobody calls it luck."""

FEW = 0.01
"""Share of samples up to which a peculiar output or gradient is a curiosity."""

MOST = 0.5
"""Share of samples from which on saturation is a trait of the model: sure ones exist in all."""


class Code(StrEnum):
    """What a warning is about, for scripts."""

    RANDOMISED = "randomised-outputs"
    NO_WHITE_BOX = "no-white-box-attack"
    ZERO_GRADIENTS = "zero-gradients"
    ON_PROBABILITIES = "loss-on-probabilities"
    SATURATED = "saturated-outputs"
    OVERRULED = "head-overruled"
    GRADIENT_FREE = "gradient-free-stronger"
    TRANSFER = "transfer-stronger"
    NOT_CONVERGED = "not-converged"
    NOT_MONOTONE = "curve-not-monotone"
    UNBOUNDED = "unbounded-attack-fails"
    CALIBRATION_DATA = "calibration-data"
    NEAR_COPIES = "near-copies"
    BLOCKED = "gradient-blocked"


HARMLESS = frozenset({Code.SATURATED})
"""Codes that say something of the model without putting the attacks in doubt: the losses are
taken on logits, and neither they nor their gradients are rounded away."""


@dataclass(frozen=True)
class Finding:
    """A warning: its code, one plain sentence, and the figure that raised it."""

    code: Code
    message: str
    value: float


CALIBRATION_DATA = Finding(
    Code.CALIBRATION_DATA,
    "the model was hardened on these very samples, or on data that they are taken from: what was "
    "fitted to them says nothing of others; evaluate on data that it has never seen",
    1,
)

NO_WHITE_BOX = Finding(
    Code.NO_WHITE_BOX, "no attack followed the gradient; add one, such as apgd", 0
)


def blocked_gradients(operators: Sequence[str], passable: bool) -> Finding | None:
    """Warn of the operators at which gradients end though values go on.

    ``passable`` tells whether ``apgd-bpda`` is the stand-in for some.
    """
    if not operators:
        return None
    more = f" and {len(operators) - 1} more" if len(operators) > 1 else ""
    return Finding(
        Code.BLOCKED,
        f"no gradient passes {operators[0]}{more}, but values do: attacks that follow the gradient "
        "see only what goes around; one with a differentiable stand-in there may find more"
        + " (apgd-bpda goes straight through steps)"
        * passable,
        len(operators),
    )


def near_copies_reported(flags: Flags) -> Finding | None:
    """Warn where the report's samples are near copies of what the mask was made or chosen with."""
    return _share(
        Code.NEAR_COPIES,
        flags,
        FEW,
        "of the samples that the figures come from lie within 2ε of one that the mask was made or "
        "chosen with: on new samples the gain may be smaller; leave near copies out",
    )


def of_probes(probes: Probes) -> list[Finding]:
    """Look at outputs and gradients: randomised, zero, probabilities, saturated, overruled."""
    found = [
        _share(
            Code.RANDOMISED,
            probes.unstable,
            FEW,
            "of the samples get other logits when run again: the model draws at random, and an "
            "attack on one draw says little about the next",
        ),
        _share(
            Code.ZERO_GRADIENTS,
            probes.flat,
            FEW,
            "of the samples have an input gradient that is 0 to float precision: what follows "
            "gradients is blind there",
        ),
        _share(
            Code.ON_PROBABILITIES,
            probes.on_probabilities,
            MOST,
            "of the samples have probabilities where the head's logits should be: losses are "
            "taken behind a softmax; --head may name the layer before it",
        ),
        _share(
            Code.SATURATED,
            probes.saturated,
            MOST,
            "of the samples have logits so far apart that their softmax is 0 and 1 to float "
            "precision: attacks through probabilities fail there, these go by the logits",
        ),
        _share(
            Code.OVERRULED,
            probes.overruled,
            FEW,
            "of the samples, or of points within the budget around them, get another answer from "
            "the whole model than from its head: other layers have a say, and all figures are of "
            "the head alone; --head may name another",
        ),
    ]
    return [finding for finding in found if finding is not None]


def gradient_free_stronger(white_box: Flags, after: Flags, name: str) -> Finding | None:
    """Compare what white-box attacks leave, bool [n], with what a gradient-free one then leaves."""
    return _beaten(
        Code.GRADIENT_FREE,
        white_box,
        after,
        f"of the samples withstand every white-box attack and fall to {name}, which sees no "
        "gradient",
    )


def transfer_stronger(own: Flags, crafted: Sequence[Flags]) -> Finding | None:
    """Compare the attacks on a model itself with samples crafted against the other models.

    Parameters
    ----------
    own
        bool [n], right under every attack on the model itself.
    crafted
        One bool [n] for each other model: right on the samples crafted against it.
    """
    if not crafted:
        return None
    return _beaten(
        Code.TRANSFER,
        own,
        own & np.logical_and.reduce(crafted),
        "of the samples withstand every attack on the model itself and fall to samples crafted "
        "against another one",
    )


def not_converged(once: Flags, doubled: Flags, name: str) -> Finding | None:
    """Compare an attack with itself at twice its steps; bool [n] each."""
    return _beaten(
        Code.NOT_CONVERGED,
        once,
        doubled,
        f"of the samples withstand {name} and fall when its steps are doubled: it has not "
        "converged",
    )


def not_monotone(alone: Flags) -> Finding | None:
    """Look for a larger budget that serves a fresh run of one attack worse; alone is bool [E, n].

    The value is the largest rise of accuracy from one budget to the next.
    """
    worst: Finding | None = None
    for smaller, larger in pairwise(alone):
        rise = compare(larger, smaller).difference
        if rise.low > 0 and rise.value > max(NEGLIGIBLE, worst.value if worst else 0.0):
            worst = Finding(
                Code.NOT_MONOTONE,
                f"accuracy rises by {100 * rise.value:.1f} points at a larger budget: the attack "
                "loses its way",
                rise.value,
            )
    return worst


def unbounded_fails(standing: Flags, chance: float) -> Finding | None:
    """Judge what an attack without a bound leaves: bool [n], at best nothing, at worst chance."""
    return _share(
        Code.UNBOUNDED,
        standing,
        min(FEW, chance),
        "of the samples withstand an attack that may change the input to anything: it is the "
        "attack that fails, not the model that holds",
    )


def of_trials(
    trials: AttackResults, number: int, names: Sequence[str], white_box: int, check: str | None
) -> list[Finding]:
    """Look at everything that was tried on a model.

    Parameters
    ----------
    number
        Which of the models it is.
    names, white_box
        Of the cascade's attacks, those ``white_box`` that follow the gradient first.
    check
        Name of the gradient-free attack that was run on what the cascade leaves, if one was.
    """
    found: list[Finding | None] = [not_monotone(trials.alone)]
    if not white_box:
        found.append(NO_WHITE_BOX)
    # Of the budgets, the one where the sign is clearest.
    per_budget: dict[Code, Finding] = {}
    for place in range(len(trials.budgets)):
        left = trials.left[place]
        others = [crafted[place] for i, crafted in enumerate(trials.crafted) if i != number]
        signs = [
            transfer_stronger(left[-1], others),
            not_converged(trials.alone[place], trials.doubled[place], names[0]),
        ]
        if 0 < white_box < len(names):
            signs.append(gradient_free_stronger(left[white_box - 1], left[-1], names[white_box]))
        elif check is not None and place == len(trials.budgets) - 1:
            signs.append(gradient_free_stronger(left[-1], left[-1] & trials.checked, check))
        for sign in signs:
            if sign is not None and (
                sign.code not in per_budget or sign.value > per_budget[sign.code].value
            ):
                per_budget[sign.code] = sign
    found += per_budget.values()
    return [finding for finding in found if finding is not None]


def _share(code: Code, flags: Flags, bound: float, sentence: str) -> Finding | None:
    """Warn where more than ``bound`` of the samples are flagged."""
    share = float(flags.mean())
    if share <= bound:
        return None
    return Finding(code, f"{100 * share:.1f} % {sentence}", share)


def _beaten(code: Code, before: Flags, after: Flags, sentence: str) -> Finding | None:
    """Warn where ``after`` has lost more of ``before`` than luck explains."""
    lost = int((before & ~after).sum())
    share = lost / len(before)
    if lost < FEWEST or share <= NEGLIGIBLE:
        return None
    return Finding(code, f"{100 * share:.1f} % {sentence}", share)
