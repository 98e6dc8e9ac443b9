"""Plant small faults in a package, one at a time, and count how many its tests notice.

    pip install -e ".[test,mutation]"
    python tests/mutation/measure.py attacks --sample 50
    python tests/mutation/measure.py graph/gradient --sample 50 --seed 1 --only rules/pooling.py

cosmic-ray makes the faults: another operator, a number one off, a condition turned round, a loop
not entered. A sample of the places that can be changed is drawn, one fault each, in a copy of the
tree. For each the mirrored tests run, those of the changed file first, until one fails; where they
take long, --covering runs those alone that pass through the changed line (as pytest-cov saw it: not
for packages whose tests share what is opened once). Faults that can't show are left out: those in
annotations, and of `==` for `is`. Exit code 1 if fewer are caught than --bar asks for. What
survived, and what was made of it, is written down in README.md beside.
"""

from __future__ import annotations

import argparse
import ast
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_and_test, mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.testing import run_tests
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome
from coverage import CoverageData

ROOT = Path(__file__).parents[2]
# The tests of each package, where they are not those of the same name alone.
TESTS = {
    "verification": ["tests/verification", "tests/workflows/test_verify.py"],
    "graph/gradient": ["tests/graph/gradient", "tests/graph/attack_steps"],
}
# `x == None` and `x is None`, small numbers and interned names: the same, nearly always.
SAME = ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", help="below cloakify/, such as attacks or graph/gradient")
    parser.add_argument("--sample", type=int, default=50, help="number of faults (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="which faults (default: 0)")
    parser.add_argument("--only", default="", help="part of the path of the files to change")
    parser.add_argument(
        "--bar", type=float, default=0.85, help="share to be caught (default: 0.85)"
    )
    parser.add_argument("--covering", action="store_true", help="run no other tests")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(Path(folder))
        faults = draw(tree / "cloakify" / options.package, options)
        tests = TESTS.get(options.package, [f"tests/{options.package}"])
        limit = time_of(tree, tests, options.covering) * 3 + 30
        caught = 0
        for number, fault in enumerate(faults, 1):
            own = covering(tree, fault, tests) if options.covering else tests
            survived, line = try_fault(tree, fault, own, limit)
            caught += not survived
            print(f"{number:4} {'SURVIVED' if survived else 'caught  '} {line}", flush=True)
    share = caught / len(faults)
    print(f"{options.package}: {caught} of {len(faults)} caught, {share:.0%}")
    return int(share < options.bar)


def copy_of_tree(folder: Path) -> Path:
    """Copy what git tracks, and new files that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def draw(package: Path, options: argparse.Namespace) -> list[MutationSpec]:
    """Draw places of a package, and a fault for each."""
    places: dict[tuple[Path, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    with use_db(":memory:", WorkDB.Mode.create) as database:
        paths = [path for path in sorted(package.rglob("*.py")) if options.only in str(path)]
        init(paths, database, {})
        for item in database.work_items:
            (fault,) = item.mutations
            if not fault.operator_name.endswith(SAME) and not keyword_only(fault):
                places[fault.module_path, fault.start_pos].append(fault)
    for path in {path for path, _ in places}:
        hidden = list(annotations(path))
        for place in [place for place in places if place[0] == path]:
            if any(start <= place[1] < end for start, end in hidden):
                del places[place]
    generator = random.Random(options.seed)
    chosen = generator.sample(sorted(places), min(options.sample, len(places)))
    print(f"{len(chosen)} of {len(places)} places in {len(paths)} files", flush=True)
    return [generator.choice(faults) for place in chosen if (faults := valid(places[place]))]


def keyword_only(fault: MutationSpec) -> bool:
    """Tell whether it is about the star after which a function's arguments have names."""
    row, column = fault.start_pos
    return fault.module_path.read_text().splitlines()[row - 1][column:].startswith("*,")


def valid(faults: list[MutationSpec]) -> list[MutationSpec]:
    """Return those that are still Python."""
    kept = []
    for fault in faults:
        operator = get_operator(fault.operator_name)(**fault.operator_args)
        code = mutate_code(fault.module_path.read_text(), operator, fault.occurrence)
        try:
            compile(code, str(fault.module_path), "exec")
        except SyntaxError:
            continue
        kept.append(fault)
    return kept


def annotations(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield from where to where annotations stand: line and column."""
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            if part is not None:
                assert part.end_lineno is not None and part.end_col_offset is not None
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def time_of(tree: Path, tests: list[str], with_coverage: bool) -> float:
    """Run the tests as they are; return the seconds that they took."""
    started = time.perf_counter()
    seen = ["--cov=cloakify", "--cov-context=test", "--cov-report="] * with_coverage
    outcome, output = run_tests(command(tree, [*seen, *tests]), None)
    if outcome is not TestOutcome.SURVIVED:
        raise SystemExit(f"the tests fail as they are:\n{output}")
    seconds = time.perf_counter() - started
    print(f"the tests take {seconds:.0f} s", flush=True)
    return seconds


def covering(tree: Path, fault: MutationSpec, all_tests: list[str]) -> list[str]:
    """Return the tests that pass through the statement with a fault."""
    data = CoverageData(str(tree / ".coverage"))
    data.read()
    by_line = data.contexts_by_lineno(str(fault.module_path))
    lines = lines_of_statement(fault.module_path, fault.start_pos[0])
    contexts = {context for line in lines for context in by_line.get(line, ())}
    # What runs while a module is imported runs before any test.
    return all_tests if "" in contexts else sorted({c.rpartition("|")[0] for c in contexts})


def lines_of_statement(path: Path, line: int) -> range:
    """Return the lines of the smallest statement around one, without what is nested in it."""
    around = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.stmt) and first_line(node) <= line <= (node.end_lineno or 0)
    ]
    if not around:
        return range(line, line + 1)
    node = max(around, key=lambda node: node.lineno)
    body = getattr(node, "body", None)
    end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
    return range(first_line(node), max(end, node.lineno + 1))


def first_line(node: ast.stmt) -> int:
    """Return where a statement begins, with its decorators."""
    return min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", ()))])


def try_fault(tree: Path, fault: MutationSpec, tests: list[str], limit: float) -> tuple[bool, str]:
    """Plant a fault and run the tests; tell whether it survived, and the line it made."""
    stem = fault.module_path.stem
    where = f"{fault.module_path.relative_to(tree / 'cloakify')}:{fault.start_pos[0]}"
    if not tests:
        return True, f"{where} | no test comes by"
    own = [str(path.relative_to(tree)) for path in sorted(tree.glob(f"tests/**/test_{stem}.py"))]
    own = [path for path in own if path.startswith(tuple(tests))]
    first = [test for test in tests if f"/test_{stem}.py" in test]
    result = mutate_and_test([fault], command(tree, [*own, *first, *tests]), limit)
    changed = [
        line[1:].strip()
        for line in (result.diff or "").splitlines()
        if line.startswith("+") and not line.startswith("+++")
    ]
    return result.test_outcome is TestOutcome.SURVIVED, f"{where} | {' / '.join(changed)}"


def command(tree: Path, tests: list[str]) -> str:
    """Return the command that runs tests in the copy of the tree."""
    words = ["env", "-C", str(tree), sys.executable, "-m", "pytest", "-x", "-q"]
    words += ["-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0", *tests]
    return shlex.join(words)


if __name__ == "__main__":
    sys.exit(main())
