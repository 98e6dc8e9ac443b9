"""What spreading work over Ray's workers costs, and how many workers one driver can feed.

    PYTHONPATH=. python tests/benchmarks/scale.py [--limit 2000] [--effort standard] [--chunks 500]

First the same evaluation in this process and in one and two workers, on the same two cores: seconds
of its stages, without what opening a cluster takes, and the CPU time of all processes together
(without what starting them takes), which other work on the machine disturbs less. Ray's own
processes are told apart: they take so much a second, whatever the workers do. Then the same of a
tuning. Then what a chunk takes of the driver's own time, from chunks that take next to none of a
worker's, and how much memory 10,000 and 1,000,000 samples take in the driver. At the end the
arithmetic: a driver is busy all the time when there are as many workers as a chunk's seconds hold
of the driver's. That is on paper: with each chunk the driver also goes through the list of its
workers, a few microseconds each, which counts from some thousands of them on.

The model of that is ResNet-50 at 224² under AutoAttack. A step for one image, forward and backward,
is taken from ``--step``, by default from ResNet-18 in `cloakify/README.md` (0.390 s for 8 images on
two cores), which is less than ResNet-50's and so the harder case; a GPU's may be given instead.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloakify.attacks.cascade import AutoAttack
from cloakify.data import Batch
from cloakify.engine import ray_watch
from cloakify.engine.ray_cluster import RayCluster
from cloakify.engine.ray_engine import RayEngine
from cloakify.engine.task import Arrays, Job, Task, Tell, untold
from cloakify.evaluation.attack_results import work_of
from cloakify.numeric.arrays import in_chunks
from cloakify.settings import EngineOptions, EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
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


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, of CPU time, and what of it Ray's own processes took."""

    wall: float
    cpu: float
    servers: float


class Clock:
    """Progress that notes when stages begin and end, and the CPU time of all processes then."""

    def __init__(self, *stages: str) -> None:
        self._stages = stages
        self._times: list[Spent] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note a telling of it."""
        if stage.startswith(self._stages):
            self._times.append(Spent(time.monotonic(), *cpu_seconds()))

    @property
    def spent(self) -> Spent:
        """What was spent from the first telling to the last."""
        first, last = self._times[0], self._times[-1]
        return Spent(last.wall - first.wall, last.cpu - first.cpu, last.servers - first.servers)


def cpu_seconds() -> tuple[float, float]:
    """Return the CPU time of this process and of those that it has started, on Linux.

    And what of it is of those that are no workers: Ray's own.
    """
    parents, used = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(path.name)], used[int(path.name)] = (
            int(fields[1]),
            int(fields[11]) + int(fields[12]),
        )
    own = {os.getpid()}
    while more := {number for number, parent in parents.items() if parent in own} - own:
        own |= more
    servers = {
        number
        for number in own - {os.getpid()}
        if not ray_watch.command(number).startswith("ray::Worker")
    }
    ticks = os.sysconf("SC_CLK_TCK")
    return sum(used[each] for each in own) / ticks, sum(used[each] for each in servers) / ticks


def evaluation(options: argparse.Namespace, **engine: object) -> Spent:
    """Return what looking at samples and attacking them takes.

    Together, as workers begin with the one before the other is through.
    """
    setting = EvaluateSetting(
        device="cpu", eps=4 / 255, limit=options.limit, effort=options.effort, threads=2, **engine
    )
    clock = Clock("looking", "attacking")
    evaluate(options.model, options.data, setting, clock)
    return clock.spent


def tuning(options: argparse.Namespace, **engine: object) -> Spent:
    """Return what tuning takes."""
    setting = HardenSetting(
        device="cpu",
        eps=4 / 255,
        limit=options.limit,
        method="tuned",
        tune_steps=options.steps,
        # Whatever it comes to.
        max_accuracy_drop=0.5,
        write_anyway=True,
        report_limit=20,
        evaluation_steps=1,
        threads=2,
        **engine,
    )
    clock = Clock("tuning")
    with tempfile.TemporaryDirectory() as folder:
        harden(options.tuned, options.data, Path(folder) / "h.onnx", setting, clock)
    return clock.spent


def compare(work: str, measure: Callable[..., Spent], options: argparse.Namespace) -> None:
    """Print what work takes in this process, and in one and two workers."""
    here = measure(options)
    print(f"{work}, this process, 2 cores: {here.wall:.1f} s, CPU {here.cpu:.1f} s", flush=True)
    for workers in (1, 2):
        there = measure(options, engine="ray", workers=workers, cpus_per_worker=2 // workers)
        print(
            f"{work}, {workers} worker(s) of {2 // workers} core(s): {there.wall:.1f} s "
            f"({there.wall / here.wall - 1:+.1%}; bar: +5 %), CPU {there.cpu:.1f} s "
            f"({there.cpu / here.cpu - 1:+.1%}), of which Ray's own {there.servers:.1f} s "
            f"({there.servers / there.wall:.1%} of a core)",
            flush=True,
        )


@contextmanager
def engine_of_two() -> Iterator[RayEngine[Numbers]]:
    """Yield an engine with two workers."""
    cluster = RayCluster(EngineOptions(engine="ray", workers=2), gpus_wanted=False)
    engine = RayEngine(cluster, Numbers(), Opening())
    try:
        yield engine
    finally:
        engine.close()
        cluster.close()


def driver_seconds(engine: RayEngine[Numbers], chunks: int) -> float:
    """Return the driver's own seconds for a chunk."""
    job = Job(Flags(), in_chunks(np.arange(SAMPLES * chunks), SAMPLES))
    parts = engine.map(job, untold)
    next(parts)
    begun = time.process_time()
    for _ in parts:
        pass
    return (time.process_time() - begun) / (chunks - 1)


def driver_memory(engine: RayEngine[Numbers], samples: int) -> int:
    """Return the most bytes that the driver takes for so many samples, but for their numbers."""
    job = Job(Flags(), in_chunks(np.arange(samples), 256))
    tracemalloc.start()
    for _ in engine.map(job, untold):
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def main() -> None:
    """Measure, and reckon."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "sample_models/fashion_robust.onnx")
    parser.add_argument("--data", type=Path, default=ROOT / "sample_models/test.npz")
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--chunks", type=int, default=500)
    parser.add_argument("--step", type=float, default=0.390 / 8)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--tuned", type=Path, default=ROOT / "sample_models/fashion_pooled.onnx")
    options = parser.parse_args()
    compare(f"attacking {options.limit} samples", evaluation, options)
    compare(f"tuning for {options.steps} steps", tuning, options)
    with engine_of_two() as engine:
        spent = driver_seconds(engine, options.chunks)
        for samples in (10_000, 1_000_000):
            most = driver_memory(engine, samples)
            print(f"{samples:,} samples: at most {most / 1e6:.2f} MB in the driver")
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
