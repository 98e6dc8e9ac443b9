"""The momentum iterative fast gradient sign method."""

from __future__ import annotations

from cloakify.attacks.pgd import Pgd


class MiFgsm(Pgd):
    """Steps along an accumulated gradient, from the clean sample.

    Dong et al., arXiv 1710.06081, algorithm 1: ``v ← μ·v + g/‖g‖₁, x ← x + α·sign v``, projected
    back. What it finds transfers between models better than what single gradients lead to. It has
    no randomness.

    Parameters
    ----------
    steps
        Iterations; 10 in the paper.
    step_size
        α in data units; ε/steps when left out, as in the paper.
    momentum
        Decay μ of the accumulated gradient; 1 in the paper.
    stop_early
        As for :class:`~cloakify.attacks.pgd.Pgd`.
    """

    name = "mi-fgsm"
    travel = 1.0

    def __init__(
        self,
        *,
        steps: int = 10,
        step_size: float | None = None,
        momentum: float = 1.0,
        stop_early: bool = True,
    ) -> None:
        super().__init__(
            steps=steps,
            step_size=step_size,
            random_start=False,
            momentum=momentum,
            stop_early=stop_early,
        )
