"""Clean and attacked samples side by side, with their features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cloakify.attacks.base import Attack
from cloakify.attacks.fgsm import Fgsm
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.data import Dataset
from cloakify.numeric.arrays import Array, Labels, floats


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


def attacked_pairs(
    target: Target,
    attack: Attack,
    threat: ThreatModel,
    dataset: Dataset,
    indices: Labels,
) -> Iterator[Pairs]:
    """Attack samples batch by batch and capture the features on both sides.

    FGSM costs three forward passes a sample: forward and backward, which also yields the clean
    features, and one forward of the attacked sample.
    """
    for batch in dataset.batches(indices, target.span):
        x = floats(batch.x)
        if isinstance(attack, Fgsm):
            step = target.step(x, batch.y, x, threat, threat.eps)
            clean_features, clean_logits, attacked = step.features, step.logits, step.x
        else:
            clean_features, clean_logits = target.features_and_logits(x)
            attacked = attack.run(target, x, batch.y, batch.index, threat)
        features, logits = target.features_and_logits(attacked)
        yield Pairs(clean_features, features, clean_logits, logits, batch.y, batch.index)
