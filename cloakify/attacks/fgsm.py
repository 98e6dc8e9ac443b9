"""The fast gradient sign method."""

from __future__ import annotations

from cloakify.attacks.base import Attack
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels


class Fgsm(Attack):
    """One step of the full budget along the gradient of the cross-entropy with the true label.

    Goodfellow et al., arXiv 1412.6572, section 4: ``x′ = x + ε·sign ∇ₓ loss``; for l2 the
    normalised gradient takes the place of its sign.
    """

    name = "fgsm"

    @property
    def steps(self) -> int:
        """One."""
        return 1

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        return target.step(x, y, x, threat, threat.eps).x
