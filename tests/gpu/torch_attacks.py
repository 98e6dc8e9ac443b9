"""The attacks of the table for a torch module, on the device that it is on.

Everything stays there; samples come in batches of one size, so that a compiled module is compiled
once. The arithmetic is that of cloakify's: FGSM, PGD with a random start, Auto-PGD with momentum
0.75 (Croce & Hein, arXiv 2003.01690, algorithm 1, its conditions at the same checkpoints).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

MOMENTUM = 0.75

# Logits and features.
Network = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class WithFeatures(torch.nn.Module):
    """A classifier that ends in a linear layer, returning logits and what that layer reads.

    A hook would do, but for the compiler, which compiles anew as often as what it writes to grows.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
        self.head = model.get_submodule(linear[-1])
        model.set_submodule(linear[-1], torch.nn.Identity())
        self.backbone = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(x)
        return self.head(features), features


def gradient(network: Network, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return ∂(Σ loss)/∂x, each sample's loss [n], and the features [n, D]."""
    point = x.detach().requires_grad_()
    logits, features = network(point)
    loss = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    (found,) = torch.autograd.grad(loss.sum(), point)
    return found, loss.detach(), features.detach()


def calibrate(network: Network, x: torch.Tensor, y: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the sums of the features' changes under FGSM [D]."""
    found, _, clean = gradient(network, x, y)
    attacked = (x + eps * found.sign()).clamp(0, 1)
    with torch.no_grad():
        _, moved = network(attacked)
    return (moved - clean).abs().sum(0)


def pgd(network: Network, x: torch.Tensor, y: torch.Tensor, eps: float, steps: int) -> torch.Tensor:
    """Return attacked samples, all steps taken."""
    at = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        found, *_ = gradient(network, at, y)
        at = project(at + eps / 4 * found.sign(), x, eps)
    return at


def project(at: torch.Tensor, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the nearest point of ball and box."""
    return torch.minimum(torch.maximum(at, x - eps), x + eps).clamp(0, 1)


def apgd(
    network: Network, x: torch.Tensor, y: torch.Tensor, eps: float, steps: int
) -> torch.Tensor:
    """Return the points of the highest loss, all steps taken."""
    at = before = (x + torch.empty_like(x).uniform_(-eps, eps)).clamp(0, 1)
    slope, best, _ = gradient(network, at, y)
    best_at, best_slope, last = at, slope, best
    step = torch.full((len(x), *[1] * (x.ndim - 1)), 2 * eps, device=x.device)
    rises = torch.zeros(len(x), device=x.device)
    kept_step, kept_best = step.clone(), best.clone()
    checks, begun = set(checkpoints(steps)), 0
    for number in range(1, steps + 1):
        moved = project(at + step * slope.sign(), x, eps)
        share = 1.0 if number == 1 else MOMENTUM
        moved = project(at + share * (moved - at) + (1 - share) * (at - before), x, eps)
        before, at = at, moved
        slope, loss, _ = gradient(network, at, y)
        rises += loss > last
        last = loss
        better = (loss > best).view_as(step)
        best_at, best_slope = (
            torch.where(better, at, best_at),
            torch.where(better, slope, best_slope),
        )
        best = torch.maximum(loss, best)
        if number in checks:
            few = rises < 0.75 * (number - begun)
            stuck = (kept_step == step).flatten() & (kept_best == best)
            halve = (few | stuck).view_as(step)
            kept_step, kept_best = step.clone(), best.clone()
            step = torch.where(halve, step / 2, step)
            at, slope = torch.where(halve, best_at, at), torch.where(halve, best_slope, slope)
            rises, begun = torch.zeros_like(rises), number
    return best_at


def checkpoints(steps: int) -> list[int]:
    """Return the iterations at which the step may be halved: p ← p + max(p − p′ − 0.03, 0.06)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [-int(-share * steps // 1) for share in shares[1:] if share <= 1]
