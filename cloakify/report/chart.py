"""Inline SVG charts: accuracies as bars, robustness as curves, every value with its interval.

Colours are CSS classes (``s0``, ``s1``, …) of the report's style sheet, so that the charts follow
the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from cloakify.evaluation import Figure
from cloakify.printable import printable
from cloakify.report import wording
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport
from cloakify.report.tables import model_names

_WIDTH = 720
_NAME = 60
_TICK = 44
"""What the label of a budget takes up."""

_SERIES = 6
"""Colours in the style sheet; further models start again with the first."""

Series = tuple[str, int]
"""A name and the number of its colour."""
Point = tuple[float, float]


def harden_chart(report: HardenReport) -> str:
    """Bars for clean, static, transfer and adaptive accuracy of source, hardened, random mask."""
    accuracy = report.accuracy
    models = [("source", accuracy.source), ("hardened", accuracy.hardened)]
    legend: list[Series] = [("source", 0), ("hardened", 1)]
    if accuracy.random_mask is not None:
        legend.append(("random mask", 2))
    left, right, bar = 78, _WIDTH - 20, 15
    svg = _svg("Accuracy of source, hardened and random mask with 95 % intervals")
    top = y = _draw_legend(svg, legend, left)
    grid = SubElement(svg, "g")
    for name in ("clean", "static", "transfer", "adaptive"):
        rows: list[tuple[int, Figure]] = [
            (series, getattr(figures, name)) for series, (_, figures) in enumerate(models)
        ]
        control = getattr(accuracy.random_mask, name, None)
        if control is not None:
            rows.append((2, control))
        _text(svg, (left - 10, y + len(rows) * bar / 2 + 4), name, "end")
        for series, figure in rows:
            _draw_bar(svg, (left, right), (y, bar - 3), figure, legend[series], name)
            y += bar
        y += 14
    bottom = y - 8
    for share in (0, 25, 50, 75, 100):
        x = left + (right - left) * share / 100
        _line(grid, (x, top - 6), (x, bottom), "grid")
        _text(grid, (x, bottom + 16), f"{share} %", "middle")
    return _drawn(svg, bottom + 24)


def evaluate_chart(report: EvaluateReport) -> str:
    """Worst-case accuracy of every model against the budget, from clean down to chance."""
    names = model_names(report)
    left, right = 52, _WIDTH - 20
    largest = last_budget(report)
    legend = [(names[entry.model.path], i) for i, entry in enumerate(report.models)]
    svg = _svg("Worst-case accuracy against the budget with 95 % intervals")
    top = _draw_legend(svg, legend, left)
    bottom = top + 266

    def place(eps: float) -> float:
        return left + 10 + (right - left - 20) * eps / largest

    for share in (0, 25, 50, 75, 100):
        y = bottom - (bottom - top) * share / 100
        _line(svg, (left, y), (right, y), "grid")
        _text(svg, (left - 8, y + 4), f"{share} %", "end")
    curves = [
        [(point.eps, point.accuracy) for point in entry.curve if point.eps <= largest]
        for entry in report.models
    ]
    free = float(_WIDTH)
    for eps in sorted({eps for curve in curves for eps, _ in curve}, reverse=True):
        # From the right, and only where there is room.
        if place(eps) <= free:
            text = "clean" if eps == 0 else wording.budget(eps)
            _text(svg, (place(eps), bottom + 18), text, "middle")
            free = place(eps) - _TICK
    for series, curve in zip(legend, curves, strict=True):
        # Models stand a little apart, so that intervals at the same budget do not hide each other.
        shift = 5 * (series[1] - (len(report.models) - 1) / 2)
        dots = [(place(eps) + shift, figure) for eps, figure in curve]
        _draw_curve(svg, dots, (top, bottom), series)
    return _drawn(svg, bottom + 28)


def last_budget(report: EvaluateReport) -> float:
    """Return the first budget, of those asked for and beyond, that brings all models to chance.

    None that was asked for is left out; a model that nothing brings there is shown to its end.
    """
    chance = report.data.chance
    reached = [
        next(
            (point.eps for point in entry.curve if point.accuracy.value <= chance),
            entry.curve[-1].eps,
        )
        for entry in report.models
    ]
    return max(*report.threat.eps, *reached)


def _draw_bar(
    svg: Element,
    across: tuple[float, float],
    down: tuple[float, float],
    figure: Figure,
    series: Series,
    what: str,
) -> None:
    """Draw a figure between the left and the right end of the axis, from a height, so high."""
    (left, right), (y, height) = across, down
    low, end, high = (
        left + (right - left) * part for part in (figure.low, figure.value, figure.high)
    )
    group = _group(svg, series, f"{what}, {series[0]}: {wording.percent(figure)}")
    _add(group, "rect", x=left, y=y, width=end - left, height=height, rx=2)
    middle = y + height / 2
    _draw_whisker(group, (low, middle), (high, middle), (0, 3.5))


def _draw_curve(
    svg: Element, dots: Sequence[tuple[float, Figure]], down: tuple[float, float], series: Series
) -> None:
    top, bottom = down

    def height(share: float) -> float:
        return bottom - (bottom - top) * share

    curve = _group(svg, series)
    points = " ".join(f"{x:.1f},{height(figure.value):.1f}" for x, figure in dots)
    SubElement(curve, "polyline", points=points)
    for x, figure in dots:
        mark = SubElement(curve, "g")
        _title(mark, f"{series[0]}: {wording.percent(figure)}")
        _draw_whisker(mark, (x, height(figure.low)), (x, height(figure.high)), (3.5, 0))
        _add(mark, "circle", cx=x, cy=height(figure.value), r=4)


def _draw_whisker(svg: Element, start: Point, end: Point, cap: Point) -> None:
    """Draw an interval as a line with a cap, half as long as ``cap`` times two, at each end."""
    dx, dy = cap
    _line(svg, start, end, "whisker")
    for x, y in (start, end):
        _line(svg, (x - dx, y - dy), (x + dx, y + dy), "whisker")


def _draw_legend(svg: Element, series: Sequence[Series], left: float) -> float:
    """Draw the names in as many rows as they need; return where the drawing may go on."""
    x, y = left, 4
    for name, index in series:
        whole = printable(name)
        shown = whole if len(whole) <= _NAME else "…" + whole[1 - _NAME :]
        width = 40 + 7.5 * len(shown)
        if x > left and x + width > _WIDTH:
            x, y = left, y + 18
        _add(_group(svg, (name, index)), "rect", x=x, y=y, width=12, height=12, rx=2)
        _text(svg, (x + 18, y + 10), shown, "start")
        x += width
    return y + 30


def _svg(label: str) -> Element:
    return Element("svg", {"role": "img", "aria-label": label})


def _drawn(svg: Element, height: float) -> str:
    svg.set("viewBox", f"0 0 {_WIDTH} {height:.0f}")
    ElementTree.indent(svg, "")
    return ElementTree.tostring(svg, encoding="unicode")


def _group(svg: Element, series: Series, title: str | None = None) -> Element:
    group = SubElement(svg, "g", {"class": f"s{series[1] % _SERIES}"})
    if title is not None:
        _title(group, title)
    return group


def _title(svg: Element, text: str) -> None:
    SubElement(svg, "title").text = printable(text)


def _line(svg: Element, start: Point, end: Point, kind: str) -> None:
    (x1, y1), (x2, y2) = start, end
    _add(svg, "line", x1=x1, y1=y1, x2=x2, y2=y2).set("class", kind)


def _text(svg: Element, at: Point, text: str, anchor: str) -> None:
    element = _add(svg, "text", x=at[0], y=at[1])
    element.set("text-anchor", anchor)
    element.text = printable(text)


def _add(svg: Element, tag: str, **numbers: float) -> Element:
    return SubElement(svg, tag, {name: f"{number:.1f}" for name, number in numbers.items()})
