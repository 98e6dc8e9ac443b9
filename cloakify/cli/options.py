"""Options that several verbs share, each group one decorator; and the types of their values."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Input(click.Path):
    """A file or folder to read.

    What can't be read is said by who reads it, with the exit code for models, or for data.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return the path; an empty one, as of a variable that is not set, is none."""
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


MODEL = Input()


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """A decimal or a fraction: ``0.03``, ``8/255``."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number as a float."""
        try:
            above, _, below = str(value).replace(" ", "").partition("/")
            return float(Fraction(above) / Fraction(below or 1))
        except (ValueError, ZeroDivisionError, OverflowError):
            self.fail(f"{value!r} is no decimal and no fraction such as 8/255", param, ctx)


class Numbers(Number):
    """Numbers separated by commas: ``1/255,2/255``."""

    name = "number,…"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers as floats."""
        # Click hands a value that was converted already over again.
        if isinstance(value, tuple):
            return value
        convert = super().convert
        return tuple(convert(part, param, ctx) for part in str(value).split(","))


class Ratio(Number):
    """A number, or ``auto``."""

    name = "ratio|auto"

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """Return the ratio, or ``None`` for auto."""
        return None if str(value).lower() == "auto" else super().convert(value, param, ctx)


class Box(click.ParamType):  # type: ignore[type-arg]
    """Two numbers, or ``none``: ``0,1``."""

    name = "low,high|none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float] | None:
        """Return the bounds, or ``None`` for no box."""
        if str(value).lower() == "none":
            return None
        parts = str(value).split(",")
        if len(parts) != 2:
            self.fail(f"{value!r} is not two numbers such as 0,1, nor none", param, ctx)
        number = Number()
        low, high = (number.convert(part, param, ctx) for part in parts)
        if not low < high:
            self.fail(f"{value!r}: the first number must be the lower one", param, ctx)
        return low, high


def combine(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make one decorator of several, in the order in which help lists them."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


head_option = click.option(
    "--head", metavar="NODE", help="The linear node to take as the head, where it is not unique."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
quiet_option = click.option("--quiet", is_flag=True, help="No progress, no remarks.")
device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where to run."
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of all randomness.",
)

data_options = combine(
    click.option(
        "--data",
        required=True,
        type=Input(),
        help="Class folders of images, .npz, .npy, .tar or .parquet.",
    ),
    click.option(
        "--labels",
        type=click.Choice(["given", "model"]),
        default="given",
        show_default=True,
        help="Labels of the data, or the model's own answers.",
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Use at most so many samples."),
    click.option("--scale", default="1", show_default=True, help="Of pixels in [0, 1]; then:"),
    click.option("--mean", default="0", show_default=True, help="subtract (one, or per channel);"),
    click.option("--std", default="1", show_default=True, help="divide by."),
    click.option(
        "--box", type=Box(), default="0,1", show_default=True, help="Range of valid data."
    ),
    click.option(
        "--resize",
        type=click.Choice(["crop", "stretch", "refuse"]),
        default="crop",
        show_default=True,
        help="For images that are not of the model's size.",
    ),
)

norm_option = click.option(
    "--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True, help="Of ε."
)

threat_options = combine(
    norm_option,
    click.option(
        "--eps",
        type=Number(),
        default="8/255",
        show_default=True,
        help="Budget on the data's scale.",
    ),
)

run_options = combine(
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        help="Samples in one run; on a CPU each core has one.  [default: by size, 64 at most]",
    ),
    device_option,
    seed_option,
)


def attack_options(default: str) -> Callable[[Any], Any]:
    """Return the options that choose and set an attack."""
    return combine(
        click.option("--attack", default=default, show_default=True, help="Name of the attack."),
        click.option("--steps", type=click.IntRange(min=1), help="Its steps."),
        click.option("--step-size", type=Number(), help="Its step size, on the data's scale."),
    )


report_options = combine(
    click.option(
        "--report",
        "reports",
        type=click.Path(path_type=Path, dir_okay=False),
        multiple=True,
        metavar="FILE.{json,html,md}",
        help="Write the report; may be given more than once.",
    ),
    json_option,
    quiet_option,
)


def check_reports(
    reports: Sequence[Path], outputs: Sequence[Path | None], inputs: Sequence[Path | None]
) -> None:
    """Refuse a report's name or place before the long work starts.

    Parameters
    ----------
    outputs, inputs
        What else is written, and what is read.
    """
    from cloakify.onnxfile import check_places
    from cloakify.report import check_report_path

    for path in reports:
        check_report_path(path)
    given = [path for path in outputs if path is not None]
    check_places([*given, *reports], [path for path in inputs if path is not None])
