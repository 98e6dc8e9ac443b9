"""Clean and attacked samples side by side, with their features."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from cloakify.attacks.base import Attack
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.data import Batch
from cloakify.errors import ModelError
from cloakify.numeric.arrays import Array, Labels, as_rows, floats


@dataclass(frozen=True)
class Pairs:
    """n clean / attacked pairs.

    Attributes
    ----------
    clean_features, attacked_features
        [n, …], as the head takes them.
    clean_logits, attacked_logits
        [n, C].
    y, index
        int64 [n].
    """

    clean_features: Array
    attacked_features: Array
    clean_logits: Array
    attacked_logits: Array
    y: Labels
    index: Labels

    def of_numbers(self) -> Pairs:
        """Return the pairs of which all features and logits are finite."""
        arrays = (getattr(self, part.name) for part in fields(self))
        finite = [np.isfinite(as_rows(array, len(self.y))).all(axis=1) for array in arrays]
        kept = np.logical_and.reduce(finite)
        return self if kept.all() else Pairs(*(getattr(self, p.name)[kept] for p in fields(self)))


def attacked_pairs(target: Target, attack: Attack, threat: ThreatModel, batch: Batch) -> Pairs:
    """Attack samples and capture the features on both sides.

    Pairs whose features or logits are no finite numbers are left out: no sum with one is a number.

    FGSM costs three forward passes a sample: forward and backward, which also yields the clean
    features, and one forward of the attacked sample.

    Raises
    ------
    ModelError
        Features are not counted by samples.
    """
    x = floats(batch.x)
    if isinstance(attack, Fgsm):
        step = target.step(x, batch.y, x, threat, threat.eps)
        clean_features, clean_logits, attacked = step.features, step.logits, step.x
    else:
        clean_features, clean_logits = target.features_and_logits(x)
        attacked = attack.run(target, x, batch.y, batch.index, threat)
    if len(clean_features) != len(x):
        raise ModelError(
            f"{target.name}: {target.scores.features!r} has {len(clean_features)} rows of features "
            f"for {len(x)} samples, as of crops that are folded into the batch: a mask can't be "
            "chosen by them; evaluate and attack take the model, and so does --method tuned"
        )
    features, logits = target.features_and_logits(attacked)
    pairs = Pairs(clean_features, features, clean_logits, logits, batch.y, batch.index)
    return pairs.of_numbers()
