"""What puts the adaptive figure of `harden` in doubt: attacks that fail for the wrong reason."""

from __future__ import annotations

import numpy as np

from cloakify.attacks import Target
from cloakify.attacks.square import Square
from cloakify.data import Splits
from cloakify.data.splits import some_of
from cloakify.evaluation.near_copies import near_copies
from cloakify.evaluation.probes import probe_model
from cloakify.evaluation.robustness import Correctness
from cloakify.evaluation.warnings import (
    HARMLESS,
    NO_WHITE_BOX,
    EvaluationWarning,
    blocked_gradients,
    gradient_free_stronger,
    near_copies_reported,
    probe_warnings,
)
from cloakify.experiment.effort import effort_of
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.numeric.arrays import Flags, Indices, floats
from cloakify.settings import HardenSetting

STAGE = "looking for masked gradients"


def check_masking(
    experiment: Experiment,
    target: Target,
    splits: Splits,
    correctness: Correctness,
    white_box: bool,
    progress: Progress,
) -> list[EvaluationWarning]:
    """Look at outputs and gradients, and try without gradients what the attacks left standing.

    Parameters
    ----------
    target
        The hardened model.
    splits, correctness
        How the samples were dealt, and what the attacks did to the report split.
    white_box
        Whether they followed the gradient; where they did not, that is itself a doubt.
    """
    indices = splits.report
    coverage = experiment.classifier.coverage
    known = [
        *_copies(experiment, splits, progress),
        *filter(None, [blocked_gradients(coverage.blocked, coverage.passable)]),
    ]
    probes = probe_model(
        target,
        experiment.threat,
        experiment.dataset,
        indices=indices,
        gradients=white_box,
        progress=lambda done: progress(STAGE, done, len(indices)),
    )
    if not white_box:
        return [*known, *probe_warnings(probes), NO_WHITE_BOX]
    stronger = _gradient_free(experiment, target, indices, correctness.adaptive, progress)
    return [*known, *probe_warnings(probes), *filter(None, [stronger])]


def _gradient_free(
    experiment: Experiment, target: Target, indices: Indices, right: Flags, progress: Progress
) -> EvaluationWarning | None:
    """Run Square on some of the samples that stand, as a share of which it is then counted."""
    setting = experiment.setting
    assert isinstance(setting, HardenSetting)
    effort = effort_of(setting)
    square = Square(queries=effort.checking_queries, seed=setting.run.seed)
    rows = np.flatnonzero(right)
    if not len(rows):
        return None
    chosen = some_of(indices[rows], experiment.labels, effort.checked, setting.run.seed)
    standing: list[Flags] = []
    done = 0
    progress("trying without gradients", done, len(chosen))
    for batch in experiment.dataset.batches(chosen, target.span):
        x = floats(batch.x)
        attacked = square.run(target, x, batch.y, batch.index, experiment.threat)
        standing.append(target.correct(attacked, batch.y))
        done += len(batch.y)
        progress("trying without gradients", done, len(chosen))
    left = np.concatenate(standing)
    # Those that fell to the other attacks count as well: they are in the same proportion here.
    fallen = np.zeros(round(len(chosen) * (len(right) - len(rows)) / len(rows)), np.bool_)
    before = np.concatenate([np.ones(len(chosen), np.bool_), fallen])
    return gradient_free_stronger(before, np.concatenate([left, fallen]), square.name)


def _copies(experiment: Experiment, splits: Splits, progress: Progress) -> list[EvaluationWarning]:
    """Look for near copies in the report split of what the mask was made or chosen with."""
    if experiment.inside is not None:
        # Values inside the graph have no scale on which they would be near.
        return []
    used = np.concatenate([splits.fit, splits.select])
    flags = near_copies(
        experiment.dataset,
        splits.report,
        used,
        experiment.threat,
        lambda done: progress("looking for near copies", done, len(used)),
    )
    return list(filter(None, [near_copies_reported(flags)]))


def codes_in_doubt(warnings: list[EvaluationWarning]) -> list[str]:
    """Return the codes that forbid to claim a gain."""
    return [warning.code for warning in warnings if warning.code not in HARMLESS]
