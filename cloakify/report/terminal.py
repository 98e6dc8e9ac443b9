"""A report as a terminal shows it: tables, what may be claimed, and what speaks against it.

Where nobody looks (a pipe, a file) nothing is coloured or wrapped, so that a table's row is one
line whose columns are at least two spaces apart.
"""

from __future__ import annotations

import io

from rich.box import Box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from cloakify.evaluation import VerdictCode
from cloakify.printable import printable
from cloakify.report.comparison import EvaluateReport
from cloakify.report.facts import verdicts, warnings
from cloakify.report.records import HardenReport
from cloakify.report.tables import Table, tables

# A rule of dashes under the header and nothing else; ASCII, for any terminal and any log.
_HEADER_RULE = Box("    \n    \n -  \n    \n    \n    \n    \n    \n", ascii=True)
_UNBOUNDED = 1 << 16

_STYLES = {
    VerdictCode.HARDENED: "green",
    VerdictCode.UNPROVEN: "yellow",
    VerdictCode.WORSE: "red",
}


def report_text(report: HardenReport | EvaluateReport, width: int | None, colour: bool) -> str:
    """Return a report as text.

    Parameters
    ----------
    width
        Columns of the terminal, at which cells and sentences are wrapped; ``None`` for none.
    colour
        Whether to use colours and weights.

    Returns
    -------
    str
        Ends in a newline. What comes from names is made printable, and is no markup.
    """
    console = Console(
        file=io.StringIO(),
        width=width or _UNBOUNDED,
        force_terminal=colour,
        force_jupyter=False,
        color_system="standard" if colour else None,
        legacy_windows=False,
    )
    for table in tables(report):
        _print_table(console, table)
    for code, sentence in verdicts(report):
        _print_line(console, sentence, _STYLES.get(code, "bold"))
    for line in warnings(report):
        _print_line(console, f"Warning: {line}", "yellow")
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _print_table(console: Console, table: Table) -> None:
    grid = Grid(
        box=_HEADER_RULE,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    for cell in table.header:
        grid.add_column(Text(printable(cell)), overflow="fold")
    for row in table.rows:
        style = "bold" if row[0] == table.key else ""
        grid.add_row(*(Text(printable(cell)) for cell in row), style=style)
    _print_line(console, table.title, "bold")
    console.line()
    console.print(grid)
    console.line()
    for note in table.notes:
        _print_line(console, note, "dim")
    if table.notes:
        console.line()


def _print_line(console: Console, line: str, style: str) -> None:
    console.print(Text(printable(line), style=style))
