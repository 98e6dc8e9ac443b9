"""Inline SVG charts: accuracies as bars, robustness as curves, every value with its interval.

Colours are CSS classes (``s0``, ``s1``, …) of `cloakify.report.style`, so that the charts follow
the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cloakify.evaluation import Figure
from cloakify.report import wording
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport
from cloakify.report.text_table import model_names

_WIDTH = 720
_NAME = 60
_TICK = 44
"""What the label of a budget takes up."""

_SERIES = 6
"""Colours in the style sheet; further models start again with the first."""

Series = tuple[str, int]
"""A name and the number of its colour."""


def harden_chart(report: HardenReport) -> str:
    """Bars for clean, static, transfer and adaptive accuracy of source, hardened, random mask."""
    accuracy = report.accuracy
    models = [("source", accuracy.source), ("hardened", accuracy.hardened)]
    legend: list[Series] = [("source", 0), ("hardened", 1)]
    if accuracy.random_mask is not None:
        legend.append(("random mask", 2))
    left, right, bar = 78, _WIDTH - 20, 15
    key, top = _legend(legend, left)
    parts: list[str] = []
    y = top
    for name in ("clean", "static", "transfer", "adaptive"):
        rows: list[tuple[int, Figure]] = [
            (series, getattr(figures, name)) for series, (_, figures) in enumerate(models)
        ]
        control = getattr(accuracy.random_mask, name, None)
        if control is not None:
            rows.append((2, control))
        middle = y + len(rows) * bar / 2
        parts.append(_text(left - 10, middle + 4, name, "end"))
        for series, figure in rows:
            parts.append(_bar(left, right, y, bar - 3, series, figure, legend[series][0], name))
            y += bar
        y += 14
    bottom = y - 8
    grid = [
        _line(x, top - 6, x, bottom, "grid") + _text(x, bottom + 16, f"{share} %", "middle")
        for share in (0, 25, 50, 75, 100)
        for x in [left + (right - left) * share / 100]
    ]
    label = "Accuracy of source, hardened and random mask with 95 % intervals"
    return _svg(bottom + 24, label, [*key, *grid, *parts])


def evaluate_chart(report: EvaluateReport) -> str:
    """Worst-case accuracy of every model against the budget, from clean down to chance."""
    names = model_names(report)
    left, right = 52, _WIDTH - 20
    largest = _last_budget(report)
    legend = [(names[entry.model.path], i) for i, entry in enumerate(report.models)]
    key, top = _legend(legend, left)
    bottom = top + 266
    parts: list[str] = []
    for share in (0, 25, 50, 75, 100):
        y = bottom - (bottom - top) * share / 100
        parts += [_line(left, y, right, y, "grid"), _text(left - 8, y + 4, f"{share} %", "end")]
    curves = [
        [(point.eps, point.accuracy) for point in entry.curve if point.eps <= largest]
        for entry in report.models
    ]
    free = float(_WIDTH)
    for eps in sorted({eps for curve in curves for eps, _ in curve}, reverse=True):
        x = left + 10 + (right - left - 20) * eps / largest
        # From the right, and only where there is room.
        if x <= free:
            text = "clean" if eps == 0 else wording.budget(eps)
            parts.append(_text(x, bottom + 18, text, "middle"))
            free = x - _TICK
    for series, curve in enumerate(curves):
        # Models stand a little apart, so that intervals at the same budget do not hide each other.
        shift = 10 + 5 * (series - (len(report.models) - 1) / 2)
        dots = [
            (left + shift + (right - left - 20) * eps / largest, figure) for eps, figure in curve
        ]
        parts.append(_curve(dots, top, bottom, series, legend[series][0]))
    label = "Worst-case accuracy against the budget with 95 % intervals"
    return _svg(bottom + 28, label, [*key, *parts])


def _last_budget(report: EvaluateReport) -> float:
    """Return the first budget, of those asked for and beyond, that brings all models to chance."""
    chance = 1 / report.data.num_classes
    reached = [
        next(
            (point.eps for point in entry.curve if point.accuracy.value <= chance),
            entry.curve[-1].eps,
        )
        for entry in report.models
    ]
    return max(*report.threat.eps, *reached)


def _bar(
    left: float,
    right: float,
    y: float,
    height: float,
    series: int,
    figure: Figure,
    who: str,
    what: str,
) -> str:
    scale = right - left
    low, end, high = (left + scale * part for part in (figure.low, figure.value, figure.high))
    middle = y + height / 2
    return (
        f'<g class="s{series}"><title>{escape(f"{what}, {who}: {wording.percent(figure)}")}</title>'
        f'<rect x="{left}" y="{y}" width="{end - left:.1f}" height="{height}" rx="2"/>'
        + _whisker((low, middle), (high, middle), (0, 3.5))
        + "</g>"
    )


def _curve(
    dots: Sequence[tuple[float, Figure]], top: float, bottom: float, series: int, who: str
) -> str:
    def height(share: float) -> float:
        return bottom - (bottom - top) * share

    line = " ".join(f"{x:.1f},{height(figure.value):.1f}" for x, figure in dots)
    marks = [
        f"<g><title>{escape(f'{who}: {wording.percent(figure)}')}</title>"
        + _whisker((x, height(figure.low)), (x, height(figure.high)), (3.5, 0))
        + f'<circle cx="{x:.1f}" cy="{height(figure.value):.1f}" r="4"/></g>'
        for x, figure in dots
    ]
    return f'<g class="s{series % _SERIES}"><polyline points="{line}"/>{"".join(marks)}</g>'


def _whisker(start: tuple[float, float], end: tuple[float, float], cap: tuple[float, float]) -> str:
    """Draw an interval as a line with a cap, half as long as ``cap`` times two, at each end."""
    dx, dy = cap
    pieces = [(start, end)]
    pieces += [((x - dx, y - dy), (x + dx, y + dy)) for x, y in (start, end)]
    return "".join(_line(*first, *second, "whisker") for first, second in pieces)


def _legend(series: Sequence[Series], left: float) -> tuple[list[str], float]:
    """Draw the names in as many rows as they need; also return where the drawing may go on."""
    parts: list[str] = []
    x, y = left, 4
    for name, index in series:
        shown = name if len(name) <= _NAME else "…" + name[1 - _NAME :]
        width = 40 + 7.5 * len(shown)
        if x > left and x + width > _WIDTH:
            x, y = left, y + 18
        swatch = f'<rect x="{x:.0f}" y="{y}" width="12" height="12" rx="2"/>'
        parts += [
            f'<g class="s{index % _SERIES}">{swatch}</g>',
            _text(x + 18, y + 10, shown, "start"),
        ]
        x += width
    return parts, y + 30


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )
