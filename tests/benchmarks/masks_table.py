"""The tables and the picture of ``masks.py``, from what it has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from cloakify.evaluation.figures import accuracy_figure, gain_figure
from cloakify.report.wording import percent, points

SOURCE, FINETUNED = "source", "finetuned"
# Shorter attacks (masks.py), which take a tenth of the passes of the two that other rows are of.
SHORT = "short"
NAMES = {
    SOURCE: "none",
    "deepcloak": "0/1 mask, DeepCloak's score",
    "auto": "0/1 mask, `--score auto`",
    "random": "0/1 mask, at random",
    "binary": "`--method tuned --binary`",
    "tuned": "`--method tuned`",
    "channel": "`--method tuned --gates channel`",
    FINETUNED: "all weights, fine-tuned (`finetune.py`)",
}
# Test images that rows are of where nothing else is said; with the shorter attacks, any.
SAMPLES = 1000
COLOURS = {
    SOURCE: "#6b7280",
    "deepcloak": "#d97706",
    "auto": "#7c3aed",
    "random": "#b91c1c",
    "binary": "#0891b2",
    "tuned": "#15803d",
    "channel": "#1d4ed8",
    FINETUNED: "#000000",
}
PANEL, HEIGHT, MARGIN = 330, 300, 52


@dataclass(frozen=True)
class Task:
    """One row of the table: how to harden, and how to attack the result; ε in 255ths.

    ``ratio`` is the share of the features that is masked, 0 for what ``drop`` allows; ``seed`` is
    of all that is drawn while it is hardened.
    """

    model: str
    eps: float
    method: str
    calibration: int
    drop: float
    attack: str
    samples: int
    ratio: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """What came of it; bits of samples that are answered rightly, in hexadecimal.

    ``clean`` is of ``clean_count`` samples, the others of the task's, ``adaptive`` after each of
    the attacks in turn.
    """

    task: Task
    note: str
    clean_count: int
    clean: str
    static: str
    adaptive: dict[str, str]
    harden_seconds: float
    attack_seconds: float

    @property
    def right(self) -> np.ndarray:
        """Bool [clean_count]."""
        return unpacked(self.clean, self.clean_count)

    @property
    def moved(self) -> np.ndarray:
        """Bool [samples]: right on samples crafted once against the source by FGSM."""
        return unpacked(self.static, self.task.samples)

    @property
    def robust(self) -> np.ndarray:
        """Bool [samples]: right whatever the attack."""
        return unpacked(list(self.adaptive.values())[-1], self.task.samples)


def bits(right: np.ndarray) -> str:
    """Write booleans down."""
    return np.packbits(right).tobytes().hex()


def unpacked(text: str, count: int) -> np.ndarray:
    """Read what :func:`bits` wrote."""
    found = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count)
    return found.astype(bool)


def markdown(measured: Sequence[Measured], only: Task | None = None) -> list[str]:
    """Return the lines of the table, of all rows or of one."""
    lines = [
        "| model | ε | hardened by | calibrated on | adaptive, % | gain, points | clean, % |"
        " static, % | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    order = list(NAMES)
    rows = sorted(
        (found for found in measured if only in (None, found.task)),
        key=lambda found: (
            found.task.model,
            found.task.eps,
            order.index(found.task.method),
            found.task.calibration,
            found.task.attack,
            found.task.samples,
            found.task.ratio,
            found.task.drop,
            found.task.seed,
        ),
    )
    for _, seeds in groupby(rows, lambda found: replace(found.task, seed=0)):
        found, *more = alike = list(seeds)
        task, source = found.task, source_of(measured, found.task)
        robust, gain, cost = percent(accuracy_figure(found.robust)), "", ""
        if more:
            robust = f"{_mean(alike, 'robust'):.1f}"
            gain, cost = _over_seeds(alike, source, "robust"), _over_seeds(alike, source, "right")
        elif task.method != SOURCE:
            gain = points(gain_figure(found.robust, source.robust))
            cost = points(gain_figure(found.right, source.right))
        cells = [
            task.model.removeprefix("fashion_"),
            f"{task.eps:g}/255",
            _name(task),
            f"{task.calibration:,}" if task.calibration else "",
            robust,
            gain,
            f"{_mean(alike, 'right'):.1f}" + (f" ({cost})" if cost else ""),
            f"{_mean(alike, 'moved'):.1f}",
            f"{np.mean([one.harden_seconds for one in alike]):.0f}" if task.calibration else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _name(task: Task) -> str:
    ratio = f", {task.ratio:.0%}" if task.ratio else ""
    told = " *" if task.attack == SHORT else " †" if task.samples != SAMPLES else ""
    return NAMES[task.method] + ratio + told


def _mean(alike: Sequence[Measured], what: str) -> float:
    """Return the mean over seeds of an accuracy, in percent."""
    return float(np.mean([100 * getattr(found, what).mean() for found in alike]))


def _gains(alike: Sequence[Measured], source: Measured, what: str) -> list[float]:
    """Return what each seed gains of an accuracy, in points."""
    before = getattr(source, what)
    return [100 * gain_figure(getattr(found, what), before).value for found in alike]


def _over_seeds(alike: Sequence[Measured], source: Measured, what: str) -> str:
    """Return the mean gain over seeds, in points, and the least and the most."""
    gains = _gains(alike, source, what)
    return f"{np.mean(gains):+.1f} [{min(gains):+.1f} to {max(gains):+.1f}, {len(gains)} seeds]"


def summary(measured: Sequence[Measured], eps: float = 4, calibration: int = 1000) -> list[str]:
    """Return the lines of a short table: a row for each way to harden, a column for each model."""
    shown = [row for row in _shown(measured, eps) if row.task.calibration in (0, calibration)]
    kinds = [(method, attack) for attack in _attacks(shown) for method in NAMES]
    models = sorted({row.task.model for row in shown})
    names = [model.removeprefix("fashion_") for model in models]
    lines = [f"| hardened by | {' | '.join(names)} |", "| --- |" + " --- |" * len(models)]
    for method, attack in kinds:
        rows = [row for row in shown if (row.task.method, row.task.attack) == (method, attack)]
        if not rows:
            continue
        cells = []
        for model in models:
            alike = [row for row in rows if row.task.model == model]
            if not alike:
                cells.append("not measured")
                continue
            robust = percent(accuracy_figure(alike[0].robust))
            clean, seeds = f"{_mean(alike, 'right'):.1f}", ""
            if method != SOURCE:
                source = source_of(measured, alike[0].task)
                clean = f"{np.mean(_gains(alike, source, 'right')):+.1f}"
            if len(alike) > 1:
                robust, seeds = f"{_mean(alike, 'robust'):.1f}", f" ({len(alike)} seeds)"
            cells.append(f"{robust}, clean {clean}{seeds}")
        lines.append(f"| {_name(rows[0].task)} | {' | '.join(cells)} |")
    return lines


def _attacks(measured: Sequence[Measured]) -> list[str]:
    """Return what rows were attacked by, the strongest first."""
    return sorted({row.task.attack for row in measured}, key=lambda attack: attack == SHORT)


def _shown(measured: Sequence[Measured], eps: float) -> list[Measured]:
    """Return the rows of a budget that are alike enough to stand beside each other."""
    return [
        row
        for row in measured
        if row.task.eps == eps
        and not row.task.ratio
        and (row.task.attack == SHORT or row.task.samples == SAMPLES)
    ]


def put_table(text: str, lines: Sequence[str]) -> str:
    """Return a Markdown document with its generated table exchanged for another.

    It stands between two comments, ``<!-- masks.py -->`` and ``<!-- end -->``.
    """
    before, rest = text.split("<!-- masks.py -->\n")
    _, after = rest.split("<!-- end -->\n")
    return "\n".join([f"{before}<!-- masks.py -->", *lines, f"<!-- end -->\n{after}"])


def source_of(measured: Sequence[Measured], task: Task) -> Measured:
    """Return the source's row under the same attack."""
    return next(
        found
        for found in measured
        if found.task.method == SOURCE
        and (found.task.model, found.task.eps, found.task.attack, found.task.samples)
        == (task.model, task.eps, task.attack, task.samples)
    )


def picture(measured: Sequence[Measured], eps: float = 4) -> str:
    """Draw clean against adaptive accuracy as an SVG, a panel for each model."""
    shown = [row for row in _shown(measured, eps) if row.task.attack != SHORT]
    models = sorted({found.task.model for found in shown})
    width = PANEL * max(1, len(models))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT + 60}" '
        f'viewBox="0 0 {width} {HEIGHT + 60}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{HEIGHT + 60}" fill="#ffffff"/>',
    ]
    robust = [100 * found.robust.mean() for found in shown]
    low, high = 10 * np.floor(min(robust) / 10 - 0.3), 10 * np.ceil(max(robust) / 10 + 0.3)
    for place, model in enumerate(models):
        rows = [found for found in shown if found.task.model == model]
        parts.append(f'<g transform="translate({place * PANEL} 0)">')
        parts += panel(model.removeprefix("fashion_"), rows, low, high)
        parts.append("</g>")
    x = MARGIN
    for method, colour in COLOURS.items():
        if any(found.task.method == method for found in shown):
            name = NAMES[method].replace("`", "")
            parts.append(f'<circle cx="{x}" cy="{HEIGHT + 44}" r="5" fill="{colour}"/>')
            parts.append(f'<text x="{x + 9}" y="{HEIGHT + 48}">{name}</text>')
            x += 30 + 7 * len(name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(title: str, rows: Sequence[Measured], low: float, high: float) -> list[str]:
    """One model: adaptive accuracy upwards with its interval, clean accuracy to the right."""
    clean = [100 * found.right.mean() for found in rows]
    left, right = np.floor(min(clean)) - 1, np.ceil(max(clean)) + 1

    def across(value: float) -> float:
        return MARGIN + (value - left) / (right - left) * (PANEL - MARGIN - 16)

    def up(value: float) -> float:
        return HEIGHT - 24 - (value - low) / (high - low) * (HEIGHT - 60)

    parts = [
        f'<text x="{MARGIN}" y="18"><tspan font-weight="bold">{title}</tspan>: adaptive, %</text>'
    ]
    for value in np.arange(low, high + 1, 10):
        parts.append(
            f'<line x1="{MARGIN}" x2="{PANEL - 16}" y1="{up(value):.1f}" y2="{up(value):.1f}" '
            f'stroke="#e5e7eb"/><text x="{MARGIN - 6}" y="{up(value) + 4:.1f}" '
            f'text-anchor="end">{value:.0f}</text>'
        )
    for value in np.arange(left, right + 1, 2):
        parts.append(
            f'<text x="{across(value):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{value:.0f}'
            "</text>"
        )
    parts.append(f'<text x="{PANEL - 16}" y="{HEIGHT + 12}" text-anchor="end">clean, %</text>')
    for found in rows:
        colour = COLOURS[found.task.method]
        x, y = across(100 * found.right.mean()), up(100 * found.robust.mean())
        figure = accuracy_figure(found.robust)
        ends = [up(100 * end) for end in (figure.low, figure.high)]
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" '
            f'stroke="{colour}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
        )
        if found.task.calibration and not found.task.seed:
            parts.append(
                f'<text x="{x + 8:.1f}" y="{y + 4:.1f}" font-size="10">'
                f"{found.task.calibration:,}</text>"
            )
    return parts
