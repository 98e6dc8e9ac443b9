"""cloakify's attacks on ONNX files against AutoAttack's own program on the torch originals.

    python tests/benchmarks/strength.py [--models fashion_pooled,…] [--norms linf,l2]
        [--attacks apgd,apgd-dlr,apgd-t,fab-t,square] [--samples 500] [--queries 1000]
        [--threads 1] [--seed 0] [--cascade]

For each model and norm prints the accuracy that each attack leaves, run alone on the same samples
with the same budget, and the worst case over all; ``only`` counts the samples that one of the two
fools and the other does not. With ``--cascade`` the standard AutoAttack instead, as both run it.
Takes about 20 minutes a row of the table on one core. Writes nothing.
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


def attacks(options: argparse.Namespace) -> list[Attack]:
    seed = options.seed
    found = [
        Apgd(seed=seed),
        ApgdDlr(seed=seed),
        ApgdT(seed=seed),
        FabT(),
        Square(queries=options.queries, seed=seed),
    ]
    return [attack for attack in found if attack.name in options.attacks.split(",")]


def row(name: str, ours: np.ndarray, theirs: np.ndarray, seconds: tuple[float, float]) -> None:
    only = f"{int((~ours & theirs).sum())}/{int((~theirs & ours).sum())}"
    left = f"{ours.mean():6.1%} {theirs.mean():7.1%}  {100 * (ours.mean() - theirs.mean()):+5.1f}"
    spent = f"{seconds[0]:6.0f} s {seconds[1]:6.0f} s"
    print(f"  {name:12} {left}  only {only:7} {spent}", flush=True)


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
    print(f"  {'':12} {'ours':>6} {'theirs':>7}  {'diff':>5}  {'':12} {'ours':>8} {'theirs':>8}")
    if options.cascade:
        cascade(budget, (target, threat, shaped), (model, x), y)
        return
    worst = [clean.copy(), clean.copy()]
    for attack in attacks(options):
        start = time.perf_counter()
        found = attack.run(target, shaped, y, np.arange(len(x)), threat)
        ours = target.correct(found, y)
        middle = time.perf_counter()
        program = their_attack(
            attack.name, model, budget.norm, budget.eps, options.queries, options.seed
        )
        theirs = withstands_theirs(program, model, x, y)
        row(attack.name, ours, theirs, (middle - start, time.perf_counter() - middle))
        worst = [worst[0] & ours, worst[1] & theirs]
    row("worst case", worst[0], worst[1], (0, 0))


def cascade(budget: Budget, mine: tuple, other: tuple, y: np.ndarray) -> None:
    """Run the standard four in turn, each on what those before it left."""
    from pyautoattack import AutoAttack as Theirs

    target, threat, shaped = mine
    model, x = other
    start = time.perf_counter()
    ours = worst_case(AutoAttack().attacks, target, shaped, y, np.arange(len(x)), threat)
    middle = time.perf_counter()
    norm = {"linf": "Linf", "l2": "L2"}[budget.norm]
    program = Theirs(model, norm=norm, eps=budget.eps, seed=0, version="standard")
    _, answers = program.run_standard_evaluation(
        torch.from_numpy(x.copy()), torch.from_numpy(y.copy()), batch_size=125
    )
    theirs = answers.numpy() == y
    row("autoattack", ours.worst, theirs, (middle - start, time.perf_counter() - middle))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(dict.fromkeys(b.model for b in BUDGETS)))
    parser.add_argument("--norms", default="linf,l2")
    parser.add_argument("--attacks", default=NAMES)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--queries", type=int, default=1000, help="of Square, on both sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of random starts and windows")
    parser.add_argument("--cascade", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for budget in BUDGETS:
        if budget.model in options.models.split(",") and budget.norm in options.norms.split(","):
            compare(budget, options)


if __name__ == "__main__":
    main()
