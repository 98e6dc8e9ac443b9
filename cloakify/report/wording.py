"""How numbers are written in tables, Markdown and HTML: ASCII, percent, one decimal."""

from __future__ import annotations

import os

from msgspec import UNSET

from cloakify.evaluation import Difference, Distance, Figure
from cloakify.report.records import AttackInfo


def percent(figure: Figure) -> str:
    """Write an accuracy as ``91.2 [89.3, 92.8]``, in percent."""
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def points(figure: Difference) -> str:
    """Write a difference as ``+3.2 [+1.1, +5.3]``, in percentage points."""
    return f"{signed(figure.value)} [{signed(figure.low)}, {signed(figure.high)}]"


def budget(eps: float) -> str:
    """Write a budget as a fraction of 255 where it is one (``8/255``), else as a decimal.

    51/255 and its multiples are 0.2, 0.4, … whatever the data are.
    """
    levels = eps * 255
    if eps <= 1 and round(levels) % 51 and abs(levels - round(levels)) < 1e-6:
        return f"{round(levels)}/255"
    return f"{eps:.4g}"


def p_value(p: float) -> str:
    """Write a p-value to three decimals, never as 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def distance(figure: Distance) -> str:
    """Write a median distance as ``0.031 [0.027, 0.036]``; ``none`` lies beyond the search."""
    value, low, high = (
        "none" if part is None else f"{part:.4g}"
        for part in (figure.value, figure.low, figure.high)
    )
    return f"{value} [{low}, {high}]"


def attack(info: AttackInfo) -> str:
    """Write an attack as ``apgd linf 8/255, 100 steps``; ``given`` are a user's own copies."""
    if info.name == "given":
        return "none: attacked copies were given"
    steps = "1 step" if info.steps == 1 else f"{info.steps} steps"
    gradient = "" if info.gradient == "white-box" else ", gradient-free"
    within = "" if info.eps is UNSET else f" {info.norm} {budget(info.eps)}"
    return f"{info.name}{within}, {steps}{gradient}"


def short_names(paths: list[str]) -> dict[str, str]:
    """Map each path to its file name, or to itself where two files share their name."""
    names = [os.path.basename(path) or path for path in paths]
    return {
        path: name if names.count(name) == 1 else path
        for path, name in zip(paths, names, strict=True)
    }


def signed(share: float) -> str:
    """Write a difference in percentage points: ``+3.2``."""
    # Adding 0.0 turns a rounded -0.0 into 0.0, so that "-0.0" is never printed.
    return f"{round(100 * share, 1) + 0.0:+.1f}"
