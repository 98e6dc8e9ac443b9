"""Signs that an attack was misled rather than withstood, each with its figure and a stable code.

After Athalye, Carlini & Wagner, arXiv 1802.00420, section 3.1 (how to tell masked gradients from
robustness), and Carlini et al., arXiv 1902.06705, section 3. All functions are pure: vectors over
the same n samples in, a warning or nothing out.

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

from cloakify.evaluation.attack_results import AttackResults
from cloakify.evaluation.figures import Distance, compare
from cloakify.evaluation.planted_samples import PlantedTest
from cloakify.evaluation.probes import Probes
from cloakify.numeric.arrays import Flags

NEGLIGIBLE = 0.002
"""Share of the samples up to which nothing is made of a difference."""

FEWEST = 4
"""Samples from which on nobody calls it luck."""

FEW = 0.01
"""Share of samples up to which a peculiar output or gradient is a curiosity."""

MOST = 0.5
"""Share of samples from which on saturation is a trait of the model: sure ones exist in all."""


PLANTED_MISSES = 0.05
"""Share of planted samples up to which an attack may miss them."""


class WarningCode(StrEnum):
    """What a warning is about, for scripts."""

    RANDOMISED = "randomised-outputs"
    NO_WHITE_BOX = "no-white-box-attack"
    ZERO_GRADIENTS = "zero-gradients"
    SHATTERED = "shattered-gradients"
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
    DISTANCE = "distance-is-a-budget"
    PLANTED_MISSED = "planted-samples-missed"
    NOTHING_PLANTED = "attacks-untested"
    CUT_OFF = "sums-cut-off"
    OVER_BUDGET = "accuracy-drop-exceeded"


HARMLESS = frozenset(
    [WarningCode.SATURATED, WarningCode.DISTANCE, WarningCode.NOTHING_PLANTED, WarningCode.CUT_OFF]
)
"""Codes that put no accuracy in doubt. With logits far apart neither losses, which are taken on
them, nor their gradients are rounded away; where the search for the nearest misclassified point
fails, all attacks at the budgets have been tried as well; a test that could not be made says
nothing against what it would have tested; and that sums are cut off elsewhere says nothing of
exact ones."""


@dataclass(frozen=True)
class EvaluationWarning:
    """Something that puts a figure in doubt: a code, one sentence, and the number that raised it.

    It is a record of a report; Python's own ``Warning``, whose name it leaves alone, is raised.
    """

    code: WarningCode
    message: str
    value: float


CALIBRATION_DATA = EvaluationWarning(
    WarningCode.CALIBRATION_DATA,
    "the model was hardened on these very samples, or on data that they are taken from: what was "
    "fitted to them says nothing of others; evaluate on data that it has never seen",
    1,
)


def no_white_box(without: Sequence[str]) -> EvaluationWarning:
    """Warn that no attack followed the gradient.

    ``without`` names the operators that have none, which no attack can follow.
    """
    told = "add one, such as apgd"
    if without:
        told = f"{without[0]} has none, and others may find more than attacks that only ask do"
    return EvaluationWarning(
        WarningCode.NO_WHITE_BOX, f"no attack followed the gradient; {told}", 0
    )


def blocked_gradients(operators: Sequence[str], passable: bool) -> EvaluationWarning | None:
    """Warn of the operators at which gradients end though values go on.

    ``passable`` tells whether ``apgd-bpda`` is the stand-in for some.
    """
    if not operators:
        return None
    more = f" and {len(operators) - 1} more" if len(operators) > 1 else ""
    return EvaluationWarning(
        WarningCode.BLOCKED,
        f"no gradient passes {operators[0]}{more}, but values do: attacks that follow the gradient "
        "see only what goes around; one with a differentiable stand-in there may find more"
        + " (apgd-bpda goes straight through steps)"
        * passable,
        len(operators),
    )


def distance_is_budget(
    distance: Distance, budgets: Sequence[float], unfound: Flags
) -> EvaluationWarning | None:
    """Warn where the median distance is no distance, but a budget at which an attack succeeded.

    Parameters
    ----------
    distance
        The median.
    budgets
        All of them, also those beyond what was asked for.
    unfound
        bool [n], of which samples the search found no nearer point than the budgets tell.
    """
    if distance.value not in budgets or not unfound.any():
        return None
    share = float(unfound.mean())
    return EvaluationWarning(
        WarningCode.DISTANCE,
        f"the median distance is a budget, {distance.value:.4g}, and no more than an upper bound: "
        f"of {100 * share:.1f} % of the samples the search for the nearest misclassified point "
        "found none that is nearer than what fooled the model within a budget",
        share,
    )


def near_copies_reported(flags: Flags) -> EvaluationWarning | None:
    """Warn where the report's samples are near copies of what the mask was made or chosen with."""
    return _share(
        WarningCode.NEAR_COPIES,
        flags,
        FEW,
        "of the samples that the figures come from lie within 2ε of one that the mask was made or "
        "chosen with: on new samples the gain may be smaller; leave near copies out",
    )


def probe_warnings(probes: Probes, *, follows: bool = True) -> list[EvaluationWarning]:
    """Look at outputs and gradients: randomised, zero, probabilities, saturated, overruled.

    ``follows`` tells whether an attack followed gradients, which probabilities flatten.
    """
    warnings = [
        _share(
            WarningCode.RANDOMISED,
            probes.unstable,
            FEW,
            "of the samples get other logits when run again: the model draws at random, and an "
            "attack on one draw says little about the next",
        ),
        zero_gradients(probes.flat),
        _share(
            WarningCode.ON_PROBABILITIES,
            probes.on_probabilities & follows,
            MOST,
            "of the samples have probabilities where the head's logits should be: losses are "
            "taken behind a softmax; --head may name the layer before it",
        ),
        _share(
            WarningCode.SATURATED,
            probes.saturated,
            MOST,
            "of the samples have logits so far apart that their softmax is 0 and 1 to float "
            "precision: attacks through probabilities fail there, these go by the logits",
        ),
        _share(
            WarningCode.OVERRULED,
            probes.overruled,
            FEW,
            "of the samples, or of points within the budget around them, get another answer from "
            "the whole model than from its head: other layers have a say, and all figures are of "
            "the head alone; --head may name another",
        ),
    ]
    return [warning for warning in warnings if warning is not None]


def zero_gradients(flat: Flags) -> EvaluationWarning | None:
    """Warn where gradients are flat; bool [n]."""
    return _share(
        WarningCode.ZERO_GRADIENTS,
        flat,
        FEW,
        "of the samples have an input gradient that is 0 to float precision: what follows "
        "gradients is blind there",
    )


def shattered_gradients(share: float) -> EvaluationWarning:
    """Warn that moves do otherwise than gradients promise, of a share of the samples."""
    return EvaluationWarning(
        WarningCode.SHATTERED,
        f"of {100 * share:.0f} % of the samples that were looked at, small random moves do "
        "otherwise than the input gradient promises: attacks that follow it may find little of "
        "what there is",
        share,
    )


def gradient_free_stronger(white_box: Flags, after: Flags, name: str) -> EvaluationWarning | None:
    """Compare what white-box attacks leave, bool [n], with what a gradient-free one then leaves."""
    return _beaten(
        WarningCode.GRADIENT_FREE,
        white_box,
        after,
        f"of the samples withstand every white-box attack and fall to {name}, which sees no "
        "gradient",
    )


def transfer_stronger(own: Flags, transferred: Sequence[Flags]) -> EvaluationWarning | None:
    """Compare the attacks on a model itself with samples crafted against the other models.

    Parameters
    ----------
    own
        bool [n], right under every attack on the model itself.
    transferred
        One bool [n] for each other model: right on the samples crafted against it.
    """
    if not transferred:
        return None
    return _beaten(
        WarningCode.TRANSFER,
        own,
        own & np.logical_and.reduce(transferred),
        "of the samples withstand every attack on the model itself and fall to samples crafted "
        "against another one",
    )


def not_converged(once: Flags, doubled: Flags, name: str) -> EvaluationWarning | None:
    """Compare an attack with itself at twice its steps; bool [n] each."""
    return _beaten(
        WarningCode.NOT_CONVERGED,
        once,
        doubled,
        f"of the samples withstand {name} and fall when its steps are doubled: it has not "
        "converged",
    )


def not_monotone(fresh: Flags) -> EvaluationWarning | None:
    """Look for a larger budget that serves a fresh run of one attack worse; fresh is bool [E, n].

    The value is the largest rise of accuracy from one budget to the next.
    """
    worst: EvaluationWarning | None = None
    for smaller, larger in pairwise(fresh):
        rise = compare(larger, smaller).difference
        if rise.low > 0 and rise.value > max(NEGLIGIBLE, worst.value if worst else 0.0):
            worst = EvaluationWarning(
                WarningCode.NOT_MONOTONE,
                f"accuracy rises by {100 * rise.value:.1f} points at a larger budget: the attack "
                "loses its way",
                rise.value,
            )
    return worst


def planted_missed(test: PlantedTest | None) -> EvaluationWarning | None:
    """Judge attacks by what they find where an adversarial sample was planted.

    A single one that is not found is luck. Where no attack was tried nothing is said.
    """
    if test is None:
        return None
    names = " and ".join(test.attacks)
    if test.obstacle:
        return EvaluationWarning(
            WarningCode.NOTHING_PLANTED,
            f"no adversarial samples could be planted to test {names} on this model: "
            f"{test.obstacle}",
            test.planted,
        )
    missed = test.planted - test.found
    if missed < 2 or missed <= PLANTED_MISSES * test.planted:
        return None
    return EvaluationWarning(
        WarningCode.PLANTED_MISSED,
        f"{names} found {test.found} of {test.planted} adversarial samples that were planted in a "
        "copy of the model with another head: where nothing is found, there may be something",
        missed / test.planted,
    )


def unbounded_fails(standing: Flags, chance: float) -> EvaluationWarning | None:
    """Judge what an attack without a bound leaves: bool [n], at best nothing, at worst chance."""
    return _share(
        WarningCode.UNBOUNDED,
        standing,
        min(FEW, chance),
        "of the samples withstand an attack that may change the input to anything: it is the "
        "attack that fails, not the model that holds",
    )


def attack_warnings(
    results: AttackResults,
    number: int,
    names: Sequence[str],
    white_box: int,
    check: str | None,
    without: Sequence[str] = (),
) -> list[EvaluationWarning]:
    """Look at everything that was tried on a model.

    Parameters
    ----------
    number
        Which of the models it is.
    names, white_box
        Of the cascade's attacks, those ``white_box`` that follow the gradient first.
    check
        Name of the gradient-free attack that was run on what the cascade leaves, if one was.
    without
        As for :func:`no_white_box`.
    """
    warnings: list[EvaluationWarning | None] = [not_monotone(results.first_attack)]
    if not white_box:
        warnings.append(no_white_box(without))
    # Of the budgets, the one where the sign is clearest.
    per_budget: dict[WarningCode, EvaluationWarning] = {}
    for place in range(len(results.budgets)):
        surviving = results.surviving[place]
        others = [crafted[place] for i, crafted in enumerate(results.transferred) if i != number]
        signs = [
            transfer_stronger(surviving[-1], others),
        ]
        twice = results.doubled_on
        if twice.any():
            once, doubled = results.first_attack[place, twice], results.doubled[place, twice]
            signs.append(not_converged(once, doubled, names[0]))
        if 0 < white_box < len(names):
            signs.append(
                gradient_free_stronger(surviving[white_box - 1], surviving[-1], names[white_box])
            )
        elif check is not None and place == len(results.budgets) - 1:
            on = results.checked_on
            left = surviving[-1, on]
            signs.append(gradient_free_stronger(left, left & results.checked[on], check))
        for sign in signs:
            if sign is not None and (
                sign.code not in per_budget or sign.value > per_budget[sign.code].value
            ):
                per_budget[sign.code] = sign
    warnings += per_budget.values()
    return [warning for warning in warnings if warning is not None]


def _share(
    code: WarningCode, flags: Flags, bound: float, sentence: str
) -> EvaluationWarning | None:
    """Warn where more than ``bound`` of the samples are flagged."""
    share = float(flags.mean())
    if share <= bound:
        return None
    return EvaluationWarning(code, f"{100 * share:.1f} % {sentence}", share)


def _beaten(
    code: WarningCode, before: Flags, after: Flags, sentence: str
) -> EvaluationWarning | None:
    """Warn where ``after`` has lost more of ``before`` than luck explains."""
    lost = int((before & ~after).sum())
    share = lost / len(before)
    if lost < FEWEST or share <= NEGLIGIBLE:
        return None
    return EvaluationWarning(code, f"{100 * share:.1f} % {sentence}", share)
