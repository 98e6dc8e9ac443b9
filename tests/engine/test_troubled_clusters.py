"""Clusters in which something always happens; minutes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cloakify.engine.ray_cluster import RayCluster
from tests.engine.runs import (
    ATTACK,
    EVALUATE,
    HARDEN_REPORT,
    ROOT,
    TUNED,
    TUNED_IMAGES,
    Run,
    done,
    kill_at,
    name_of,
    new,
    worker_processes,
    write_inputs,
)

RAY = ("--engine", "ray", "--workers", "2")
KILLS = 20

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")
@pytest.mark.parametrize("run", [EVALUATE, HARDEN_REPORT, TUNED, TUNED_IMAGES], ids=name_of)
def test_workers_killed_at_random_moments(cluster: RayCluster, tmp_path: Path, run: Run) -> None:
    write_inputs(tmp_path, 480)
    here, there = new(tmp_path, "here"), new(tmp_path, "there")
    begun = time.monotonic()
    assert done(run.command(here)).code == 0
    # Of a chunk at most three tries may fail, and one alone may take a tenth of the whole, and more
    # in a worker that has only begun, or on a machine that is busy.
    pause = max(3.0, (time.monotonic() - begun) / 3)
    generator, over = random.Random(0), threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < KILLS and not over.wait(generator.uniform(pause, 2.5 * pause)):
            at_work = worker_processes()
            if at_work:
                killed.append(at_work[0])
                os.kill(killed[-1], signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        while len(killed) < KILLS:
            ended = done(run.command(there, *RAY))
            assert ended.code == 0, ended.err
            assert run.result(there) == run.result(here)
    finally:
        over.set()
        killing.join()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("run", [EVALUATE, HARDEN_REPORT, TUNED, TUNED_IMAGES], ids=name_of)
def test_any_number_of_workers_makes_the_same(tmp_path: Path, run: Run, workers: int) -> None:
    write_inputs(tmp_path, 240)
    here, there = new(tmp_path, "here"), new(tmp_path, "there")
    assert done(run.command(here)).code == 0
    # In a process of its own, whose cluster has as many cores.
    assert not kill_at(run.command(there, "--engine", "ray", "--workers", str(workers)), 900)
    assert run.result(there) == run.result(here)


@pytest.mark.parametrize("run", [ATTACK, EVALUATE, HARDEN_REPORT, TUNED_IMAGES], ids=name_of)
def test_drivers_killed_at_random_moments(tmp_path: Path, run: Run) -> None:
    write_inputs(tmp_path, 480)
    here, there = new(tmp_path, "here"), new(tmp_path, "there")
    assert done(run.command(here)).code == 0
    generator, kept = random.Random(0), ("--resume", str(tmp_path / "kept"))
    for _ in range(5):
        kill_at(run.command(there, *RAY, *kept), generator.uniform(4, 14))
    assert not kill_at(run.command(there, *RAY, *kept), 300)
    assert run.result(there) == run.result(here)


def test_a_node_that_goes_and_one_that_comes() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.engine.nodes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["right"] and told["again"] >= 1 and told["workers"] >= 4
