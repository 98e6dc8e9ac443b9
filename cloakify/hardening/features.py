"""Features of clean and attacked samples, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cloakify.attacks import Attack
from cloakify.attacks.pairs import Pairs, attacked_pairs
from cloakify.data import Batch
from cloakify.engine.task import Arrays, Task, Tell
from cloakify.experiment.experiment import Experiment
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.graph.edit.mask import mask_digest
from cloakify.masking.captured import pooled
from cloakify.masking.linear_head import LinearHead, at_answer, by_feature
from cloakify.masking.statistics import FeatureStatistics
from cloakify.numeric.arrays import Array, Indices


@dataclass(frozen=True)
class Calibrating(Task[Subject]):
    """Sums up what an attack does to the features, and captures those of some samples.

    What it makes is the sums by their names, and ``clean``, ``attacked`` and ``y`` of those samples
    that are among ``kept``.
    """

    attack: Attack
    kept: Indices
    name = "calibrating"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        pairs = _pairs(subject, self.attack, batch)
        linear = subject.linear_head(pairs.clean_features.ndim)
        clean, attacked = features_of(pairs, subject.first, linear)
        sums = _sums(pairs, clean, attacked, linear)
        if linear.cosine:
            # What counts toward a margin are features of length one.
            ready = _sums(pairs, linear.prepared(clean), linear.prepared(attacked), linear)
            sums = replace(sums, margin=ready.margin)
        keep = np.isin(pairs.index, self.kept)
        return {
            **{name: np.asarray(value) for name, value in vars(sums).items()},
            "clean": linear.prepared(pooled(clean)[keep]),
            "attacked": linear.prepared(pooled(attacked)[keep]),
            "y": pairs.y[keep],
            "rank": np.asarray(pairs.clean_features.ndim),
        }


@dataclass(frozen=True, eq=False)
class Capturing(Task[Subject]):
    """Captures clean and attacked features, as :func:`features_of` returns them, and labels.

    Attributes
    ----------
    attack
        On the model.
    rank
        Of the head's features.
    mask
        The mask [D] that the model has, where it has one; the attacked features alone are then
        made, and pooled.
    """

    attack: Attack
    rank: int
    mask: Array | None = None

    @property
    def name(self) -> str:
        """See :attr:`Task.name`."""
        return "capturing" if self.mask is None else f"capturing-{mask_digest(self.mask)[:16]}"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        pairs = _pairs(subject, self.attack, batch, self.mask)
        linear = subject.linear_head(self.rank)
        clean, attacked = features_of(pairs, subject.first, linear, self.mask)
        if self.mask is not None:
            return {"attacked": linear.prepared(pooled(attacked)), "y": pairs.y}
        clean, attacked = linear.prepared(clean), linear.prepared(attacked)
        return {"clean": clean, "attacked": attacked, "y": pairs.y}


def features_of(
    pairs: Pairs, experiment: Experiment, linear: LinearHead, mask: Array | None = None
) -> tuple[Array, Array]:
    """Return clean and attacked features as [n, D] or [n, P, D].

    Where the logits are read from one of P positions, its features alone are returned.

    Parameters
    ----------
    mask
        The mask [D] that the model had.
    """
    head = experiment.classifier.head
    clean, attacked = (
        by_feature(side, head) for side in (pairs.clean_features, pairs.attacked_features)
    )
    if clean.ndim == 2:
        return clean, attacked
    places = at_answer(clean, pairs.clean_logits, linear, mask)
    if places is None:
        return clean, attacked
    rows = np.arange(len(clean))
    return clean[rows, places], attacked[rows, places]


def _sums(pairs: Pairs, clean: Array, attacked: Array, linear: LinearHead) -> FeatureStatistics:
    return FeatureStatistics.of_pairs(
        clean, attacked, pairs.clean_logits, pairs.attacked_logits, pairs.y, linear.weight
    )


def _pairs(subject: Subject, attack: Attack, batch: Batch, mask: Array | None = None) -> Pairs:
    target = subject.targets[SOURCE] if mask is None else subject.masks.target(mask)
    return attacked_pairs(target, subject.attack(attack), subject.first.threat, batch)
