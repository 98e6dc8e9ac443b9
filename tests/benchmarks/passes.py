"""How many passes through a model `harden` and `evaluate` take, counted and not timed.

    python tests/benchmarks/passes.py [--models fashion_pooled fashion_wide] [--eps 4/255]

Runs both verbs on sample models in batches of 8, as images of 224² are, and counts what goes
through each session, filled up lanes included. A pass of a gradient graph counts as 2.4 forward
passes, which is what an iteration of Auto-PGD takes on a ResNet-18. What opening graphs, reading
images and arithmetic on the side take is not in it; where a pass takes 10 ms or more, that is
little.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np

from cloakify.experiment.stage_times import StageTimes
from cloakify.runtime import Session
from cloakify.settings import EvaluateSetting, HardenSetting
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden

SAMPLES = Path(__file__).parents[2] / "sample_models"
BATCH = 8
STEP = 2.4
# Forward passes a sample that a run of standard effort, and a quick one, may take.
BARS = {"harden": {"standard": 60, "quick": 15}, "evaluate": {"standard": 400, "quick": 100}}


class Meter:
    """Counts samples that go through sessions, in forward passes, by stage."""

    def __init__(self) -> None:
        self.passes: Counter[str] = Counter()
        self._stage = "between"
        self._steps: WeakSet[Session] = WeakSet()
        self._open, self._run, self._time = (
            Session.__init__,
            Session.run_on_device,
            StageTimes.stage,
        )

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is run meanwhile."""
        meter = self

        def opened(session: Session, *arguments: Any, **options: Any) -> None:
            meter._open(session, *arguments, **options)
            if options.get("both_ways"):
                meter._steps.add(session)

        def ran(session: Session, feeds: Any, *rest: Any) -> Any:
            each = STEP if session in meter._steps else 1
            meter.passes[meter._stage] += each * max(map(_samples, feeds.values()))
            return meter._run(session, feeds, *rest)

        @contextmanager
        def stage(times: StageTimes, name: str) -> Iterator[None]:
            meter._stage = name
            with meter._time(times, name):
                yield
            meter._stage = "between"

        Session.__init__, Session.run_on_device = opened, ran  # type: ignore[method-assign]
        StageTimes.stage = stage  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            Session.__init__, Session.run_on_device = self._open, self._run  # type: ignore[method-assign]
            StageTimes.stage = self._time  # type: ignore[method-assign]


def _samples(value: Any) -> int:
    """Return how many images a value holds; of what are no images, 0."""
    shape = value.shape if isinstance(value, np.ndarray) else value.shape()
    return shape[0] if len(shape) == 4 else 0


def run(verb: str, model: Path, eps: float, effort: str, folder: Path, count: int) -> None:
    """Run a verb and print what it took."""
    meter = Meter()
    if verb == "harden":
        setting = HardenSetting(
            device="cpu", eps=eps, effort=effort, batch_size=BATCH, write_anyway=True
        )
        with meter.counting():
            report = harden(model, SAMPLES / "calib", folder / "h.onnx", setting).report
        samples, left = 1000, report.accuracy.source.adaptive.value
    else:
        with np.load(SAMPLES / "test.npz") as file:
            np.savez(folder / "few.npz", x=file["x"][:count], y=file["y"][:count])
        judged = EvaluateSetting(device="cpu", eps=(eps,), effort=effort, batch_size=BATCH)
        with meter.counting():
            told = evaluate(model, folder / "few.npz", judged).report
        samples = count
        (left,) = (at.accuracy.value for at in told.models[0].curve if at.eps == eps)
    total = sum(meter.passes.values()) / samples
    stages = ", ".join(f"{name} {passes / samples:.1f}" for name, passes in meter.passes.items())
    print(
        f"| `{verb}` | {effort} | {model.stem} | {samples} | {100 * left:.0f} "
        f"| {total:.1f} | {BARS[verb][effort]} | {stages} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["fashion_pooled", "fashion_wide"])
    parser.add_argument("--verb", nargs="+", default=["harden", "evaluate"])
    parser.add_argument("--effort", nargs="+", default=["quick", "standard"])
    parser.add_argument("--eps", default="4/255")
    parser.add_argument("--samples", type=int, default=500, help="that are evaluated")
    options = parser.parse_args()
    print("| verb | effort | model | samples | standing, % | passes | bar | by stage |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for verb in options.verb:
            for model in options.models:
                for effort in options.effort:
                    run(
                        verb,
                        SAMPLES / f"{model}.onnx",
                        float(Fraction(options.eps)),
                        effort,
                        Path(folder),
                        options.samples,
                    )


if __name__ == "__main__":
    main()
