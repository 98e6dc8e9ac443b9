"""A tuning and a race that lose workers on the way come to what they would have come to."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cloakify.engine.ray_cluster import RayCluster
from cloakify.report.records import EngineInfo
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden
from tests.engine.runs import worker_processes
from tests.support.fragile import EPS, write_fragile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")

WORKERS = 2


class Killer:
    """Progress that kills a worker when a stage has come so far, each time that it may.

    Parameters
    ----------
    stage
        How the stage's name begins.
    steps
        After how many tellings of it.
    """

    def __init__(self, stage: str, steps: tuple[int, ...]) -> None:
        self.stage, self.steps = stage, steps
        self.seen, self.killed = 0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not stage.startswith(self.stage):
            return
        self.seen += 1
        at_work = worker_processes()
        if self.killed < len(self.steps) and self.seen >= self.steps[self.killed] and at_work:
            os.kill(at_work[0], signal.SIGKILL)
            self.killed += 1


@pytest.mark.parametrize(
    ("stage", "steps", "options"),
    [
        ("tuning", (3, 31), {"method": "tuned", "tune_steps": 60}),
        ("comparing", (2, 7), {"score": "auto", "rounds": 2, "effort": "quick"}),
    ],
)
def test_lost_workers_do_not_show(
    cluster: RayCluster, tmp_path: Path, stage: str, steps: tuple[int, ...], options: dict[str, str]
) -> None:
    model, data = write_fragile(tmp_path, 60)
    given = {"device": "cpu", "batch_size": 2, "eps": EPS, "max_accuracy_drop": 0.3, **options}
    killer, made = Killer(stage, steps), []
    for number, (progress, more) in enumerate(
        [(lambda *_: None, {}), (killer, {"engine": "ray", "workers": WORKERS})]
    ):
        output = tmp_path / f"{number}.onnx"
        setting = HardenSetting(write_anyway=True, **given, **more)
        result = harden(model, data, output, setting, progress)
        made.append((output.read_bytes(), result.report.accuracy, result.report.mask))
    assert made[0] == made[1]
    assert killer.killed == len(steps)
    engine = result.report.engine
    assert isinstance(engine, EngineInfo) and engine.again >= 1
    assert sum(kind.count for kind in engine.workers) > WORKERS
