"""How much clean accuracy tuned gates cost on 10,000 test images, where `harden` was allowed some.

    python tests/benchmarks/budget.py [--models fashion_keras,…] [--seeds 20] [--drop 0.02]
        [--method tuned] [--eps 4] [--keep FOLDER] [--idx FOLDER]

Hardens each sample model with the 1,000 bundled calibration images and every seed, and counts on
all of Fashion-MNIST's test images, which nothing was fitted or chosen on. A row says how many of
the seeds stay within half a point beyond what was allowed, and the mean. ``--keep`` holds the
hardened files, so that a stopped run goes on where it stood.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "sample_models"))

import fashion_mnist

from tests.benchmarks.masks import Bench, harden
from tests.benchmarks.masks_table import Task

SLACK = 0.005
"""Of the samples: what may be lost beyond what was allowed before a seed counts as over."""


def lost(bench: Bench, path: Path, x: np.ndarray, y: np.ndarray) -> float:
    """Return by how much the file answers fewer of the samples rightly than the source, of 1."""
    source, hardened = (bench.target(file).correct(x, y).mean() for file in (bench.path, path))
    return float(source - hardened)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="fashion_keras,fashion_pooled,fashion_wide")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--drop", type=float, default=0.02)
    parser.add_argument("--eps", type=float, default=4.0, help="in 255ths")
    parser.add_argument("--method", default="tuned", help="or channel: foldable gates")
    parser.add_argument("--idx", type=Path, default=fashion_mnist.DEBIAN_FOLDER)
    parser.add_argument("--keep", type=Path, help="folder of hardened files")
    options = parser.parse_args()
    images, y = fashion_mnist.load(options.idx, "test")
    rows = [
        f"| model | within {100 * (options.drop + SLACK):g} | mean | of each seed |",
        "| --- | --- | --- | --- |",
    ]
    with tempfile.TemporaryDirectory() as made_here:
        folder = Path(options.keep or made_here)
        folder.mkdir(parents=True, exist_ok=True)
        for model in options.models.split(","):
            bench = Bench(model, options.eps, 1)
            x = images.reshape(-1, *bench.x.shape[1:]).astype(np.float32) / 255
            drops = []
            for seed in range(options.seeds):
                task = Task(
                    model, options.eps, options.method, 1000, options.drop, "", 0, seed=seed
                )
                made = harden(bench, task, folder, options.idx)
                if made is not None:
                    drops.append(lost(bench, made[0], x, y))
                    print(f"{model} {seed}: {100 * drops[-1]:.2f}", flush=True)
            within = sum(drop <= options.drop + SLACK for drop in drops)
            told = ", ".join(f"{100 * drop:.2f}" for drop in drops)
            mean = f"{100 * np.mean(drops):.2f}" if drops else ""
            rows.append(f"| {model} | {within} of {len(drops)} | {mean} | {told} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
