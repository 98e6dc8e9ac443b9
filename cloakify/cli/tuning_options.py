"""Options of `cloakify harden` that choose the method, and those of tuned gates."""

from __future__ import annotations

from pathlib import Path

import click

from cloakify.cli.options import combine

tuning_options = combine(
    click.option(
        "--method",
        type=click.Choice(["deepcloak", "tuned"]),
        default="deepcloak",
        show_default=True,
        help="A 0/1 mask before the head, or gates tuned through the whole network.",
    ),
    click.option(
        "--emit",
        type=click.Choice(["mul", "fold"]),
        default="mul",
        show_default=True,
        help="Tuned gates as Mul nodes, or multiplied into the weights before them.",
    ),
    click.option(
        "--gates",
        type=click.Choice(["channel", "position"]),
        default="channel",
        show_default=True,
        help="A tuned gate for each channel, or for each position of an image's channels.",
    ),
    click.option(
        "--tune-layers",
        default="all",
        show_default=True,
        metavar="all|last|PATTERN",
        help="Layers to tune; a pattern such as 'stage3*' is matched with node names.",
    ),
    click.option(
        "--steps-tune",
        "tune_steps",
        type=click.IntRange(min=1),
        help="Steps of the tuning.  [default: 300; 600 for positions, or many samples]",
    ),
    click.option("--binary", is_flag=True, help="Tune gates of 0 or 1 only."),
    click.option(
        "--tune-state",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE.npz",
        help="Keep the state of the tuning here; a stopped run goes on from it.",
    ),
)
