"""Which samples a model still classifies rightly: vectors that can be paired between models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack, Target, ThreatModel
from cloakify.attacks.given import within
from cloakify.evaluation.samples import Samples
from cloakify.numeric.arrays import Flags


@dataclass(frozen=True)
class Correctness:
    """Right or wrong, sample by sample, on the same samples for every model compared.

    Attributes
    ----------
    clean
        On the clean samples.
    static
        On samples crafted against the baseline by the calibration attack.
    transfer
        On samples crafted against the baseline by the evaluation attack, each driven past the
        nearest border and not only over it, where another model's border would already save it.
    adaptive
        Under every attempt: on samples crafted against the model itself, on the transferred ones
        and on the static ones in the ball. An attacker tries them all, and an attack that fails on
        a model's own gradients must not be counted as its robustness. For the baseline itself
        ``transfer`` is the same.
    """

    clean: Flags
    static: Flags
    transfer: Flags
    adaptive: Flags


@dataclass(frozen=True)
class Attacks:
    """The attacks of a comparison.

    Attributes
    ----------
    calibration
        The one that the mask was chosen with; crafts the static samples.
    transfer
        The evaluation attack, driving every sample past the border.
    adaptive
        The evaluation attack, stopping where it has fooled the model.
    onward
        How many iterations the former drives a sample on; see :meth:`Attack.explore`.
    through
        One that goes straight through what hides its slope, for what withstands the others; where
        the models do not, ``None``.
    """

    calibration: Attack
    transfer: Attack
    adaptive: Attack
    onward: int | None = None
    through: Attack | None = None


def compare_targets(
    targets: Sequence[Target], attacks: Attacks, threat: ThreatModel, samples: Samples
) -> list[Correctness]:
    """Attack several models on the same samples; the first is the baseline."""
    baseline = targets[0]
    x, y, index = samples.x, samples.y, samples.index
    static = attacks.calibration.run(baseline, x, y, index, threat)
    # Copies that a user gave may lie anywhere.
    allowed = np.logical_and(*within(static, x, threat))
    transfer, fooled = attacks.transfer.explore(baseline, x, y, index, threat, attacks.onward)
    results: list[Correctness] = []
    for target in targets:
        clean, on_static = target.correct(x, y), target.correct(static, y)
        transferred = target.correct(transfer, y)
        standing = clean & transferred & (on_static | ~allowed)
        # Of the baseline, the same attack would go the same way again where it never succeeded.
        tried = standing & fooled if target is baseline else standing
        adaptive = standing.copy()
        adaptive[tried] = _withstand(attacks.adaptive, target, samples.at(tried), threat)
        if attacks.through is not None:
            left = adaptive.copy()
            adaptive[left] = _withstand(attacks.through, target, samples.at(left), threat)
        results.append(
            Correctness(
                clean=clean,
                static=on_static,
                transfer=adaptive if target is baseline else transferred,
                adaptive=adaptive,
            )
        )
    return results


def _withstand(attack: Attack, target: Target, samples: Samples, threat: ThreatModel) -> Flags:
    """Attack samples; tell which are still classified rightly."""
    if not len(samples.y):
        return np.empty(0, np.bool_)
    return target.correct(
        attack.run(target, samples.x, samples.y, samples.index, threat), samples.y
    )
