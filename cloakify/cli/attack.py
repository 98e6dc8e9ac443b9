"""`cloakify attack`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cloakify.cli.console import progress_bars, remark, remark_data
from cloakify.cli.options import (
    MODEL,
    attack_options,
    data_options,
    head_option,
    json_option,
    quiet_option,
    run_options,
    threat_options,
)


@click.command(short_help="Write attacked samples of a data set.")
@click.argument("model", type=MODEL)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="ADV.npz",
    help="Arrays x (as the model takes it), y, index.",
)
@data_options
@attack_options("pgd")
@threat_options
@head_option
@run_options
@json_option
@quiet_option
def attack(
    model: Path, output: Path, data: Path, as_json: bool, quiet: bool, **settings: Any
) -> None:
    """Attack MODEL white-box on the data and write the attacked samples.

    \b
    Example:
      cloakify attack model.onnx --data test.npz --attack pgd --eps 4/255 -o attacked.npz
    """
    from cloakify.experiment.settings import AttackSetting
    from cloakify.report.wording import percent
    from cloakify.workflows.attack import attack as run

    with progress_bars(quiet) as progress:
        result = run(model, data, output, AttackSetting(**settings), progress)
    remark_data(result.notes, result.class_names, quiet)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    click.echo(f"accuracy, clean     {percent(result.clean)} %")
    click.echo(f"accuracy, attacked  {percent(result.attacked)} %")
    remark(f"Written: {result.path}", quiet)
