"""Plant small faults in a package, one at a time, and count how many its tests notice.

    pip install -e ".[test,mutation]"
    python tests/mutation/measure.py attacks --sample 50 --seed 1
    python tests/mutation/measure.py graph/gradient --all --jobs 2

`faults.py` draws them. First each file of tests runs by itself as things are, which tells what
tests pass through which line, and how long they take. Then each fault is planted in a copy of the
tree, and those tests run that pass through the changed statement (all of their file's, where it is
passed while modules are imported or what tests share is made), the quickest first, until one fails.
`served.py` runs them without starting anew. Exit code 1 if fewer are caught than --bar asks for.
What survived, and what was made of it, is written down in README.md beside.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData
from faults import changed, draw, lines_of_statement

from cloakify.numeric.intervals import wilson

ROOT = Path(__file__).parents[2]
# The tests of each package, where they are not those of the same name alone.
TESTS = {
    "verification": ["tests/verification", "tests/workflows/test_verify.py"],
    "graph/gradient": ["tests/graph/gradient", "tests/graph/attack_steps"],
}


def main() -> int:
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        trees = [Tree(Path(folder) / str(number)) for number in range(options.jobs)]
        free: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for tree in trees:
            free.put(tree)
        package = Path("cloakify") / options.package
        faults = draw(
            ROOT / package, options.only, None if options.all else options.sample, options.seed
        )
        with ThreadPoolExecutor(options.jobs) as pool:
            known = Known()
            for seen in pool.map(partial(observed, free, package), test_files(options)):
                known.add(seen)
            print(f"the tests take {sum(known.seconds.values()):.0f} s", flush=True)
            start = time.monotonic()
            results = list(pool.map(partial(tried, free, known), faults))
            seconds = time.monotonic() - start
        for tree in trees:
            tree.close()
    caught = sum(results)
    share = caught / len(results)
    low, high = wilson(caught, len(results))
    print(
        f"{options.package}: {caught} of {len(results)} caught, {share:.0%} "
        f"[{100 * low:.0f}, {100 * high:.0f}]; a fault took {seconds / len(results):.1f} s"
    )
    return int(share < options.bar)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", help="below cloakify/, such as attacks or graph/gradient")
    parser.add_argument("--sample", type=int, default=50, help="number of faults (default: 50)")
    parser.add_argument("--all", action="store_true", help="a fault in every place")
    parser.add_argument("--seed", type=int, default=0, help="which faults (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="faults at once (default: 1)")
    parser.add_argument("--only", default="", help="part of the path of the files to change")
    parser.add_argument("--tests", action="append", help="other tests than those of the same name")
    parser.add_argument(
        "--bar", type=float, default=0.85, help="share to be caught (default: 0.85)"
    )
    options = parser.parse_args()
    options.tests = options.tests or TESTS.get(options.package, [f"tests/{options.package}"])
    return options


class Tree:
    """A copy of what git tracks, and new files that it does not ignore, with a server of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.server = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "served.py")],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: list[str], **request: Any) -> dict[str, Any]:
        """Run tests as ``served.run`` does."""
        words = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"]
        words += ["--hypothesis-profile=planted", *arguments]
        blank = {"first": [], "left_out": [], "seconds": {}}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        print(json.dumps({**blank, "arguments": words, **request}), file=self.server.stdin)
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self.server.communicate()


@dataclass
class Known:
    """What the tests do as things are."""

    # Seconds by test.
    seconds: dict[str, float] = field(default_factory=dict)
    # By file and line of the package: tests, and files of tests that pass it outside of any.
    tests: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, other: Known) -> None:
        """Take in what other tests do."""
        self.seconds.update(other.seconds)
        for line, tests in other.tests.items():
            self.tests[line] |= tests

    def passing(self, path: str, lines: range) -> list[str]:
        """Return the tests that pass through lines: those of the file that is called alike first,
        then those of the quickest one.
        """
        seen = {name for line in lines for name in self.tests.get((path, line), ())}
        files = {name for name in seen if "::" not in name}
        tests = [name for name in self.seconds if name in seen or of_file(name) in files]
        total: dict[str, float] = defaultdict(float)
        for name in tests:
            total[of_file(name)] += self.seconds[name]
        alike = f"test_{Path(path).stem}"

        def rank(name: str) -> tuple[bool, float, bool, float]:
            # A file's tests stay together, as what they share is made anew otherwise.
            file = of_file(name)
            other = not Path(file).stem.startswith(alike)
            return other, total[file], name not in seen, self.seconds[name]

        return sorted(tests, key=rank)


def of_file(test: str) -> str:
    """Return the file that a test is in."""
    return test.partition("::")[0]


def test_files(options: argparse.Namespace) -> list[str]:
    """Return the files of the tests to run."""
    paths = [ROOT / name for name in options.tests]
    files = [path for top in paths for path in ([top] if top.is_file() else top.rglob("test_*.py"))]
    return sorted({str(path.relative_to(ROOT)) for path in files})


def observed(free: queue.SimpleQueue[Tree], package: Path, file: str) -> Known:
    """Run a file of tests as things are."""
    tree = free.get()
    seen = [f"--cov={package}", "--cov-context=test", "--cov-report="]
    answer = tree.run([*seen, file])
    known = Known(answer["seconds"])
    if not answer["passed"]:
        raise SystemExit(f"the tests fail as they are:\n{answer['output']}")
    data = CoverageData(str(tree.folder / ".coverage"))
    data.read()
    for path in data.measured_files():
        name = str(Path(path).relative_to(tree.folder))
        for line, contexts in data.contexts_by_lineno(path).items():
            for context in contexts:
                test, _, phase = context.rpartition("|")
                known.tests[name, line].add(test if phase == "run" else file)
    data.erase()
    free.put(tree)
    return known


def tried(free: queue.SimpleQueue[Tree], known: Known, fault: MutationSpec) -> bool:
    """Plant a fault and run the tests; say what came of it, and return whether they fail."""
    tree = free.get()
    name = str(fault.module_path.relative_to(ROOT))
    before, after = fault.module_path.read_text(), changed(fault)
    tests = known.passing(name, lines_of_statement(fault.module_path, fault.start_pos[0]))
    caught = False
    if tests:
        (tree.folder / name).write_text(after)
        answer = tree.run(
            sorted({of_file(test) for test in tests}),
            first=tests,
            left_out=sorted(set(known.seconds) - set(tests)),
            seconds=known.seconds,
        )
        caught = not answer["passed"]
        shutil.copy2(fault.module_path, tree.folder / name)
    free.put(tree)
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    new = " / ".join(line[2:].strip() for line in lines if line.startswith("+ "))
    verdict = "caught  " if caught else "SURVIVED" if tests else "UNTESTED"
    print(f"{verdict} {name}:{fault.start_pos[0]} | {new}", flush=True)
    return caught


if __name__ == "__main__":
    sys.exit(main())
