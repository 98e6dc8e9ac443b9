"""Choose the mask: how to rank the features, and how many of them to mask.

Every ranking proposes the size that is best on static samples of the select split. Where several
rankings compete, an adaptive attack on each proposal decides, since gains on static samples are
not robustness; and the winner is then attacked again, so that a second round of ranking knows
what that attack does to the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cloakify.attacks import Attack, Target, worst_case
from cloakify.attacks.pairs import attacked_pairs
from cloakify.attacks.square import Square
from cloakify.data.splits import some_of
from cloakify.errors import GateError
from cloakify.graph.mask import insert_mask
from cloakify.masking.captured import pooled
from cloakify.masking.curve import MaskCurve, in_groups
from cloakify.masking.rankings import AUTO, LEARNING, RANKINGS, Ranking, candidates
from cloakify.masking.selection import MaskChoice, best_size, choose, size_of_ratio
from cloakify.workflows.calibration import Calibration, features_of
from cloakify.workflows.setting import HardenSetting
from cloakify.workflows.subject import Progress, Subject

Indices = NDArray[np.int64]

# Steps of the attack that compares proposals; enough to order them, far from enough to judge one.
COMPARING_STEPS = 10
# Of the attack without gradients that follows it.
CHECKING_QUERIES = 50
# Samples that it is run on: more would not change the order.
COMPARED = 1000


@dataclass(frozen=True)
class _Proposal:
    choice: MaskChoice
    robust: int


def choose_mask(
    subject: Subject,
    target: Target,
    attack: Attack,
    select: Indices,
    calibration: Calibration,
    setting: HardenSetting,
    progress: Progress,
) -> MaskChoice:
    """Rank the features and choose how many of them to mask.

    Raises
    ------
    GateError
        Every size of every ranking costs more clean accuracy than is allowed.
    UsageError
        No such score, or a ratio out of its range.
    """
    names = candidates(setting.score)
    rankings = {name: _rank(name, calibration) for name in names}
    choices = _propose(subject, target, attack, select, calibration, setting, rankings, progress)
    if setting.score != AUTO:
        return choices[0]
    judge = setting.evaluation_attack(stop_early=True, steps=COMPARING_STEPS)
    best = _most_robust(subject, judge, select, choices, progress, "comparing masks")
    for number in range(2, setting.rounds + 1):
        calibration = _answered(subject, best.choice, attack, calibration)
        rankings = {f"{name}, round {number}": _rank(name, calibration) for name in LEARNING}
        try:
            choices = _propose(
                subject, target, attack, select, calibration, setting, rankings, progress
            )
        except GateError:
            # The answers to the best mask so far all cost too much: it stands.
            break
        stage = f"comparing, round {number}"
        challenger = _most_robust(subject, judge, select, choices, progress, stage)
        if challenger.robust > best.robust:
            best = challenger
    return best.choice


def _rank(name: str, calibration: Calibration) -> Ranking:
    return RANKINGS[name](calibration.statistics, calibration.head, calibration.captured)


def _propose(
    subject: Subject,
    target: Target,
    attack: Attack,
    select: Indices,
    calibration: Calibration,
    setting: HardenSetting,
    rankings: dict[str, Ranking],
    progress: Progress,
) -> list[MaskChoice]:
    """Return each ranking's best mask, or all at the given ratio."""
    if setting.mask_ratio is not None:
        size = size_of_ratio(subject.classifier.head.num_features, setting.mask_ratio)
        return [choose(ranking, size, name) for name, ranking in rankings.items()]
    curves = {name: MaskCurve.empty(ranking) for name, ranking in rankings.items()}
    pairs = attacked_pairs(target, attack, subject.threat, subject.dataset, select)
    parts = ((*features_of(pair, subject, calibration.head), pair.y) for pair in pairs)
    done = 0
    for group in in_groups(parts):
        for name, curve in curves.items():
            curves[name] = curve.update(calibration.head, group)
        done += group.count
        progress("mask sizes", done, len(select))
    choices: list[MaskChoice] = []
    refusal: GateError | None = None
    for name, curve in curves.items():
        try:
            size = best_size(curve, setting.max_accuracy_drop, surely=setting.score == AUTO)
        except GateError as error:
            refusal = refusal or error
            continue
        choices.append(choose(curve.ranking, size, name))
    if not choices and refusal is not None:
        raise refusal
    return choices


def _most_robust(
    subject: Subject,
    attack: Attack,
    select: Indices,
    choices: Sequence[MaskChoice],
    progress: Progress,
    stage: str,
) -> _Proposal:
    """Attack every proposal on the select split; the first of the most robust ones wins."""
    seed = subject.setting.seed
    # A mask that only hides the gradient must not win over one that helps.
    attacks = (attack, Square(queries=CHECKING_QUERIES, seed=seed))
    compared = some_of(select, subject.labels, COMPARED, seed)
    proposals: list[_Proposal] = []
    for number, choice in enumerate(choices):
        target = _masked(subject, choice)
        robust = 0
        for batch in subject.dataset.batches(compared, target.batch_size * 4):
            x = batch.x.astype(np.float32, copy=False)
            tried = worst_case(attacks, target, x, batch.y, batch.index, subject.threat)
            robust += int(tried.worst.sum())
        proposals.append(_Proposal(choice, robust))
        progress(stage, number + 1, len(choices))
    return max(proposals, key=lambda proposal: proposal.robust)


def _answered(
    subject: Subject, choice: MaskChoice, attack: Attack, calibration: Calibration
) -> Calibration:
    """Add the features of samples attacked on the masked model to the captured ones."""
    captured = calibration.captured
    target = _masked(subject, choice)
    pairs = attacked_pairs(target, attack, subject.threat, subject.dataset, calibration.kept)
    for part in pairs:
        _, attacked = features_of(part, subject, calibration.head, choice.mask)
        captured = captured.with_attacked(pooled(attacked), part.y)
    return replace(calibration, captured=captured)


def _masked(subject: Subject, choice: MaskChoice) -> Target:
    classifier = subject.classifier
    model = insert_mask(classifier.file.model, classifier.head, choice.mask, {})
    return subject.target(model)
