"""What puts the adaptive figure of `harden` in doubt: attacks that fail for the wrong reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cloakify.assessment.looking_for_copies import EngineLooks
from cloakify.attacks import Attack
from cloakify.attacks.square import Square
from cloakify.data import Batch, Splits
from cloakify.data.splits import some_of
from cloakify.engine.engine import Engine
from cloakify.engine.task import Arrays, Job, Task, Tell, work_of
from cloakify.evaluation.figures import Difference
from cloakify.evaluation.near_copies import near_copies
from cloakify.evaluation.robustness import Correctness
from cloakify.evaluation.warnings import (
    HARMLESS,
    EvaluationWarning,
    WarningCode,
    blocked_gradients,
    gradient_free_stronger,
    near_copies_reported,
    no_white_box,
    planted_missed,
    probe_warnings,
)
from cloakify.experiment.counting import counted
from cloakify.experiment.effort import Effort
from cloakify.experiment.evaluation_tasks import look, looking, plant, planting
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.experiment.subject import Subject, Which
from cloakify.numeric.arrays import Flags, Indices, floats, in_chunks
from cloakify.settings import MaskingOptions

STAGE = "looking for masked gradients"


def check_masking(
    subject: Subject,
    engine: Engine[Subject],
    effort: Effort,
    which: Which,
    splits: Splits,
    correctness: Correctness,
    attacks: Sequence[Attack],
    progress: Progress,
) -> list[EvaluationWarning]:
    """Look at outputs and gradients, and try without gradients what the attacks left standing.

    Parameters
    ----------
    effort
        On how many samples to look at most.
    which
        The hardened model.
    splits, correctness
        How the samples were dealt, and what the attacks did to the report split.
    attacks
        The ones that judged; where they did not follow the gradient, that is itself a doubt.
    """
    experiment, indices = subject.first, splits.report
    white_box = all(attack.gradient == "white-box" for attack in attacks)
    coverage = experiment.classifier.coverage
    known = [
        *_copies(subject, engine, splits, progress),
        *filter(None, [blocked_gradients(coverage.blocked, coverage.passable)]),
    ]
    looks = [looking(subject, which, white_box, _some(experiment, indices, effort.probed))]
    (probes,) = look(engine, looks, counted(progress, STAGE, work_of(looks)))
    if not white_box:
        return [*known, *probe_warnings(probes, follows=False), no_white_box(coverage.missing)]
    test = plant(engine, planting(which, attacks, indices, experiment.setting.run.seed))
    stronger = _gradient_free(
        subject, engine, effort, which, indices, correctness.adaptive, progress
    )
    doubts = filter(None, [planted_missed(test), stronger])
    return [*known, *probe_warnings(probes), *doubts]


@dataclass(frozen=True)
class TryingBlind(Task[Subject]):
    """Attacks a model without gradients; tells which samples withstand it."""

    which: Which
    square: Square
    name = "blind"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        target, threat, x = subject.target(self.which), subject.first.threat, floats(batch.x)
        attacked = self.square.run(target, x, batch.y, batch.index, threat)
        return {"standing": target.correct(attacked, batch.y)}


def _gradient_free(
    subject: Subject,
    engine: Engine[Subject],
    effort: Effort,
    which: Which,
    indices: Indices,
    right: Flags,
    progress: Progress,
) -> EvaluationWarning | None:
    """Run Square on some of the samples that stand, as a share of which it is then counted."""
    experiment = subject.first
    square = Square(queries=effort.checking_queries, seed=experiment.setting.run.seed)
    rows = np.flatnonzero(right)
    if not len(rows):
        return None
    chosen = _some(experiment, indices[rows], effort.checked)
    job = Job(TryingBlind(which, square), in_chunks(chosen, subject.target(which).span))
    tell = counted(progress, "trying without gradients", job.work)
    left = np.concatenate([part["standing"] for part in engine.map(job, tell)], dtype=np.bool_)
    # Those that fell to the other attacks count as well: they are in the same proportion here.
    fallen = np.zeros(round(len(chosen) * (len(right) - len(rows)) / len(rows)), np.bool_)
    before = np.concatenate([np.ones(len(chosen), np.bool_), fallen])
    return gradient_free_stronger(before, np.concatenate([left, fallen]), square.name)


def _some(experiment: Experiment, indices: Indices, most: int | None) -> Indices:
    return some_of(indices, experiment.labels, most, experiment.setting.run.seed)


def _copies(
    subject: Subject, engine: Engine[Subject], splits: Splits, progress: Progress
) -> list[EvaluationWarning]:
    """Look for near copies in the report split of what the mask was made or chosen with."""
    if subject.first.latent is not None:
        # Values inside the graph have no scale on which they would be near.
        return []
    used = np.concatenate([splits.fit, splits.select])
    flags = near_copies(
        EngineLooks(subject, engine),
        splits.report,
        used,
        lambda done: progress("looking for near copies", done, len(used)),
    )
    return list(filter(None, [near_copies_reported(flags)]))


def over_budget(change: Difference, masking: MaskingOptions) -> EvaluationWarning | None:
    """Warn where a mask or gates that were chosen cost more clean accuracy than they may.

    That was kept on the samples of the choice. On others it counts as broken where luck with them
    does not explain it.

    Parameters
    ----------
    change
        Of the clean accuracy, on samples that nothing was chosen on.
    """
    if masking.ratio is not None or change.high >= -masking.max_accuracy_drop:
        return None
    cost, low, high = (-100 * part for part in (change.value, change.high, change.low))
    return EvaluationWarning(
        WarningCode.OVER_BUDGET,
        f"clean accuracy falls by {cost:.1f} points (95 % interval {low:.1f} to {high:.1f}), and "
        f"by {100 * masking.max_accuracy_drop:g} at most was asked for (--max-accuracy-drop)",
        -change.value,
    )


def codes_in_doubt(warnings: list[EvaluationWarning]) -> list[str]:
    """Return the codes that forbid to claim a gain."""
    return [warning.code for warning in warnings if warning.code not in HARMLESS]
