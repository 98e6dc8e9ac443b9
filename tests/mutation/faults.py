"""Draws faults to plant: another operator, a number one off, a condition turned round.

cosmic-ray makes them. A sample of the places that can be changed is drawn, one fault each. Faults
that can't show are left out: those in annotations, of `==` for `is`, and whether what is of one
length anyway is checked to be (`strict=`) or what nobody changes or compares can be (`frozen=`).
"""

from __future__ import annotations

import ast
import random
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.commands.init import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec

# `x == None` and `x is None`, small numbers and interned names: the same, nearly always.
SAME = ("Eq_Is", "NotEq_IsNot", "Is_Eq", "IsNot_NotEq")
# Arguments that only refuse what does not happen: by the function that takes them.
GUARDS = {"zip": {"strict"}, "dataclass": {"frozen", "eq", "kw_only"}}


def draw(package: Path, only: str, sample: int | None, seed: int) -> list[MutationSpec]:
    """Draw places of a package, and a fault for each.

    Args:
        package: Folder whose files are changed.
        only: Part of the path of the files to change.
        sample: Number of faults; all places have one if None.
        seed: Which faults.
    """
    places: dict[tuple[Path, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    with use_db(":memory:", WorkDB.Mode.create) as database:
        paths = [path for path in sorted(package.rglob("*.py")) if only in str(path)]
        init(paths, database, {})
        for item in database.work_items:
            (fault,) = item.mutations
            if not fault.operator_name.endswith(SAME) and not keyword_only(fault):
                places[fault.module_path, fault.start_pos].append(fault)
    for path in {path for path, _ in places}:
        hidden = [*annotations(path), *guards(path)]
        for place in [place for place in places if place[0] == path]:
            if any(start <= place[1] < end for start, end in hidden):
                del places[place]
    generator = random.Random(seed)
    chosen = generator.sample(sorted(places), min(sample or len(places), len(places)))
    print(f"{len(chosen)} of {len(places)} places in {len(paths)} files", flush=True)
    return [generator.choice(faults) for place in chosen if (faults := valid(places[place]))]


def keyword_only(fault: MutationSpec) -> bool:
    """Tell whether it is about the star after which a function's arguments have names."""
    row, column = fault.start_pos
    return fault.module_path.read_text().splitlines()[row - 1][column:].startswith("*,")


def changed(fault: MutationSpec) -> str:
    """Return the file's text with the fault in it."""
    operator = get_operator(fault.operator_name)(**fault.operator_args)
    return mutate_code(fault.module_path.read_text(), operator, fault.occurrence)


def valid(faults: list[MutationSpec]) -> list[MutationSpec]:
    """Return those that are still Python."""
    kept = []
    for fault in faults:
        try:
            with warnings.catch_warnings():
                # Of `is` with a literal, which is the fault.
                warnings.simplefilter("ignore", SyntaxWarning)
                compile(changed(fault), str(fault.module_path), "exec")
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


def guards(path: Path) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield from where to where the values of :data:`GUARDS` stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        for argument in node.keywords:
            part = argument.value
            if argument.arg in GUARDS.get(node.func.id, ()):
                assert part.end_lineno is not None and part.end_col_offset is not None
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


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
