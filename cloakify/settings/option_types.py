"""The types of options' values: what each takes, and its form as text.

A type says in `msgspec.Meta` what bounds it, in `description` what it takes, as an error says it,
and in `title` what stands for it in help. From these three a value is read and checked alike,
whether it comes from Python or, as text, from a command line, a file or the environment.
"""

from __future__ import annotations

import re
from fractions import Fraction
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from cloakify.settings.urls import Url, url_of

Count = Annotated[int, Meta(ge=1, title="N", description="a whole number from 1 on")]
Natural = Annotated[int, Meta(ge=0, title="N", description="a whole number from 0 on")]
Positive = Annotated[
    float, Meta(gt=0, title="NUMBER", description="a decimal or a fraction above 0 (8/255)")
]
Share = Annotated[
    float,
    Meta(ge=-1, le=1, title="FRACTION", description="a fraction (0.05 for five points)"),
]
Probability = Annotated[
    float, Meta(gt=0, lt=1, title="PROBABILITY", description="a number between 0 and 1 (0.3)")
]
Ratio = Annotated[
    float,
    Meta(gt=0, lt=1, title="RATIO", description="a fraction between 0 and 1 (0.05, 1/20)"),
]
Positives = Annotated[
    tuple[Positive, ...],
    Meta(
        min_length=1,
        title="NUMBER,…",
        description="decimals or fractions above 0, separated by commas",
    ),
]
Interval = Annotated[
    tuple[float, float],
    Meta(title="LOW,HIGH", description="two numbers, the lower one first (0,1)"),
]
Flag = Annotated[bool, Meta(title="true|false", description="true or false")]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^(?=.*[1-9])(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?$",
        title="DURATION",
        description="a number above 0 with s, m or h (90s, 10m, 1.5h, 2h30m)",
    ),
]
File = Annotated[Path, Meta(title="PATH", description="a path")]
Files = Annotated[tuple[File, ...], Meta(title="PATH", description="paths")]
Text = Annotated[str, Meta(title="TEXT", description="text, as the command line does")]

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def check(value: object, hint: Any) -> Any:
    """Return the value in the type's form: NumPy's numbers as Python's, paths from text.

    Raises
    ------
    ValueError
        The type takes no such value.
    """
    kind, _ = split_hint(hint)
    if get_origin(kind) is tuple and isinstance(value, Real | Path | str):
        # One of several, as most often only one is given.
        value = (value,)
    try:
        made = msgspec.convert(_plain(value), hint, dec_hook=_read_path)
    except msgspec.ValidationError:
        raise ValueError(str(value)) from None
    numbers = made if isinstance(made, tuple) else (made,)
    if not all(isfinite(number) for number in numbers if isinstance(number, float)):
        raise ValueError(str(value))
    return made


def parse(text: str, hint: Any) -> Any:
    """Read a value from text; what it says is not checked against bounds.

    Raises
    ------
    ValueError
        It does not have the form of the type.
    """
    kind, _ = split_hint(hint)
    if get_origin(kind) is tuple:
        (part, *_) = get_args(kind)
        return tuple(parse(each, part) for each in text.split(","))
    if kind is float:
        return _number(text)
    if kind is int:
        return int(text)
    if kind is bool:
        if text.lower() not in _YES + _NO:
            raise ValueError(text)
        return text.lower() in _YES
    return text


def write(value: Any) -> str:
    """Write a value as :func:`parse` reads it, to the last bit of a number."""
    if isinstance(value, tuple):
        return ",".join(map(write, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        levels = round(value * 255) if 0 < value < 1 else 0
        # 51/255 is 0.2.
        as_levels = levels % 51 and levels / 255 == value
        return f"{levels}/255" if as_levels else repr(value).removesuffix(".0")
    return url_of(value) or str(value)


def seconds_of(duration: str) -> float:
    """Return a :data:`Duration` in seconds."""
    parts = re.findall(r"([\d.]+)([hms])", duration)
    return sum(float(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)


def takes(hint: Any) -> str:
    """Say what a type takes, as an error does: ``a whole number from 1 on``."""
    kind, meta = split_hint(hint)
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}" if others else str(last)
    assert meta is not None and meta.description is not None, hint
    return meta.description


def metavar(hint: Any) -> str:
    """Return what stands for a value of the type in help."""
    kind, meta = split_hint(hint)
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    assert meta is not None and meta.title is not None, hint
    return meta.title


def split_hint(hint: Any) -> tuple[Any, Meta | None]:
    """Return the type within ``Annotated`` and ``… | None``, and what bounds and describes it."""
    meta = None
    while True:
        if get_origin(hint) is Annotated:
            own = [each for each in hint.__metadata__ if isinstance(each, Meta)]
            meta = own[-1] if own else meta
            hint = hint.__origin__
        elif is_optional(hint):
            (hint,) = (each for each in get_args(hint) if each is not NoneType)
        else:
            return hint, meta


def is_optional(hint: Any) -> bool:
    """Tell whether a type, ``Annotated`` or not, takes ``None``."""
    if get_origin(hint) is Annotated:
        hint = hint.__origin__
    return get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)


def _number(text: str) -> float:
    """Read a decimal or a fraction, the parts of which may be decimals: ``0.5/255``."""
    above, *below = text.replace(" ", "").split("/")
    if len(below) > 1:
        raise ValueError(text)
    try:
        return float(Fraction(above) / Fraction(below[0] if below else 1))
    except (ZeroDivisionError, OverflowError):
        raise ValueError(text) from None


def _plain(value: object) -> object:
    """Return NumPy's numbers as Python's; a bool is no number."""
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _read_path(kind: type, value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(value)
    url = url_of(value)
    return Path(value) if url is None else Url.of(url)
