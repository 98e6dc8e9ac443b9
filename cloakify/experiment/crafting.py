"""Attacked samples of a model, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.engine.task import Arrays, Task, Tell
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.numeric.arrays import floats


def part_key(place: int) -> str:
    """Return what the attacked samples of an input are called, by its place among these."""
    return f"x{place or ''}"


@dataclass(frozen=True)
class Crafting(Task[Subject]):
    """Attacks the model.

    What it makes of n samples: ``x`` as the model takes them, or the tensor that is attacked inside
    the graph, and ``x1``, … of further inputs that are attacked; ``right``, bool [2, n], clean and
    attacked; and of independent labels ``logits``, [2, n, K].
    """

    attack: Attack
    name = "crafting"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        experiment, target = subject.first, subject.targets[SOURCE]
        latent, clean = experiment.latent, floats(batch.x)
        attacked = self.attack.run(target, clean, batch.y, batch.index, experiment.threat)
        sides = (clean, attacked)
        count = len(experiment.classifier.entry.perturbed)
        parts = [attacked] if latent is None else latent.packing.parts_of(attacked, count)
        made = {
            **{part_key(place): part for place, part in enumerate(parts)},
            "right": np.stack([target.correct(side, batch.y) for side in sides]),
        }
        if target.independent:
            made["logits"] = np.stack([target.logits(side) for side in sides])
        return made
