"""Attacked samples of a model, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cloakify.attacks import Attack
from cloakify.data import Batch
from cloakify.engine.task import Arrays, Task, Tell
from cloakify.experiment.subject import SOURCE, Subject
from cloakify.numeric.arrays import floats


@dataclass(frozen=True)
class Crafting(Task[Subject]):
    """Attacks the model.

    What it makes of n samples: ``x`` as the model takes them, or the tensor that is attacked inside
    the graph; ``right``, bool [2, n], clean and attacked; and of independent labels ``logits``,
    [2, n, K].
    """

    attack: Attack
    name = "crafting"

    def run(self, subject: Subject, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        experiment, target = subject.first, subject.targets[SOURCE]
        latent, clean = experiment.latent, floats(batch.x)
        attacked = self.attack.run(target, clean, batch.y, batch.index, experiment.threat)
        sides = (clean, attacked)
        made = {
            "x": attacked if latent is None else latent.packing.tensor_of(attacked),
            "right": np.stack([target.correct(side, batch.y) for side in sides]),
        }
        if target.independent:
            made["logits"] = np.stack([target.logits(side) for side in sides])
        return made
