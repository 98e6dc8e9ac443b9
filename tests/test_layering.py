"""Imports go one way, and heavy packages are imported only where they are used."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import cloakify

ROOT = Path(cloakify.__file__).parent
# DESIGN: a package imports only from itself and from those after it.
ORDER = [
    "cli",
    "workflows",
    "hardening",
    "assessment",
    "experiment",
    "engine",
    "report",
    "evaluation",
    "masking",
    "attacks",
    "data",
    "verification",
    "runtime",
    "graph.attack_steps",
    "graph.gradient",
    "graph.lowering",
    "graph.edit",
    "graph.analysis",
    "graph.model",
    "onnxfile",
    "limits",
    "boundary",
    "ort",
    "numeric",
    "settings",
    "temporary",
    "errors",
    "exit_codes",
    "printable",
    "version",
]
# What stands directly in the root is the public interface.
FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.parent != ROOT and path.parts[-2:] != ("graph", "__init__.py")
)


def layer(parts: Sequence[str]) -> int:
    """Return the place in ORDER of a module's package, or of its part of ``graph``."""
    return ORDER.index(".".join(parts[:2]) if parts[0] == "graph" else parts[0])


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield each imported module, and whether it is imported when the file is."""
    tree = ast.parse(path.read_text())
    at_once = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in at_once
        elif isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in at_once) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    own = layer(path.relative_to(ROOT).with_suffix("").parts)
    for module, _ in imports(path):
        parts = module.split(".")
        if parts[0] == "cloakify" and len(parts) > 1:
            assert layer(parts[1:]) >= own, f"{path} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_frameworks_stay_in_the_bridge(path: Path) -> None:
    for module, _ in imports(path):
        top = module.split(".")[0]
        assert top not in ("tensorflow", "keras"), path
        if top == "torch":
            assert path.parent.name == "runtime", path


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from cloakify.cli.main import run; code = run(['--help']);"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'torch', 'PIL', 'rich'} & set(sys.modules);"
        "assert code == 0 and not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_only_the_console_prints() -> None:
    """So that there is one place at which names from strangers' files are made printable."""
    prints = ("print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write")
    for path in ROOT.rglob("*.py"):
        # The latter prints after the streams have failed.
        if path.name not in ("console.py", "process.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                assert called not in prints, f"{path}:{getattr(node, 'lineno', 0)}: use say"
