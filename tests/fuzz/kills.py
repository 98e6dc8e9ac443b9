"""Kill and interrupt runs of every verb that writes, and look at what they leave.

    python tests/fuzz/kills.py --count 200

Each run writes over an old output with a sidecar, among strangers' files, in a process of its own
that ends at a chosen moment (before or behind a call that changes a folder or brings bytes to the
disk, one after the other) or at a random one: by SIGKILL, which nobody can answer, or by SIGTERM or
SIGINT. Whatever the moment:

- each output is the old one or the new one, whole, with its own weights;
- strangers' files and what was read are as they were;
- an interrupted run exits with 130, or was done, and leaves nothing of its own behind;
- what a killed run leaves is gone when the next run has begun;
- where a run keeps what is done, the same command goes on from there, and ends.

Prints counts, and exits with 1 if anything else was seen.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[2]))

from cloakify.cli import process
from cloakify.errors import CloakifyError
from cloakify.onnxfile import check_places
from tests.fuzz.kill_scenarios import STRANGERS, Scenario, scenarios, whole, write_inputs

# Imported here once for all children: imports are most of a short run, and write nothing.
IMPORTED = [f"cloakify.workflows.{verb}" for verb in ("attack", "evaluate", "harden")]
IMPORTED += [f"cloakify.cli.{verb}_command" for verb in ("attack", "evaluate", "harden")]

# Calls after which something on the disk is otherwise than before.
CALLS = ("open", "replace", "fsync", "unlink")
ENDS = ("SIGKILL", "SIGTERM", "SIGKILL", "SIGINT")
HELD = {signal.SIGTERM, signal.SIGINT}
DONE, INTERRUPTED, BROKEN = 0, 130, 99


@dataclass(frozen=True)
class End:
    """How a run is ended: by which signal, at its n-th moment or after so many seconds."""

    signal: str = "SIGKILL"
    moment: int = 0
    seconds: float | None = None

    def __str__(self) -> str:
        at = f"at moment {self.moment}" if self.seconds is None else f"after {self.seconds:.3f} s"
        return f"{self.signal} {at}"


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, negative for a signal, its moments, what it printed."""

    code: int
    moments: int
    said: str


def run_child(scenario: Scenario, folder: Path, end: End | None = None) -> Ended:
    """Run a scenario's command in a child process, which is ended so, or comes to its end."""
    with tempfile.TemporaryDirectory() as told:
        said, passed = Path(told) / "said", Path(told) / "passed"
        # Until the command answers signals they wait: before, it is Python that does.
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        child = os.fork()
        if child:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        else:
            # What is killed must be what works, and not who watches it.
            _become([*scenario.command(folder), "--trust"], said, passed, end or End())
        if end is not None and end.seconds is not None:
            time.sleep(end.seconds)
            os.kill(child, getattr(signal, end.signal))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # The one that works may die after the one that watches it.
        with suppress(ChildProcessError):
            while True:
                os.wait()
        moments = passed.stat().st_size if passed.exists() else 0
        return Ended(code, moments, said.read_text(errors="replace") if said.exists() else "")


def _become(command: list[str], said: Path, passed: Path, end: End) -> None:
    """Make this process the command's, and never return."""
    code = BROKEN
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # Where this runs in the background SIGINT may be ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        answer = process._answer_at_once

        def answer_and_hear() -> None:
            answer()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)

        process._answer_at_once = answer_and_hear
        _count_moments(passed, end)
        process.main(command)
    except SystemExit as done:
        code = int(done.code or 0)
    except BaseException:  # noqa: BLE001  (it is what is looked for)
        # Not by way of a stream: the command has its own way with these.
        os.write(handle, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _count_moments(passed: Path, end: End) -> None:
    """Have this process signal itself at its n-th moment, and keep the count in a file's size."""
    handle = os.open(passed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        os.write(handle, b".")
        if end.seconds is None and count == end.moment:
            os.kill(os.getpid(), getattr(signal, end.signal))

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **options: object) -> object:
            step()
            found = call(*arguments, **options)
            step()
            return found

        return stepped

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))


def was_killed(ended: Ended) -> bool:
    """Tell whether the process was killed, or the one that did its work."""
    return ended.code == -signal.SIGKILL or "SIGKILL" in ended.said


def content(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def faults_of(
    scenario: Scenario, folder: Path, states: tuple[dict[str, bytes], ...], end: End, ended: Ended
) -> Iterator[str]:
    """Say what is wrong in a folder that a run has left.

    Parameters
    ----------
    states
        Everything in the folder before the run, and after one that came to its end.
    """
    killed = was_killed(ended)
    if not killed and ended.code not in (DONE, INTERRUPTED):
        yield f"ended with {ended.code}: {ended.said[-300:]}"
    if "Traceback" in ended.said:
        yield f"a traceback: {ended.said[ended.said.index('Traceback') - 100 :][:900]}"
    if killed:
        check_places([folder / "out" / "next.json"], [])
    found = content(folder)
    known = {f"out/{name}" for name in STRANGERS}
    for name, is_whole in scenario.outputs.items():
        path = f"out/{name}"
        known.add(path)
        if path not in found:
            if path in states[0]:
                yield f"{name} is gone"
            continue
        if found[path] not in [state.get(path) for state in states] and is_whole is None:
            yield f"{name} is neither the old one nor the new one"
        try:
            known |= {f"out/{part}" for part in whole(folder / "out", name)}
            if is_whole is not None:
                is_whole(folder / "out" / name)
        except (CloakifyError, OSError, ValueError, KeyError) as error:
            yield f"{name} is not whole: {error}"
    for path, data in states[0].items():
        if (path.startswith("in/") or path.removeprefix("out/") in STRANGERS) and (
            found.get(path) != data
        ):
            yield f"{path} was changed"
    for path in sorted(found.keys() - known - states[0].keys()):
        # What is half written among what is kept goes when the next run begins.
        is_kept = path.startswith("in/chunks/") and (killed or path.endswith(".chunk"))
        if not is_kept:
            yield f"{path} was left behind"


def prepare(scenario: Scenario, folder: Path) -> tuple[Path, tuple[dict[str, bytes], ...], Ended]:
    """Make what a run finds, let one come to its end, and return what stands there then.

    Returns
    -------
    A folder to start runs from; its content, and that after a run; how that ended.
    """
    start, done = folder / "start", folder / "done"
    write_inputs(start / "in", 0)
    (start / "out").mkdir()
    for name, data in STRANGERS.items():
        (start / "out" / name).write_bytes(data)
    first = run_child(scenario, start)
    # The state of a tuning is of its own run only.
    (start / "out" / "s.npz").unlink(missing_ok=True)
    shutil.rmtree(start / "in")
    write_inputs(start / "in", 1)
    shutil.copytree(start, done)
    ended = run_child(scenario, done)
    for each in (first, ended):
        if each.code != DONE:
            raise click.ClickException(f"{scenario.name} fails unhindered: {each.said[-500:]}")
    for name in scenario.outputs:
        if content(start).get(f"out/{name}") == content(done)[f"out/{name}"]:
            raise click.ClickException(f"{scenario.name}: old and new {name} are one")
    return start, (content(start), content(done)), ended


def ends_for(moments: int, seconds: float, count: int, seed: int) -> Iterator[End]:
    """Yield ends: half at moments all over the run, half after random times."""
    generator = random.Random(seed)
    chosen = (count + 1) // 2
    for number in range(chosen):
        moment = 1 + number * moments // chosen if chosen < moments else 1 + number % moments
        yield End(ENDS[number % len(ENDS)], moment=moment)
    for number in range(count - chosen):
        yield End(ENDS[number % len(ENDS)], seconds=generator.uniform(0, 1.1 * seconds))


def try_scenario(scenario: Scenario, folder: Path, count: int, seed: int) -> list[str]:
    """End so many runs of a scenario, print counts, and return what is wrong."""
    folder.mkdir()
    begun = time.monotonic()
    start, states, unhindered = prepare(scenario, folder)
    seconds = (time.monotonic() - begun) / 3
    tally: Counter[str] = Counter()
    faults = []
    for number, end in enumerate(ends_for(unhindered.moments, seconds, count, seed)):
        work = folder / "work"
        shutil.copytree(start, work)
        ended = run_child(scenario, work, end)
        found = [
            f"{scenario.name}, {end}: {fault}"
            for fault in faults_of(scenario, work, states, end, ended)
        ]
        changed = any(
            content(work).get(f"out/{name}") != states[0].get(f"out/{name}")
            for name in scenario.outputs
        )
        way = {DONE: "done", INTERRUPTED: "interrupted"}.get(ended.code, f"ended with {ended.code}")
        way = "killed" if was_killed(ended) else way
        tally[f"{way}, {'new' if changed else 'old'} output"] += 1
        if scenario.goes_on and was_killed(ended):
            again = run_child(scenario, work)
            rest = list(faults_of(scenario, work, states, end, again))
            rest += [] if again.code == DONE else [f"ended with {again.code}"]
            found += [f"{scenario.name}, {end}, run again: {fault}" for fault in rest]
        faults += found
        if found:
            shutil.copytree(work, folder / f"fault-{number}")
        shutil.rmtree(work)
    told = ", ".join(f"{name}: {times}" for name, times in sorted(tally.items()))
    click.echo(f"{scenario.name} ({unhindered.moments} moments): {told}; {len(faults)} faults")
    return faults


@click.command()
@click.option("--count", type=click.IntRange(min=1), default=200, show_default=True, help="Runs.")
@click.option("--seed", default=0, show_default=True, help="Of the random moments.")
@click.option("--only", metavar="NAME", help="The scenario of this name only.")
def main(count: int, seed: int, only: str | None) -> None:
    """End runs of each verb at chosen and random moments."""
    for module in IMPORTED:
        importlib.import_module(module)
    # Children of children that die come here to be waited for.
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)
    faults = []
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        for number, scenario in enumerate(scenarios()):
            if only in (None, scenario.name):
                faults += try_scenario(scenario, Path(place) / str(number), count, seed)
    for fault in faults:
        click.echo(fault)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
