"""The command as a process: signals from the first moment on, and streams that nobody reads."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.support.classifiers import mlp_classifier

ROOT = Path(__file__).parents[2]
LINE = "Interrupted; nothing was left half written.\n"

# Runs the command, and is sent a signal when it begins to import a module.
STRUCK = """
import os, signal, sys

module, number = sys.argv[1], getattr(signal, sys.argv[2])
del sys.argv[1:3]

class Strike:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)

from cloakify.cli.process import main
sys.meta_path.insert(0, Strike())
main()
"""


@pytest.fixture
def case(tmp_path: Path) -> list[str]:
    """A small model, and data, as the verbs take them."""
    model, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    onnx.save(mlp_classifier(0, 8, 3), model)
    np.savez(data, x=np.random.default_rng(0).random((40, 8), np.float32))
    return [str(model), "--data", str(data), "--labels", "model", "--device", "cpu"]


def run(
    *arguments: str, shell: str = 'exec "$@"', **options: object
) -> subprocess.CompletedProcess[str]:
    """Run Python by way of a shell that sets its streams."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        ["bash", "-c", shell, "bash", sys.executable, *arguments],
        cwd=ROOT,
        timeout=100,
        text=True,
        check=False,
        **{"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, **options},
    )


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("click", "SIGINT"),
        ("msgspec", "SIGTERM"),
        ("numpy", "SIGINT"),
        ("numpy.linalg", "SIGHUP"),
        ("google.protobuf.message", "SIGTERM"),
        ("onnx", "SIGINT"),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "SIGINT"),
        ("PIL.Image", "SIGTERM"),
    ],
)
def test_a_signal_while_something_is_imported(
    case: list[str], tmp_path: Path, module: str, name: str
) -> None:
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "a.npz"
    # What a shell in the background, or nohup, has the tests ignore.
    ignored = [getattr(signal, each) for each in ("SIGINT", "SIGTERM", "SIGHUP")]
    before = [signal.signal(number, signal.SIG_DFL) for number in ignored]
    found = run("-c", STRUCK, module, name, "attack", *case, "-o", str(output))
    for number, handler in zip(ignored, before, strict=True):
        signal.signal(number, handler)
    assert (found.returncode, found.stderr, found.stdout) == (130, LINE, "")
    assert not list(output.parent.iterdir())


def test_what_is_to_be_ignored_is_ignored(case: list[str], tmp_path: Path) -> None:
    """As under nohup."""
    arguments = ("numpy", "SIGHUP", "attack", *case, "-o", str(tmp_path / "a.npz"), "--quiet")
    found = run("-c", STRUCK, *arguments, shell='trap "" HUP; exec "$@"')
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize(
    "streams",
    [
        "| true; exit ${PIPESTATUS[0]}",
        "2>&1 | head -1; exit ${PIPESTATUS[0]}",
        "<&- >&- 2>&-",
        ">/dev/full",
    ],
)
def test_nobody_reads(case: list[str], tmp_path: Path, streams: str) -> None:
    """What was measured and written is not lost, nor what the exit code says."""
    report, model = tmp_path / "r.json", tmp_path / "h.onnx"
    verb = ["-m", "cloakify", "harden", *case, "--mask-ratio", "0.1", "--score", "deepcloak"]
    verb += ["--evaluation-steps", "2", "-o", str(model), "--report", str(report)]
    # A gate that is missed: not what a broken pipe itself exits with.
    verb += ["--require-gain", "0.99"]
    found = run(*verb, shell=f'"$@" {streams}')
    assert found.returncode == 1
    assert json.loads(report.read_text())["accuracy"] and not model.exists()
    assert "Traceback" not in found.stdout + found.stderr


def test_a_run_that_is_done_is_done_whoever_reads(case: list[str], tmp_path: Path) -> None:
    output = tmp_path / "a.npz"
    verb = ["-m", "cloakify", "attack", *case, "-o", str(output)]
    for streams in ("2>&- | true; exit ${PIPESTATUS[0]}", "<&- >&- 2>&-"):
        found = run(*verb, shell=f'"$@" {streams}')
        assert (found.returncode, found.stdout) == (0, "")
        with np.load(output) as file:
            assert len(file["x"]) == 40
        output.unlink()


def test_standard_output_on_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    for verb in ("devices", "--help"):
        found = run("-m", "cloakify", verb, shell='exec "$@" >/dev/full')
        assert found.returncode == 1
        assert found.stderr == "Error: the output can't be written (No space left on device)\n"


# Runs the command, which is sent a signal as soon as it works.
MET = """
import os, signal, sys, weakref

import cloakify.cli.console as console
from cloakify.cli.process import main

begin = console.begin_work

def begin_work():
    begin()
    strike()

def kill(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass

def strike():
    {strike}

console.begin_work = begin_work
main()
"""

# As compiled code does with what is raised while it is imported.
TURNED = """
    try:
        kill()
    except KeyboardInterrupt:
        raise ImportError("initialization failed")
"""

CALLBACK = """
    held = type("Held", (), {})()
    reference = weakref.ref(held, kill)
    del held
"""

FINALISER = """
    type("Held", (), {"__del__": kill})()
"""


@pytest.mark.parametrize("strike", [TURNED, CALLBACK, FINALISER], ids=["import", "weak", "del"])
@pytest.mark.parametrize("shell", ['exec "$@"', 'trap "" INT; exec "$@"'], ids=["", "background"])
def test_an_interruption_that_something_else_swallows(
    case: list[str], tmp_path: Path, strike: str, shell: str
) -> None:
    """Also of a job in the background, for which shells have SIGINT ignored."""
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "a.npz"
    # Long enough for an interruption that comes again: no sample falls to so little.
    arguments = ["attack", *case, "--steps", "1000000", "--eps", "1e-6", "-o", str(output)]
    found = run("-c", MET.replace("{strike}", strike.strip()), *arguments, shell=shell)
    assert (found.returncode, found.stderr.splitlines()[-1:]) == (130, [LINE.strip()])
    assert "Traceback" not in found.stderr
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ended_from_outside(samples: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "a.npz"
    data = ["--data", str(samples / "test.npz"), "-o", str(output), "--attack", "square"]
    # Where the tests run in the background the shell has them ignore it, and their children too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "cloakify", "attack", str(samples / "fashion_keras.onnx"), *data],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    with process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.iterdir()), "nothing was begun"
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "Interrupted; nothing was left half written."
    assert not list(tmp_path.iterdir())
