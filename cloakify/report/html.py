"""The report as one self-contained HTML file: the verdict first, then chart, tables, facts.

Nothing is fetched and no script runs; every text that comes from a model, a path or the data is
escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from cloakify.report import facts
from cloakify.report.chart import evaluate_chart, harden_chart
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport
from cloakify.report.style import STYLE
from cloakify.report.text_table import Table, tables

# The page may style itself and nothing else: no script, no request.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render_html(report: HardenReport | EvaluateReport) -> str:
    """Return the report as a complete HTML document."""
    title = escape(facts.title(report))
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}</style>"
    )
    body = "\n".join([f"<h1>{title}</h1>", *_sections(report)])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(report: HardenReport | EvaluateReport) -> Iterator[str]:
    yield from _verdicts(report)
    warnings = facts.warnings(report)
    if warnings:
        items = "\n".join(f"<li>{escape(warning)}</li>" for warning in warnings)
        yield _section("Warnings", f"<ul>\n{items}\n</ul>", "warnings")
    if isinstance(report, HardenReport):
        yield _section("Accuracy with 95 % intervals", harden_chart(report))
    else:
        yield _section("Worst-case accuracy against the budget", evaluate_chart(report))
    for table in tables(report):
        yield _section(table.title, _table(table))
    rows = "\n".join(
        f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>"
        for label, value in facts.circumstances(report)
    )
    yield _section("Circumstances", f"<dl>\n{rows}\n</dl>")


def _verdicts(report: HardenReport | EvaluateReport) -> Iterator[str]:
    for code, sentence in facts.verdicts(report):
        number = ""
        if isinstance(report, HardenReport):
            gain = report.accuracy.gain.adaptive
            value, low, high = (_points(part) for part in (gain.value, gain.low, gain.high))
            number = (
                f'\n<div class="gain"><strong>{value} points</strong>'
                f"<span>adaptive gain, 95 % interval {low} to {high}, {gain.n} samples</span></div>"
            )
        yield (
            f'<section class="verdict {escape(code.value)}">\n<p>{escape(sentence)}</p>{number}\n'
            "</section>"
        )


def _points(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


def _section(title: str, content: str, kind: str = "") -> str:
    opening = f'<section class="{kind}">' if kind else "<section>"
    return f"{opening}\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows = []
    for name, *cells in table.rows:
        # The one row that decides the verdict stands out.
        opening = '<tr class="key">' if name == "adaptive" else "<tr>"
        data = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'{opening}<th scope="row">{escape(name)}</th>{data}</tr>')
    body = "\n".join(rows)
    notes = "\n".join(f"<li>{escape(note)}</li>" for note in table.notes)
    listing = f'\n<ul class="notes">\n{notes}\n</ul>' if notes else ""
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>{listing}"
    )
