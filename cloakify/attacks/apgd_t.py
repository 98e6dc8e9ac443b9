"""Auto-PGD towards other classes, one after another."""

from __future__ import annotations

from cloakify.attacks.apgd import ApgdSettings, run_apgd
from cloakify.attacks.base import Attack
from cloakify.attacks.target import Target
from cloakify.attacks.threat import ThreatModel
from cloakify.numeric.arrays import Array, Labels


class ApgdT(Attack):
    """Auto-PGD on the targeted difference of logits ratio (arXiv 2003.01690, equation 7).

    A sample is led towards the classes of the next-largest logits in turn until one of them fools
    the model. The ratio needs four classes; with fewer, the difference of the two logits takes its
    place. What comes back for samples that were or stay wrong or right is as for
    :class:`~cloakify.attacks.apgd.Apgd`.

    Parameters
    ----------
    steps
        Steps for each target class.
    num_targets
        How many classes to try; at most all the others.
    by_slope
        Try those first whose border is nearest to first order (see
        :func:`~cloakify.attacks.target_order.steepest_rivals`), not those of the largest logits:
        where few are tried, they are the better ones.
    restarts
        How often to start for each of them.
    stop_early, seed
        As for :class:`~cloakify.attacks.apgd.Apgd`.
    """

    name = "apgd-t"

    def __init__(
        self,
        *,
        steps: int = 100,
        num_targets: int = 9,
        by_slope: bool = False,
        restarts: int = 1,
        stop_early: bool = True,
        seed: int = 0,
    ) -> None:
        self._steps = steps
        self.num_targets = num_targets
        self.by_slope = by_slope
        self.restarts = restarts
        self.stop_early = stop_early
        self.seed = seed

    @property
    def steps(self) -> int:
        """Steps for each target class."""
        return self._steps

    def run(self, target: Target, x: Array, y: Labels, index: Labels, threat: ThreatModel) -> Array:
        """See :meth:`Attack.run`."""
        settings = ApgdSettings(
            loss="targeted-dlr" if target.num_choices >= 4 else "targeted-margin",
            steps=self.steps,
            restarts=self.restarts,
            stop_early=self.stop_early,
            seed=self.seed,
            num_targets=self.num_targets,
            by_slope=self.by_slope,
        )
        return run_apgd(target, (x, y, index), threat, settings)
