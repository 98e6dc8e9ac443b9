"""Of a Ray of its own nothing is left by a process that was killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloakify.engine import ray_watch
from tests.engine.runs import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found by /proc")

# A process that has the watch started for its folder, and children: one that names the folder and
# has a child of its own, which leaves its session, and one that has nothing to do with it. Its own
# command line does not name the folder, as the first moment of a child shows it as the child's.
DRIVER = """
import os, subprocess, sys, time
from pathlib import Path
from cloakify.engine.ray_cluster import start_watch
folder = Path(os.environ["FOLDER"])
watch = start_watch(folder)
child = (
    "import subprocess, sys, time;"
    "each = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True);"
    "print(each.pid, flush=True); time.sleep(600)"
)
python = [sys.executable, "-c"]
own = subprocess.Popen([*python, child, str(folder)], stdout=subprocess.PIPE, text=True)
other = subprocess.Popen([*python, "import time; time.sleep(600)"])
print(watch.pid, own.pid, own.stdout.readline().strip(), other.pid, flush=True)
if len(sys.argv) > 1:
    time.sleep(2)
    watch.communicate()
    print("closed", flush=True)
time.sleep(600)
"""


def lives(process: int) -> bool:
    """Tell whether there is such a process that has not ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def gone(processes: list[int], seconds: float = 20) -> bool:
    """Wait until all are gone; tell whether they are."""
    end = time.monotonic() + seconds
    while any(map(lives, processes)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(lives, processes))


@pytest.mark.parametrize("closes", [False, True])
def test_what_a_process_has_started_goes_with_it(tmp_path: Path, closes: bool) -> None:
    folder = tmp_path / "cloakify-folder"
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, *["closes"] * closes]
    environment = {**os.environ, "FOLDER": str(folder)}
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    watch, own, below, other = map(int, driver.stdout.readline().split())
    try:
        assert all(map(lives, (watch, own, below, other)))
        if closes:
            assert driver.stdout.readline() == "closed\n"
        else:
            # The watch has to see them once.
            deadline = time.monotonic() + 20
            while not {own, below} <= set(ray_watch.below(driver.pid, str(folder))):
                assert time.monotonic() < deadline
            time.sleep(3)
            driver.kill()
            driver.wait()
        assert gone([watch, own, below])
        assert not folder.exists()
        assert lives(other)
    finally:
        driver.kill()
        driver.wait()
        driver.stdout.close()
        for process in (own, below, other):
            if lives(process):
                os.kill(process, signal.SIGKILL)


def test_a_number_that_was_given_to_another_process_is_spared() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        ray_watch.end({child.pid: "0", 1 << 30: "1"})
        time.sleep(0.2)
        assert child.poll() is None
        found = ray_watch._stat(child.pid)
        assert found is not None and found[0] == os.getpid()
        ray_watch.end({child.pid: found[1]})
        assert child.wait(20) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()


# As later releases of ray call them, and the scripts that earlier ones run.
AGENT = re.compile(rb"^ray::.*Agent|/agent(/main)?\.py$")
RAY_DRIVER = """
import time
from cloakify.engine.ray_cluster import RayCluster
from cloakify.settings import EngineOptions
cluster = RayCluster(EngineOptions(engine="ray", workers=1), gpus_wanted=False)
print(cluster._folder, flush=True)
time.sleep(600)
"""


def command(process: int) -> bytes:
    """Return the program and script that a process runs, or nothing where it has ended."""
    try:
        # Further on, the raylet names what it starts.
        return b" ".join(Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[:3])
    except OSError:
        return b""


def test_ray_and_its_agents_go_with_a_killed_process() -> None:
    pytest.importorskip("ray")
    driver = subprocess.Popen(
        [sys.executable, "-c", RAY_DRIVER],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    folder = driver.stdout.readline().strip()
    # The agents are among those that the servers start, which ray does not wait for.
    for _ in range(600):
        processes = list(ray_watch.below(driver.pid, folder))
        if sum(AGENT.search(command(each)) is not None for each in processes) == 2:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"no two agents among {[command(each) for each in processes]}")
    time.sleep(3)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert gone(processes)
    assert not Path(folder).exists()
