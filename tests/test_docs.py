"""What is written for people is true of the tree: generated tables, links, and what CI runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import msgspec
import pytest

from cloakify.cli.main import cli
from cloakify.report import HardenReport
from tests.test_layering import ORDER

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *ROOT.glob("[!.]*/**/README.md")]
    if "site-packages" not in path.parts
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(document: Path) -> None:
    """Whatever is written as `folder/file.py` is there, from the top or from the package."""
    named = r"(?<!New file )`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|yaml|json|onnx|npz))`"
    for name in re.findall(named, document.read_text()):
        places = [ROOT / name, ROOT / "cloakify" / name, document.parent / name]
        assert any(place.exists() for place in places), name


def options_of_scripts() -> set[str]:
    """Return the options that scripts of the repository declare."""
    scripts = [*ROOT.glob("tests/**/*.py"), *ROOT.glob("sample_models/*.py")]
    return {name for path in scripts for name in re.findall(r'"(--[a-z0-9-]+)"', path.read_text())}


@pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CHANGELOG.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_options_that_are_named_exist(document: Path) -> None:
    """Those of a command are the verb's; others any verb's, or those of a script."""
    verbs = {
        name: {"--help", *(each for param in verb.params for each in param.opts)}
        | {each for param in verb.params for each in param.secondary_opts}
        for name, verb in cli.commands.items()
    }
    every = set().union(*verbs.values(), options_of_scripts())
    text = document.read_text()
    for code in re.findall(r"^```\n(.*?)^```|`([^`]+)`", text, re.M | re.S):
        for line in re.split(r"\n|&&", "".join(code)):
            verb = re.match(r" *cloakify (\w+)", line)
            known = verbs.get(verb[1], every) if verb else every
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", line):
                assert option in known, f"{line.strip()}: {option}"


def test_tables_are_those_of_the_measurements() -> None:
    sys.path.insert(0, str(ROOT / "sample_models"))
    from tests.benchmarks.masks import RESULTS, SUMMARY, TABLE, known
    from tests.benchmarks.masks_table import markdown, put_table, summary

    measured = known(RESULTS)
    for path, lines in ((TABLE, markdown(measured)), (SUMMARY, summary(measured))):
        assert path.read_text() == put_table(path.read_text(), lines), path


def test_hooks_run_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    hooks = re.findall(r"^ +entry: (.*)$", (ROOT / ".ci" / "pre-commit.yaml").read_text(), re.M)
    # What follows the installation.
    last = max(number for number, line in enumerate(script) if line.startswith("pip install"))
    assert hooks == script[last + 1 :]


def test_parts_of_a_report_are_those_there_are() -> None:
    text = (ROOT / "cloakify" / "README.md").read_text()
    section = text[text.index("## What a report holds") :]
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (.*?) \|", section, re.M)))
    fields = {field.name for field in msgspec.structs.fields(HardenReport)}
    assert sorted(named) == sorted(fields - {"schema_version", "cloakify_version"})


def test_layers_are_those_that_are_held() -> None:
    text = (ROOT / "cloakify" / "README.md").read_text()
    section = text[text.index("## Layers") : text.index("## Decisions")]
    assert re.findall(r"^\| `([\w.]+)` \|", section, re.M) == ORDER
