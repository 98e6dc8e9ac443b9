"""The recipes of CONTRIBUTING, followed to the letter in a copy of the package, work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.recipe_checks import CHECKS

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / ".github" / "CONTRIBUTING.md"
# Of the package, for one change.
MOST_FILES = 3
EDIT = re.compile(
    r"^(?:New file|In) `(?P<path>[^`]+)`"
    r"(?:, (?P<where>above|below|in place of) `(?P<line>[^\n]*)`)?:\n\n"
    r"```python\n(?P<text>.*?)```\n",
    re.M | re.S,
)


@dataclass(frozen=True)
class Edit:
    """A piece of text, and where it goes: beside a line, in its place, or into a new file."""

    path: str
    where: str | None
    line: str | None
    text: str

    def make(self, root: Path) -> None:
        file = root / self.path
        if self.where is None:
            assert not file.exists(), f"{self.path} is there already"
            file.write_text(self.text)
            return
        lines = file.read_text().splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.rstrip("\n") == self.line]
        assert len(places) == 1, f"{self.path} has {len(places)} lines {self.line!r}"
        start = places[0] + (self.where == "below")
        end = places[0] + (self.where != "above")
        lines[start:end] = [self.text]
        file.write_text("".join(lines))


def recipes() -> dict[str, list[Edit]]:
    """Return the edits of each recipe, by its heading."""
    _, text = GUIDE.read_text().split("\n## Recipes\n")
    parts = re.split(r"^### (.*)\n", text, flags=re.M)[1:]
    return {
        name: [Edit(*match.group("path", "where", "line", "text")) for match in EDIT.finditer(part)]
        for name, part in zip(parts[::2], parts[1::2], strict=True)
    }


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Follow all recipes in one copy and check each; return what failed, by the recipe's name."""
    copy = tmp_path_factory.mktemp("recipes")
    shutil.copytree(ROOT / "cloakify", copy / "cloakify")
    found: dict[str, str] = {}
    for name, edits in recipes().items():
        try:
            for edit in edits:
                edit.make(copy)
        except AssertionError as error:
            found[name] = str(error)
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    script = str(ROOT / "tests" / "support" / "recipe_checks.py")
    names = [name for name in CHECKS if name not in found]
    done = subprocess.run(
        [sys.executable, script, *names], env=environment, cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found.update(json.loads(done.stdout))
    return found


def test_every_recipe_is_checked() -> None:
    assert list(recipes()) == list(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_recipe(name: str, failed: dict[str, str]) -> None:
    assert name not in failed, failed[name]


@pytest.mark.parametrize("name", CHECKS)
def test_a_change_touches_few_files(name: str) -> None:
    edits = recipes()[name]
    assert edits
    assert len({edit.path for edit in edits}) <= MOST_FILES
    assert all(edit.path.startswith("cloakify/") for edit in edits)
