"""A process that works is ended beyond its limits, and what becomes of it is said in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloakify.limits.stages import MEMORY, MEMORY_PER_BYTE, stored
from cloakify.limits.supervisor import can_supervise

pytestmark = pytest.mark.skipif(not can_supervise(), reason="needs Linux")

ROOT = Path(__file__).parents[2]

FRAME = """
import os, signal, sys, time
from cloakify.limits import stages
from cloakify.limits.supervisor import work_supervised

ended = work_supervised()
if ended is not None:
    os._exit(ended)
{work}
os._exit(0)
"""


Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Start:
    """Start a supervised process that does some work."""

    def begin(work: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", FRAME.format(work=work)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return begin


def ends(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def test_what_is_done_within_limits_is_not_touched(start: Start) -> None:
    work = "with stages.Stage('work', path='m'): block = bytearray(1 << 20)\nos._exit(7)"
    assert ends(start(work)) == (7, "")


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("block = bytearray(b'x') * (400 << 20)", "more than 0.1 GB"),
        ("sum(iter(int, 1))", "more than 0 s"),
        ("time.sleep(60)", "more than 0 s"),
    ],
)
def test_a_stage_beyond_its_limits_is_ended(start: Start, work: str, said: str) -> None:
    limits = "path='m.onnx', memory=100 << 20, seconds=0.3"
    code, errors = ends(start(f"with stages.Stage('opening it', {limits}): {work}"))
    expected = f"Error: m.onnx: opening it took {said}; --trust works without limits\n"
    assert (code, errors) == (3, expected)


def test_limits_grow_with_the_files(start: Start) -> None:
    """What breaks a limit passes where the files are larger, or more is computed on."""
    held = "block = bytearray(b'x') * (200 << 20); time.sleep(0.1)"
    for grown in (f"size={(200 << 20) // MEMORY_PER_BYTE}", "fed=60_000"):
        limits = f"memory=100 << 20, {grown}"
        assert ends(start(f"with stages.Stage('opening it', {limits}): {held}")) == (0, "")
    assert MEMORY <= 3 << 30


def test_behind_a_stage_there_are_no_limits(start: Start) -> None:
    work = "with stages.Stage('opening it', memory=1 << 20, seconds=0.2): pass\n"
    work += "block = bytearray(b'x') * (100 << 20); time.sleep(0.5)"
    assert ends(start(work)) == (0, "")


@pytest.mark.parametrize(
    ("within", "code", "said"),
    [
        ("path='m.onnx'", 3, "m.onnx: opening it ended in a crash (SIGSEGV); the file is damaged"),
        ("path='d.npz', exit_code=4", 4, "d.npz: opening it ended in a crash (SIGSEGV)"),
        (None, 5, "the runtime crashed (SIGSEGV)"),
    ],
)
def test_a_crash_is_one_line(start: Start, within: str | None, code: int, said: str) -> None:
    crash = "import ctypes; ctypes.string_at(0)"
    if within is not None:
        crash = f"with stages.Stage('opening it', {within}): {crash}"
    found, errors = ends(start(crash))
    assert found == code
    assert errors.startswith(f"Error: {said}") and errors.count("\n") == 1


def test_names_are_printed_safely(start: Start) -> None:
    name = "'a\\n\\x1b[31m' + 'b' * 5000"
    work = f"with stages.Stage('opening it', path={name}, seconds=0.1): time.sleep(9)"
    code, errors = ends(start(work))
    assert code == 3 and errors.count("\n") == 1 and "\x1b" not in errors


SIGNALLED = """
met = []
def note(number, frame):
    stages.tell_signal(number)
    met.append(number)
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
time.sleep(1.5)
os._exit(100 + len(met))
"""


def test_a_signal_to_the_supervisor_reaches_the_worker(start: Start) -> None:
    process = start(SIGNALLED)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGTERM)
    assert ends(process)[0] == 101


def test_a_signal_to_both_reaches_the_worker_once(start: Start) -> None:
    process = start(SIGNALLED)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert ends(process)[0] == 101


def test_the_worker_ends_with_its_supervisor(start: Start) -> None:
    process = start("print(os.getpid(), flush=True)\ntime.sleep(60)")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{worker}").exists()


def test_holes_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(os.urandom(100_000))
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(1 << 40)
    assert stored([tmp_path / "full"]) == 100_000
    assert stored([tmp_path / "holes", tmp_path / "missing"]) < 1 << 20
