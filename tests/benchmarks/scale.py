"""What spreading work over Ray's workers costs, and how many workers one driver can feed.

    PYTHONPATH=. python tests/benchmarks/scale.py [--limit 2000] [--effort standard] [--chunks 500]

First the same evaluation in this process and in one and two workers, on the same two cores: seconds
of its stages, without what opening a cluster takes. Then what a chunk takes of the driver's own
time, from chunks that take next to none of a worker's. At the end the arithmetic: a driver is busy
all the time when there are as many workers as a chunk's seconds hold of the driver's. That is on
paper: with each chunk the driver also goes through the list of its workers, a few microseconds
each, which counts from some thousands of them on.

The model of that is ResNet-50 at 224² under AutoAttack. A step for one image, forward and backward,
is taken from ``--step``, by default from ResNet-18 in `cloakify/README.md` (0.390 s for 8 images on
two cores), which is less than ResNet-50's and so the harder case; a GPU's may be given instead.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloakify.attacks.cascade import AutoAttack
from cloakify.data import Batch
from cloakify.engine.ray_cluster import RayCluster
from cloakify.engine.ray_engine import RayEngine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.attack_results import work_of
from cloakify.numeric.arrays import in_chunks
from cloakify.settings import EngineOptions, EvaluateSetting
from cloakify.workflows.evaluate import evaluate
from tests.engine.counting import Numbers
from tests.engine.test_ray import Opening

ROOT = Path(__file__).parents[2]

# Samples of a chunk of images of 224² on a CPU, and the arrays that their results are.
SAMPLES, COLUMNS = 16, 32
# Of the images, those that withstand the first steps of an attack, and take all of them.
STANDING = 0.3


@dataclass(frozen=True)
class Flags(Task[Numbers]):
    """Makes as many results as a chunk of an evaluation, and takes no time for it."""

    name = "flags"

    def run(self, subject: Numbers, batch: Batch, tell: Tell) -> Arrays:
        """See :meth:`Task.run`."""
        return {str(number): np.ones(len(batch.y), np.bool_) for number in range(COLUMNS)}


def evaluation(options: argparse.Namespace, cores: int, **engine: object) -> float:
    """Return the seconds that looking at samples and attacking them takes."""
    setting = EvaluateSetting(
        device="cpu",
        eps=4 / 255,
        limit=options.limit,
        effort=options.effort,
        threads=cores,
        **engine,
    )
    timing = evaluate(options.model, options.data, setting).report.timing
    return timing["attack"]


def driver_seconds(chunks: int) -> float:
    """Return the driver's own seconds for a chunk."""
    options = EngineOptions(engine="ray", workers=2)
    cluster = RayCluster(options, gpus_wanted=False)
    engine = RayEngine(cluster, Numbers(), Opening())
    job = Job(Flags(), in_chunks(np.arange(SAMPLES * chunks), SAMPLES))
    parts = engine.map(job, untold)
    next(parts)
    begun = time.process_time()
    for _ in parts:
        pass
    spent = time.process_time() - begun
    engine.close()
    cluster.close()
    return spent / (chunks - 1)


def main() -> None:
    """Measure, and reckon."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "sample_models/fashion_robust.onnx")
    parser.add_argument("--data", type=Path, default=ROOT / "sample_models/test.npz")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--step", type=float, default=0.390 / 8)
    options = parser.parse_args()
    here = evaluation(options, 2)
    print(f"this process, 2 cores: {here:.1f} s, {options.limit / here:.1f} samples/s")
    for workers in (1, 2):
        there = evaluation(options, 2, engine="ray", workers=workers, cpus_per_worker=2 // workers)
        print(
            f"{workers} worker(s) of {2 // workers} core(s): {there:.1f} s, "
            f"{options.limit / there:.1f} samples/s, {there / here - 1:+.1%} (bar: +5 %)"
        )
    spent = driver_seconds(options.chunks)
    steps = sum(work_of(attack) for attack in AutoAttack().attacks)
    chunk = SAMPLES * STANDING * steps * options.step
    print(f"the driver's own time for a chunk: {1000 * spent:.2f} ms")
    print(
        f"a chunk of {SAMPLES} images of which {STANDING:.0%} stand, {steps} steps of "
        f"{1000 * options.step:.0f} ms each: {chunk:.0f} s"
    )
    print(f"{chunk:.0f} s / {spent:.5f} s = {chunk / spent:,.0f} workers (bar: above 1,000)")


if __name__ == "__main__":
    main()
