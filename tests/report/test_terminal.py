"""A report in a terminal, and where nobody looks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from cloakify.report import EvaluateReport, HardenReport, Table, report_text, tables, terminal

MakeHarden = Callable[..., HardenReport]
MakeEvaluate = Callable[..., EvaluateReport]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_a_table_without_a_terminal_is_parsed_line_by_line(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate
) -> None:
    """Rows are the lines after the rule of dashes, cells apart by two spaces or more."""
    for report in (make_harden(), make_evaluate("a" * 90, "b" * 90)):
        text = report_text(report, None, colour=False)
        assert text.isascii() and "\x1b" not in text
        for table in tables(report):
            lines = text[text.index(f"{table.title}\n\n") :].splitlines()[2:]
            assert re.split(r" {2,}", lines[0]) == list(table.header)
            assert set(lines[1]) <= {"-", " "}
            for line, row in zip(lines[2:], table.rows, strict=False):
                assert re.split(r" {2,}", line) == [cell for cell in row if cell]
        assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_columns_are_aligned_and_fit_a_terminal(make_harden: MakeHarden) -> None:
    lines = report_text(make_harden(), None, colour=False).splitlines()
    assert lines[0] == "Accuracy"
    starts = {line.index("[") for line in lines[4:8]}
    assert max(starts) - min(starts) <= 1
    assert max(map(len, lines[2:8])) <= 80


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_is_not_overrun(
    make_harden: MakeHarden, make_evaluate: MakeEvaluate, width: int
) -> None:
    for report in (make_harden("画" * 30), make_evaluate("a" * 90, "b" * 90)):
        text = COLOUR.sub("", report_text(report, width, colour=True))
        assert max(map(cell_len, text.splitlines())) <= width
        whole = report_text(report, None, colour=False)
        for mark in ("[", "%"):
            assert text.count(mark) == whole.count(mark)


def test_colours_say_nothing_that_words_do_not(make_harden: MakeHarden) -> None:
    report = make_harden()
    coloured = report_text(report, 1000, colour=True)
    assert "\x1b[" in coloured
    assert COLOUR.sub("", coloured).split() == report_text(report, None, colour=False).split()


def test_names_are_no_markup(make_harden: MakeHarden) -> None:
    text = report_text(make_harden("[red]:smile:[/]"), None, colour=False)
    assert "[red]:smile:[/]" in text


def test_the_sample_in_the_readme_is_what_is_printed(
    make_harden: MakeHarden, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"```\n(in % .*?)```", readme, flags=re.DOTALL)
    header, _, *rows = [re.split(r" {2,}", line) for line in sample.splitlines()]
    cells = [tuple(row + [""] * (len(header) - len(row))) for row in rows]
    assert header == list(tables(make_harden())[0].header)
    monkeypatch.setattr(terminal, "tables", lambda report: [Table("", tuple(header), tuple(cells))])
    assert sample in report_text(make_harden(), None, colour=False)
