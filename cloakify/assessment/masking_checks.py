"""What puts the adaptive figure of `harden` in doubt: attacks that fail for the wrong reason."""

from __future__ import annotations

import numpy as np

from cloakify.attacks import Target
from cloakify.attacks.square import Square
from cloakify.data import Splits
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
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.numeric.arrays import floats

# Of the gradient-free check; far fewer than the attack takes in `evaluate`, and enough to fool a
# model that only hides its gradients.
QUERIES = 200

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
    square = Square(queries=QUERIES, seed=experiment.setting.run.seed)
    standing = correctness.adaptive.copy()
    place = 0
    for batch in experiment.dataset.batches(indices, target.span):
        rows = place + np.flatnonzero(standing[place : place + len(batch.y)])
        kept = rows - place
        if len(kept):
            x, y = floats(batch.x[kept]), batch.y[kept]
            attacked = square.run(target, x, y, batch.index[kept], experiment.threat)
            standing[rows] = target.correct(attacked, y)
        place += len(batch.y)
    stronger = gradient_free_stronger(correctness.adaptive, standing, square.name)
    return [*known, *probe_warnings(probes), *([] if stronger is None else [stronger])]


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
