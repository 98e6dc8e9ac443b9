"""How gates are tuned: all that a run goes by, but for the samples."""

from __future__ import annotations

from dataclasses import dataclass

from cloakify.masking.optimiser import Kind


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """How to tune.

    Attributes
    ----------
    steps, batch_size
        Steps of the optimiser and samples in each: of larger ones there is time for fewer, which
        together learn less.
    rate
        Adam's learning rate; it falls to 0 along a cosine.
    step_ratio
        Length of the attack's step, in ε; k steps have 1/√k of it each.
    attack_steps
        How many steps the attack takes, as long as that says enough of PGD. With two gates gain
        more than with one for the same clean accuracy, and with three no more than with two.
    own_rate
        What gates of positions have to themselves moves so much slower than what those of a channel
        share (:mod:`~cloakify.masking.optimiser`).
    warmup
        Share of the steps in which ε rises from 0 to its full size.
    clean_share
        Share of each batch that is left clean, so that clean accuracy has a say in the loss.
    max_accuracy_drop
        What clean accuracy may be spent on held-out samples. The weight of the clean samples
        doubles with every point over that at a check and halves with every point under.
    checks
        How often the gates are tried on held-out samples.
    patience
        How many checks in a row may bring nothing better.
    kind
        ``positive`` or ``binary``.
    mixtures
        How many mixtures with others each sample is learned by (:mod:`~cloakify.masking.mixing`);
        0 to learn from the samples themselves.
    seed
        Of the order of the samples, of their mixing and of the random starts.
    """

    steps: int
    batch_size: int = 64
    rate: float = 0.03
    step_ratio: float = 1.25
    attack_steps: int = 2
    own_rate: float = 0.3
    warmup: float = 0.1
    clean_share: float = 0.25
    max_accuracy_drop: float
    checks: int = 5
    patience: int = 3
    kind: Kind = "positive"
    mixtures: int = 0
    seed: int = 0
