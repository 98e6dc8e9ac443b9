"""What the attacks of `evaluate` leave against what AutoAttack leaves, and the passes of each.

    python tests/benchmarks/worst_case.py [--models fashion_pooled …] [--norms linf l2]
        [--samples 1000] [--effort standard] [--seed 0] [--parts 4]

Attacks the same test images of each sample model twice, as `cloakify evaluate` does and by the
standard AutoAttack, and prints both robust accuracies, on how many images only one of the two fools
the model, and the forward passes a sample that each took, counted as in `passes.py`. On one core a
row takes half an hour; a quarter of an hour without Square (`--parts 3`), and a few minutes by the
two of Auto-PGD (`--parts 2`). Writes nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from cloakify.assessment.attack_plan import chosen_attacks
from cloakify.attacks import Attack, AutoAttack, worst_case
from cloakify.onnxfile import open_model
from cloakify.settings import EvaluateSetting
from tests.benchmarks.passes import SAMPLES, Meter
from tests.support.classifiers import target_of, threat_of
from tests.support.originals import BUDGETS, Budget, first_samples


def left(budget: Budget, attacks: Sequence[Attack], samples: int) -> tuple[np.ndarray, float]:
    """Return which samples withstand, bool [n], and the forward passes of each."""
    x, y = first_samples(samples)
    target = target_of(open_model(SAMPLES / f"{budget.model}.onnx").load_weights(), batch_size=32)
    target.threads = 1
    threat = threat_of(target, budget.norm, budget.eps)
    shaped = x.reshape(len(x), *target.spec.sample_shape)
    meter = Meter()
    with meter.counting():
        robust = worst_case(attacks, target, shaped, y, np.arange(samples), threat).worst
    return robust, sum(meter.passes.values()) / samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=sorted({each.model for each in BUDGETS}))
    parser.add_argument("--norms", nargs="+", default=["linf", "l2"])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", type=int, default=4, help="how many of AutoAttack's, in order")
    options = parser.parse_args()
    standard = AutoAttack(seed=options.seed).attacks[: options.parts]
    print("| model | norm | ε | evaluate, % | AutoAttack, % | only one fools | passes of both |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for budget in BUDGETS:
        if budget.model not in options.models or budget.norm not in options.norms:
            continue
        setting = EvaluateSetting(norm=budget.norm, effort=options.effort, seed=options.seed)
        ours, few = left(budget, chosen_attacks(setting), options.samples)
        theirs, more = left(budget, standard, options.samples)
        scale = f"{255 * budget.eps:g}/255" if budget.norm == "linf" else f"{budget.eps:g}"
        print(
            f"| {budget.model} | {budget.norm} | {scale} | {100 * ours.mean():.1f} "
            f"| {100 * theirs.mean():.1f} | {(~ours & theirs).sum()}, {(~theirs & ours).sum()} "
            f"| {few:.0f}, {more:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
