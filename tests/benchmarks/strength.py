"""cloakify's attacks on ONNX files against AutoAttack's own program on the torch originals.

    python tests/benchmarks/strength.py [--models fashion_pooled,…] [--norms linf,l2]
        [--attacks apgd,apgd-dlr,apgd-t,fab-t,square] [--samples 500] [--queries 1000]
        [--threads 1] [--seeds 0,1,2] [--all-windows] [--cascade]

For each model and norm prints the accuracy that each attack leaves, run alone on the same samples
with the same budget, and the worst case over all: means over the seeds, and in brackets the least
and the most of one seed; ``only`` counts the samples, over all seeds, that one of the two fools and
the other does not. With ``--cascade`` the standard AutoAttack instead, as both run it. Takes about
20 minutes a row and seed of the table on one core. Writes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from cloakify.attacks import Apgd, ApgdDlr, ApgdT, Attack, AutoAttack, FabT, Square, worst_case
from cloakify.onnxfile import open_model
from tests.support.classifiers import target_of, threat_of
from tests.support.originals import (
    BUDGETS,
    ROOT,
    Budget,
    first_samples,
    original,
    their_attack,
    withstands_theirs,
)

NAMES = "apgd,apgd-dlr,apgd-t,fab-t,square"


def attacks(options: argparse.Namespace, seed: int) -> list[Attack]:
    found = [
        Apgd(seed=seed),
        ApgdDlr(seed=seed),
        ApgdT(seed=seed),
        FabT(),
        Square(queries=options.queries, seed=seed),
    ]
    return [attack for attack in found if attack.name in options.attacks.split(",")]


def row(name: str, ours: np.ndarray, theirs: np.ndarray, seconds: tuple[float, float]) -> None:
    """Print a line of the table; ``ours`` and ``theirs`` are bool [seeds, n]."""
    only = f"{int((~ours & theirs).sum())}/{int((~theirs & ours).sum())}"
    left = "  ".join(f"{spread(withstood):22}" for withstood in (ours, theirs))
    apart = 100 * (ours.mean() - theirs.mean())
    spent = f"{seconds[0]:6.0f} s {seconds[1]:6.0f} s"
    print(f"  {name:12} {left} {apart:+5.2f}  only {only:9} {spent}", flush=True)


def spread(withstood: np.ndarray) -> str:
    accuracies = withstood.mean(axis=1)
    mean = f"{accuracies.mean():.1%}"
    return (
        mean if len(accuracies) == 1 else f"{mean} [{accuracies.min():.1%}, {accuracies.max():.1%}]"
    )


def compare(budget: Budget, options: argparse.Namespace) -> None:
    """Run every attack alone, and print the worst case over all."""
    x, y = first_samples(options.samples)
    file = open_model(ROOT / f"{budget.model}.onnx")
    target = target_of(file.load_weights(), batch_size=64)
    target.threads = options.threads
    threat = threat_of(target, budget.norm, budget.eps)
    model = original(budget.model)
    shaped = x.reshape(len(x), *target.spec.sample_shape)
    scale = f"{255 * budget.eps:g}/255" if budget.norm == "linf" else f"{budget.eps:g}"
    clean = target.correct(shaped, y)
    print(f"{budget.model} {budget.norm} {scale}, {len(x)} samples, clean {clean.mean():.1%}")
    print(f"  {'':12} {'ours':22}  {'theirs':22} {'diff':>5}  {'':14} {'ours':>8} {'theirs':>8}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    if options.cascade:
        parts = (target, threat, shaped), (model, x), y
        found = [cascade(budget, *parts, seed) for seed in seeds]
        both, seconds = zip(*found, strict=True)
        row("autoattack", *np.stack(both, axis=1), np.sum(seconds, axis=0))
        return
    worst = np.broadcast_to(clean, (2, len(seeds), len(y)))
    for same in zip(*(attacks(options, seed) for seed in seeds), strict=True):
        both = np.empty((2, len(seeds), len(y)), bool)
        seconds = np.zeros(2)
        for number, (attack, seed) in enumerate(zip(same, seeds, strict=True)):
            start = time.perf_counter()
            found = attack.run(target, shaped, y, np.arange(len(x)), threat)
            both[0, number] = target.correct(found, y)
            middle = time.perf_counter()
            program = their_attack(
                attack.name,
                model,
                budget.norm,
                budget.eps,
                options.queries,
                seed,
                all_windows=options.all_windows,
            )
            both[1, number] = withstands_theirs(program, model, x, y)
            seconds += middle - start, time.perf_counter() - middle
        row(same[0].name, *both, seconds)
        worst = worst & both
    row("worst case", *worst, (0, 0))


def cascade(
    budget: Budget, mine: tuple, other: tuple, y: np.ndarray, seed: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[float, float]]:
    """Run the standard four in turn, each on what those before it left.

    Returns which samples withstand ours and theirs, and the seconds of both.
    """
    from pyautoattack import AutoAttack as Theirs

    target, threat, shaped = mine
    model, x = other
    start = time.perf_counter()
    ours = worst_case(AutoAttack(seed=seed).attacks, target, shaped, y, np.arange(len(x)), threat)
    middle = time.perf_counter()
    norm = {"linf": "Linf", "l2": "L2"}[budget.norm]
    program = Theirs(model, norm=norm, eps=budget.eps, seed=seed, version="standard")
    _, answers = program.run_standard_evaluation(
        torch.from_numpy(x.copy()), torch.from_numpy(y.copy()), batch_size=125
    )
    withstood = (ours.worst, answers.numpy() == y)
    return withstood, (middle - start, time.perf_counter() - middle)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(dict.fromkeys(b.model for b in BUDGETS)))
    parser.add_argument("--norms", default="linf,l2")
    parser.add_argument("--attacks", default=NAMES)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--queries", type=int, default=1000, help="of Square, on both sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", default="0", help="of random starts and windows")
    parser.add_argument(
        "--all-windows",
        action="store_true",
        help="Their Square draws windows up to the last row and column too, as the paper has it.",
    )
    parser.add_argument("--cascade", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for budget in BUDGETS:
        if budget.model in options.models.split(",") and budget.norm in options.norms.split(","):
            compare(budget, options)


if __name__ == "__main__":
    main()
