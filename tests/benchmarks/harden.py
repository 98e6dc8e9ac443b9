"""What hardening costs, against what the arithmetic asks for; all in one run, side by side.

    python tests/benchmarks/harden.py [--model sample_models/fashion_wide.onnx] [--threads 2]

Prints calibration time over three forward passes of the same samples in the same runtime (FGSM's
floor: forward, backward at the cost of a forward, forward again), the full mask-size curve over
calibration, peak memory at 1,000 and at 20,000 samples, and the hardened model's inference time
over the source's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cloakify.attacks import Fgsm
from cloakify.attacks.pairs import Pairs, attacked_pairs
from cloakify.data import split
from cloakify.engine.local import LocalEngine
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.experiment.subject import Subject
from cloakify.graph.edit.mask import insert_mask
from cloakify.hardening.calibration import calibrate
from cloakify.masking.curve import MaskCurve, in_groups
from cloakify.masking.feature_scores import deepcloak, rank
from cloakify.masking.linear_head import by_feature
from cloakify.masking.mask_choice import choose
from cloakify.runtime import Workers
from cloakify.settings import HardenSetting

ROOT = Path(__file__).parents[2]


def seconds(task: Callable[[], object]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def ratios(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[float, float, float]:
    """Run two tasks in turn; return the median ratio and both medians, after one warm-up."""
    first(), second()
    pairs = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return (
        statistics.median(a / b for a, b in pairs),
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
    )


def calibration(experiment: Experiment, threads: int, repeats: int) -> None:
    subject = Subject([experiment])
    engine, target = LocalEngine(subject), subject.targets[0]
    target.workers = Workers(target.device, threads)
    splits = split(len(experiment.dataset), experiment.labels, 0)
    fit = splits.fit

    def forward() -> None:
        for batch in experiment.dataset.batches(fit, target.batch_size):
            target.logits(batch.x.astype(np.float32, copy=False))

    def calibrating() -> None:
        calibrate(subject, engine, Fgsm(), fit, lambda stage, done, total: None)

    ratio, spent, once = ratios(calibrating, forward, repeats)
    print(f"calibration of {len(fit)} samples: {spent:.3f} s, forward {once:.3f} s: {ratio:.2f} x")
    print(f"  over the floor of 3 forwards: {ratio / 3:.2f}  (aim: at most 1.3)")
    known = calibrate(subject, engine, Fgsm(), fit, lambda stage, done, total: None)
    # As many as ``harden`` has for it.
    select = splits.select

    def attacked() -> list[Pairs]:
        batches = experiment.dataset.batches(select, target.span)
        return [attacked_pairs(target, Fgsm(), experiment.threat, batch) for batch in batches]

    pairs = attacked()
    curve = MaskCurve.empty(rank(deepcloak(known.statistics)))
    head = experiment.classifier.head

    parts = [
        (by_feature(pair.clean_features, head), by_feature(pair.attacked_features, head), pair.y)
        for pair in pairs
    ]

    def all_sizes() -> None:
        for group in in_groups(parts):
            curve.update(known.head, group)

    def with_select() -> None:
        calibrating()
        attacked()

    share, spent, _ = ratios(all_sizes, calibrating, repeats)
    print(f"curve of all {head.num_features} mask sizes, {len(select)} samples: {spent:.3f} s")
    print(f"  over calibration: {share:.1%}  (aim: at most 5 %)")
    share, *_ = ratios(all_sizes, with_select, repeats)
    print(f"  over calibration and the attack on the samples that it is drawn from: {share:.1%}")


def inference(experiment: Experiment, threads: int, repeats: int) -> None:
    classifier = experiment.classifier
    ranking = np.arange(classifier.head.num_features)
    mask = choose(ranking, max(1, len(ranking) // 100), "first").mask
    hardened = insert_mask(classifier.file.model, classifier.head, mask, {})
    (batch,) = experiment.dataset.batches(np.arange(256), 256)
    x = batch.x.astype(np.float32, copy=False)
    targets = [experiment.target(), experiment.target(hardened)]
    for target in targets:
        target.workers = Workers(target.device, threads)

    def run(place: int) -> Callable[[], object]:
        return lambda: [targets[place].logits(x) for _ in range(4)]

    ratio, *_ = ratios(run(1), run(0), 4 * repeats)
    print(f"inference of the hardened model over the source's: {ratio:.3f}")


def peak_memory(model: Path, samples: int, folder: Path) -> float:
    """Harden in a process of its own on ``samples`` images; return its peak memory in MB."""
    with np.load(ROOT / "sample_models" / "test.npz") as file:
        place = np.arange(samples) % len(file["x"])
        # Copies would be left out; a little noise tells them apart.
        noise = np.random.default_rng(0).uniform(0, 0.01, (samples, 1, 28, 28))
        x = np.clip(file["x"][place] + noise, 0, 1).astype(np.float32)
        data = folder / f"{samples}.npz"
        np.savez(data, x=x, y=file["y"][place])
    code = (
        "import sys; from cloakify.cli.main import run; from peak import peak_memory_mb; "
        "code = run(sys.argv[1:]); print(peak_memory_mb()); sys.exit(code)"
    )
    arguments = ["harden", str(model), "--data", str(data), "-o", str(folder / "hardened.onnx")]
    arguments += ["--device", "cpu", "--eps", "4/255", "--mask-ratio", "auto", "--quiet"]
    arguments += ["--evaluation-steps", "1", "--max-accuracy-drop", "1", "--score", "deepcloak"]
    command = [sys.executable, "-c", code, *arguments]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=here)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "sample_models" / "fashion_wide.onnx")
    parser.add_argument("--data", type=Path, default=ROOT / "sample_models" / "calib")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    setting = HardenSetting(eps=4 / 255, device="cpu")
    classifier = open_classifier(options.model)
    experiment = open_experiment(classifier, options.data, setting, lambda stage, done, total: None)
    print(f"{options.model.name}, {len(experiment.dataset)} samples, {options.threads} threads")
    calibration(experiment, options.threads, options.repeats)
    inference(experiment, options.threads, options.repeats)
    if not options.no_memory:
        with tempfile.TemporaryDirectory() as folder:
            peaks = [peak_memory(options.model, n, Path(folder)) for n in (1_000, 20_000)]
        print(f"peak memory of harden: {peaks[0]:.0f} MB at 1,000, {peaks[1]:.0f} MB at 20,000")


if __name__ == "__main__":
    main()
