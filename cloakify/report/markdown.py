"""The report as Markdown: the verdict first, then the tables, then the circumstances."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cloakify.printable import printable
from cloakify.report import facts
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport
from cloakify.report.tables import Table, tables

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#!|~&$])")


def render_markdown(report: HardenReport | EvaluateReport) -> str:
    """Return the report as Markdown (with GitHub's tables), ending in a newline."""
    return "\n".join(_lines(report)) + "\n"


def escape(text: str) -> str:
    """Escape what Markdown or HTML would read as markup; make the text printable, on one line."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _lines(report: HardenReport | EvaluateReport) -> Iterator[str]:
    yield f"# {escape(facts.title(report))}"
    yield ""
    for _, sentence in facts.verdicts(report):
        yield f"**{escape(sentence)}**"
        yield ""
    for table in tables(report):
        yield from _table(table)
    warnings = facts.warnings(report)
    if warnings:
        yield "## Warnings"
        yield ""
        yield from (f"- {escape(warning)}" for warning in warnings)
        yield ""
    yield "## Circumstances"
    yield ""
    yield from (
        f"- {escape(label)}: {escape(value)}" for label, value in facts.circumstances(report)
    )
    command = facts.command(report)
    if command is not None:
        yield ""
        yield "The command that repeats the run:"
        yield ""
        # As code, which is taken as it stands and can be copied.
        yield f"    {printable(command)}"


def _table(table: Table) -> Iterator[str]:
    yield f"## {escape(table.title)}"
    yield ""
    yield _row(table.header)
    yield "|" + " --- |" * len(table.header)
    yield from map(_row, table.rows)
    yield ""
    yield from (f"- {escape(note)}" for note in table.notes)
    if table.notes:
        yield ""


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"
