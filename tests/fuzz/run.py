"""Fuzz the command: `python tests/fuzz/run.py --count 10000`.

Mutants of small models, as messages and as bytes, and of data in every format go through the verbs;
every one must end with a documented exit code, errors in one line, and within 4 GiB and 60 s. For
speed the cases run in child processes that serve many; whatever ends such a child, or takes long in
it, is run once more as the real command, which has limits, and judged by that. Kind ``explosive``,
models that are made to take much, always runs the real command.

A case is a function of its kind, the seed and its number: ``--first 123 --count 1`` repeats one.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.fuzz.cases import KINDS, make_case  # noqa: E402
from tests.fuzz.observe import WAITING, computed, held, observe  # noqa: E402
from tests.fuzz.trial import judge  # noqa: E402

# Cases that one child process serves.
SERVED = 100
# Seconds of computing, and bytes, from which on a case is told to be run alone.
LONG, LARGE = 20.0, 3 << 30

IN_CHILDREN = [kind for kind in KINDS if kind != "explosive"]


def fuzz(kind: str, seed: int, first: int, count: int, jobs: int = 1) -> dict[int, list[str]]:
    """Try cases; return what is wrong by the case's number."""
    numbers = range(first, first + count)
    size = SERVED if kind in IN_CHILDREN else 1
    parts = [numbers[start : start + size] for start in range(0, count, size)]
    found: dict[int, list[str]] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for part in pool.map(lambda part: _part(kind, seed, part), parts):
            for number, faults in part.items():
                print(f"{kind}, case {number}: {faults[0]}", file=sys.stderr, flush=True)
            found.update(part)
    return found


def _part(kind: str, seed: int, numbers: range) -> dict[int, list[str]]:
    if kind not in IN_CHILDREN:
        return {number: faults for number in numbers if (faults := alone(kind, seed, number))}
    found: dict[int, list[str]] = {}
    at = numbers.start
    while at < numbers.stop:
        for number, faults in _serve(kind, seed, at, numbers.stop):
            if faults:
                found[number] = faults
            at = number + 1
        if at < numbers.stop:
            faults = alone(kind, seed, at)
            if faults:
                found[at] = faults
            at += 1
    return found


def _serve(kind: str, seed: int, first: int, last: int) -> Iterator[tuple[int, list[str]]]:
    """Yield number and faults of cases that a child process gets through, in order."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzz.trial", kind, str(seed), str(first), str(last)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    os.set_blocking(child.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        since, before, rest = time.monotonic(), 0.0, b""
        while True:
            selector.select(0.2)
            part = child.stdout.read()
            if part == b"":
                break
            *lines, rest = (rest + (part or b"")).split(b"\n")
            for line in lines:
                since, before = time.monotonic(), computed(child.pid)
                told = json.loads(line)
                yield told["ended"], told["faults"]
            passed = time.monotonic() - since
            long = min(passed, computed(child.pid) - before) > LONG or passed > WAITING
            if long or held(child.pid) > LARGE:
                child.kill()
    child.wait()


def alone(kind: str, seed: int, number: int) -> list[str]:
    """Run a case's commands as real ones; return what is wrong."""
    found = []
    with tempfile.TemporaryDirectory(prefix="cloakify-fuzz-") as folder:
        case = make_case(kind, seed, number)
        case.write(Path(folder))
        for command in case.commands:
            outcome = observe(command, Path(folder))
            wrong = outcome.beyond or judge(outcome.code, outcome.errors)
            if wrong:
                found.append(f"{' '.join(command)}: {wrong}")
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="cases of each kind")
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="all but explosive")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    wrong = 0
    for kind in given.kind or IN_CHILDREN:
        begun = time.monotonic()
        faults = fuzz(kind, given.seed, given.first, given.count, given.jobs)
        print(f"{kind}: {len(faults)} of {given.count} wrong, {time.monotonic() - begun:.0f} s")
        alike = Counter(text.split("\n")[-1] for texts in faults.values() for text in texts)
        for text, times in alike.most_common(10):
            print(f"  {times} times: {text[:160]}")
        wrong += len(faults)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
