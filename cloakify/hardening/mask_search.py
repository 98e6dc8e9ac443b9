"""Choose the mask: how to rank the features, and how many of them to mask.

Every ranking proposes the mask that is best on static samples of the select split. Where several
compete, those count that keep a standard error away from the budget, as long as there are any, and
an adaptive attack on each proposal decides, since gains on static samples are not robustness; and
the winner is then attacked again, so that a second round of ranking knows what that attack does to
the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from cloakify.attacks import Attack
from cloakify.attacks.square import Square
from cloakify.data.splits import some_of
from cloakify.engine.engine import Engine
from cloakify.engine.task import Job, untold
from cloakify.experiment.chosen_attacks import evaluation_attack
from cloakify.experiment.counting import counted
from cloakify.experiment.effort import effort_of
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.hardening.calibration import Calibration
from cloakify.hardening.features import Capturing
from cloakify.hardening.mask_race import MaskRace
from cloakify.masking.curve import MaskCurve, Part, in_groups
from cloakify.masking.linear_head import LinearHead
from cloakify.masking.mask_choice import MaskChoice, best_size, choose, refusal, size_of_ratio
from cloakify.masking.rankings import AUTO, LEARNING, RANKINGS, candidates
from cloakify.numeric.arrays import Indices, in_chunks
from cloakify.settings import HardenSetting

# By the name of the score, each of its ways to rank.
_Rankings = dict[str, tuple[Indices, ...]]
_Curves = dict[str, list[MaskCurve]]

# Bytes of features up to which they are kept for later rounds.
KEPT = 1 << 28


class _Kept:
    """What can be gone through more than once: kept as it is gone through, where it is not large.

    Parameters
    ----------
    source
        Makes the parts anew.
    """

    def __init__(self, source: Callable[[], Iterable[Part]]) -> None:
        self._source = source
        self._parts: list[Part] | None = None

    def __iter__(self) -> Iterator[Part]:
        if self._parts is not None:
            yield from self._parts
            return
        parts: list[Part] = []
        room = KEPT
        for part in self._source():
            room -= sum(array.nbytes for array in part)
            if room >= 0:
                parts.append(part)
            else:
                parts.clear()
            yield part
        if room >= 0:
            self._parts = parts


def choose_mask(
    subject: Subject,
    engine: Engine[Subject],
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

    experiment = subject.first
    chunks = in_chunks(select, subject.targets[SOURCE].span)
    capturing = Job(Capturing(attack, calibration.rank), chunks)

    def captured() -> Iterator[Part]:
        for part in engine.map(capturing, untold):
            yield part["clean"], part["attacked"], part["y"]

    parts = _Kept(captured)

    def curves_of(rankings: _Rankings) -> _Curves:
        return _count(rankings, parts, calibration.head, len(select), progress)

    rankings = _ranked(candidates(setting.masking.score), calibration, "", progress)
    conservative = setting.masking.score == AUTO
    choices = _given(rankings, experiment, setting)
    if not choices:
        curves = curves_of(rankings)
        choices = _within_budget(curves, setting.masking.max_accuracy_drop, conservative)
        if not choices and conservative:
            conservative = False
            choices = _within_budget(curves, setting.masking.max_accuracy_drop, conservative)
        if not choices:
            raise refusal(next(iter(curves.values()))[0], setting.masking.max_accuracy_drop)
    if setting.masking.score != AUTO:
        return choices[0]
    # What crafted the static samples is not needed before the next round.
    subject.let_go()
    race = _race(subject, engine, select, setting)
    best = race.run(choices, "comparing masks", progress)
    for number in range(2, (setting.masking.rounds or effort_of(setting).rounds) + 1):
        again = f", round {number}"
        calibration = _answered(subject, engine, best, attack, calibration, again, progress)
        rankings = _ranked(LEARNING, calibration, again, progress)
        choices = _given(rankings, experiment, setting) or _within_budget(
            curves_of(rankings), setting.masking.max_accuracy_drop, conservative
        )
        if not choices:
            # The answers to the best mask so far all cost too much: it stands.
            break
        best = race.run(choices, f"comparing, round {number}", progress)
    return best


def _race(
    subject: Subject, engine: Engine[Subject], select: Indices, setting: HardenSetting
) -> MaskRace:
    """Return what compares masks on some of the select split, under attack."""
    effort, seed = effort_of(setting), setting.run.seed
    compared = some_of(select, subject.first.labels, effort.compared, seed)
    comparing = (
        evaluation_attack(setting, stop_early=True, steps=effort.comparing_steps),
        # A mask that only hides the gradient must not win over one that helps.
        Square(queries=effort.comparing_queries, seed=seed),
    )
    opening = evaluation_attack(setting, stop_early=False, steps=effort.comparing_steps)
    return MaskRace(subject, engine, compared, opening, comparing)


def _ranked(
    names: Iterable[str], calibration: Calibration, again: str, progress: Progress
) -> _Rankings:
    """Rank the features by each score, which may take a while without a run of the model."""
    names = tuple(names)
    rankings: _Rankings = {}
    count = counted(progress, f"ranking features{again}", len(names))
    for name in names:
        rankings[f"{name}{again}"] = RANKINGS[name](
            calibration.statistics, calibration.head, calibration.captured
        )
        count(1)
    return rankings


def _given(rankings: _Rankings, experiment: Experiment, setting: HardenSetting) -> list[MaskChoice]:
    """Return each score's mask of the size that was asked for; none where the size is free."""
    if setting.masking.ratio is None:
        return []
    size = size_of_ratio(experiment.classifier.head.num_features, setting.masking.ratio)
    return [choose(ways[0], size, name) for name, ways in rankings.items()]


def _count(
    rankings: _Rankings,
    parts: Iterable[Part],
    head: LinearHead,
    total: int,
    progress: Progress,
) -> _Curves:
    """Return the curves of all rankings over the samples of the select split."""
    curves = {name: [MaskCurve.empty(way) for way in ways] for name, ways in rankings.items()}
    done = 0
    progress("mask sizes", done, total)
    for group in in_groups(parts):
        for name, ways in curves.items():
            curves[name] = [curve.update(head, group) for curve in ways]
        done += group.count
        progress("mask sizes", done, total)
    return curves


def _within_budget(
    curves: _Curves, max_accuracy_drop: float, conservative: bool
) -> list[MaskChoice]:
    """Return the best mask of each ranking that has one within the budget."""
    sizes = [
        (name, curve, best_size(curve, max_accuracy_drop, conservative=conservative))
        for name, ways in curves.items()
        for curve in ways
    ]
    return [choose(curve.ranking, size, name) for name, curve, size in sizes if size is not None]


def _answered(
    subject: Subject,
    engine: Engine[Subject],
    choice: MaskChoice,
    attack: Attack,
    calibration: Calibration,
    again: str,
    progress: Progress,
) -> Calibration:
    """Add the features of samples attacked on the masked model to the captured ones."""
    captured = calibration.captured
    chunks = in_chunks(calibration.kept, subject.targets[SOURCE].span)
    task = Capturing(attack, calibration.rank, choice.mask)
    job = Job(task, chunks)
    for part in engine.map(job, counted(progress, f"calibrating{again}", job.work)):
        captured = captured.with_attacked(part["attacked"], part["y"])
    return replace(calibration, captured=captured)
