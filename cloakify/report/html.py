"""The report as one self-contained HTML file: the verdict first, then chart, tables, facts.

Nothing is fetched and no script runs; every text that comes from a model, a path or the data is
made printable and escaped by the template engine.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cloakify.printable import printable
from cloakify.report import facts, wording
from cloakify.report.chart import evaluate_chart, harden_chart
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport
from cloakify.report.tables import tables


def render_html(report: HardenReport | EvaluateReport) -> str:
    """Return the report as a complete HTML document."""
    gain = None
    if isinstance(report, HardenReport):
        figure = report.accuracy.gain.adaptive
        points, low, high = map(wording.signed, (figure.value, figure.low, figure.high))
        gain = {"points": points, "low": low, "high": high, "n": figure.n}
        chart, chart_title = harden_chart(report), "Accuracy with 95 % intervals"
    else:
        chart, chart_title = evaluate_chart(report), "Worst-case accuracy against the budget"
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=facts.title(report),
            style=Markup(_style()),
            verdicts=facts.verdicts(report),
            gain=gain,
            warnings=facts.warnings(report),
            chart_title=chart_title,
            chart=Markup(chart),
            tables=tables(report),
            circumstances=facts.circumstances(report),
            command=facts.command(report),
        )
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("cloakify.report"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: Any) -> Any:
    """Make what comes from names printable; markup is our own."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain else value


def _style() -> str:
    file = resources.files("cloakify.report") / "templates" / "report.css"
    return file.read_text(encoding="utf-8")
