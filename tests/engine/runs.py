"""Runs of the command, as whole processes: small, but of several chunks."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cloakify.cli.main import run
from cloakify.engine import ray_watch
from tests.support.fragile import write_fragile

ROOT = Path(__file__).parents[2]
# Batches of 2 make chunks of 16.
FURTHER = "further.npz"
QUICK = ["--device", "cpu", "--batch-size", "2", "--eps", "0.06", "--quiet"]


@dataclass(frozen=True)
class Run:
    """A verb on the same model and data, in a folder of its own.

    Attributes
    ----------
    verb, options
        What is done.
    output
        What it writes.
    inputs
        The folder that model and data are in.
    """

    verb: str
    options: tuple[str, ...]
    output: str
    inputs: str = "in"

    def command(self, folder: Path, *more: str) -> list[str]:
        """Return the command line; the output goes into ``folder``."""
        out = ("--report" if self.output.endswith(".json") else "-o", str(folder / self.output))
        data = folder.parent / self.inputs
        words = [self.verb, str(data / "fragile.onnx"), "--data", str(data / "data.npz"), *QUICK]
        options = [str(data / word) if word == FURTHER else word for word in self.options]
        return [*words, *options, *out, *more]

    def result(self, folder: Path) -> bytes:
        """Return the output, without what may differ between two runs."""
        content = (folder / self.output).read_bytes()
        if not self.output.endswith(".json"):
            return content
        document = json.loads(content)
        for aside in ("timing", "engine", "command"):
            document.pop(aside, None)
        # Where the output lies.
        text = json.dumps(document, sort_keys=True)
        return text.replace(str(folder), "").encode()


ATTACK = Run("attack", ("--attack", "pgd", "--steps", "40"), "a.npz")
EVALUATE = Run("evaluate", ("--attack", "autoattack", "--steps", "5", "--queries", "40"), "r.json")
HARDEN = Run("harden", ("--effort", "quick", "--rounds", "2", "--write-anyway"), "h.onnx")
HARDEN_REPORT = replace(HARDEN, output="r.json")
TUNED = Run(
    "harden",
    (*("--method", "tuned", "--tune-steps", "60", "--max-accuracy-drop", "0.3"), "--write-anyway"),
    "h.onnx",
)
# Gates of positions, which share their channel's part.
TUNED_IMAGES = replace(TUNED, inputs="images")
# With samples besides, of which some are copies of the data's.
TUNED_FURTHER = replace(TUNED, options=("--unlabelled", FURTHER, *TUNED.options))
MODEL_LABELS = Run("attack", ("--labels", "model", "--steps", "3"), "a.npz")


def name_of(run: Run) -> str:
    """Return what a test calls a run."""
    return f"{run.inputs} {run.verb} {' '.join(run.options[:2])} {run.output}"


def write_inputs(folder: Path, samples: int = 120) -> None:
    """Write model and data."""
    for name in ("in", "images"):
        (folder / name).mkdir()
        _, path = write_fragile(folder / name, samples, images=name == "images")
        x = np.load(path)["x"]
        further = np.concatenate([x[::3], np.clip(x[::2] + np.float32(0.01), 0, 1)])
        np.savez(folder / name / FURTHER, x=further)


def new(folder: Path, name: str) -> Path:
    """Make a folder for outputs."""
    made = folder / name
    made.mkdir()
    return made


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it has printed."""

    code: int
    out: str
    err: str


def done(command: list[str]) -> Ended:
    """Run a command to its end, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(command)
    return Ended(code, out.getvalue(), err.getvalue())


def kill_at(command: list[str], seconds: float) -> bool:
    """Run a command, and kill it after so long; tell whether it was still running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "cloakify", *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    alive = process.poll() is None
    if alive:
        # The one that watches, and with it the one that works.
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return alive


def worker_processes() -> list[int]:
    """Return the workers of this process's own Ray that have opened, the oldest first; on Linux."""
    started = ray_watch.below(os.getpid(), "cloakify-")
    names = {number: ray_watch.command(number).rstrip("\0 ") for number in started}
    opened = [
        number for number, name in names.items() if name in ("ray::Worker", "ray::Worker.run")
    ]
    return sorted(opened, key=lambda number: int(started[number]))
