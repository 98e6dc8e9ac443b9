"""Which of a model's inputs of floats a user wants attacked, as `--attack-input` says it.

image              one of them
image,meta=0.5     several at once, ε counted in halves in the second
all                all of them, but for masks
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

from cloakify.errors import UsageError
from cloakify.onnxfile import FLOATS

OPTION = "--attack-input"
ALL = "all"


def read_attack_inputs(
    text: str, types: Mapping[str, int], candidates: Sequence[str]
) -> dict[str, float]:
    """Return the inputs that are named, each with the unit that ε has there.

    Parameters
    ----------
    text
        Names separated by commas, each with ``=UNIT`` where the unit is not 1. What is called as
        the whole text, or as a part of it, is meant by that.
    types
        Element type of each input of the model, ONNX codes.
    candidates
        What ``all`` stands for.

    Raises
    ------
    UsageError
        The model has no such input, it takes no floats, it is named twice, or a unit is not above
        0.
    """
    units: dict[str, float] = {}
    for part in [text] if text in types else text.split(","):
        name, unit = _read(part.strip(), types)
        named = candidates if name == ALL and name not in types else [name]
        for each in named:
            _check(each, types)
            if each in units:
                raise UsageError(f"{OPTION} {text}: names {each!r} twice")
            units[each] = unit
    if not units:
        raise UsageError(f"{OPTION} {text}: the model has no input of floats but masks")
    return units


def _read(part: str, types: Mapping[str, int]) -> tuple[str, float]:
    name, equals, number = part.rpartition("=")
    if part in types or not equals:
        return part, 1.0
    try:
        unit = float(Fraction(number.strip()))
    except (ValueError, ZeroDivisionError, OverflowError):
        unit = math.nan
    if not 0 < unit < math.inf:
        raise UsageError(f"{OPTION} {part}: a unit is a number above 0, not {number!r}")
    return name.strip(), unit


def _check(name: str, types: Mapping[str, int]) -> None:
    if name not in types:
        names = ", ".join(map(repr, types))
        raise UsageError(f"{OPTION}: the model has no input {name!r}; it has {names}")
    if types[name] not in FLOATS:
        raise UsageError(
            f"{OPTION} {name}: it takes no floats; without the option the first floats "
            "that whole numbers become are attacked"
        )
