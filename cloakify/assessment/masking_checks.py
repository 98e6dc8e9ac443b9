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
    Finding,
    blocked_gradients,
    gradient_free_stronger,
    near_copies_reported,
    of_probes,
)
from cloakify.experiment.experiment import Experiment, Progress
from cloakify.numeric.arrays import floats
from cloakify.report.records import Notice

# Of the gradient-free check; far fewer than the attack takes in `evaluate`, and enough to fool a
# model that only hides its gradients.
QUERIES = 200

STAGE = "looking for masked gradients"


def find_doubts(
    experiment: Experiment,
    target: Target,
    splits: Splits,
    found: Correctness,
    white_box: bool,
    progress: Progress,
) -> list[Finding]:
    """Look at outputs and gradients, and try without gradients what the attacks left standing.

    Parameters
    ----------
    target
        The hardened model.
    splits, found
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
        return [*known, *of_probes(probes), NO_WHITE_BOX]
    square = Square(queries=QUERIES, seed=experiment.setting.run.seed)
    standing = found.adaptive.copy()
    place = 0
    for batch in experiment.dataset.batches(indices, target.span):
        rows = place + np.flatnonzero(standing[place : place + len(batch.y)])
        kept = rows - place
        if len(kept):
            x, y = floats(batch.x[kept]), batch.y[kept]
            attacked = square.run(target, x, y, batch.index[kept], experiment.threat)
            standing[rows] = target.correct(attacked, y)
        place += len(batch.y)
    stronger = gradient_free_stronger(found.adaptive, standing, square.name)
    return [*known, *of_probes(probes), *([] if stronger is None else [stronger])]


def _copies(experiment: Experiment, splits: Splits, progress: Progress) -> list[Finding]:
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
    found = near_copies_reported(flags)
    return [] if found is None else [found]


def notices(findings: list[Finding]) -> tuple[Notice, ...]:
    """Return findings as the report lists them."""
    return tuple(Notice(finding.code, finding.message, finding.value) for finding in findings)


def codes_in_doubt(findings: list[Finding]) -> list[str]:
    """Return the codes that forbid to claim a gain."""
    return [finding.code for finding in findings if finding.code not in HARMLESS]
