"""`cloakify attack`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cloakify.cli.console import progress_bars, remark, remark_data, say, say_json
from cloakify.cli.options import MODEL, declared_options, take
from cloakify.cli.verb import Verb
from cloakify.settings import AttackSetting
from cloakify.settings.files import DataFile, JsonOutput, SamplesFile, Talk


@click.command(cls=Verb, short_help="Write attacked samples of a data set.")
@click.argument("model", type=MODEL)
@declared_options("attack")
def attack(model: Path, **options: Any) -> None:
    """Attack MODEL white-box on the data and write the attacked samples.

    \b
    Example:
      cloakify attack model.onnx --data test.npz --attack pgd --eps 4/255 -o attacked.npz
    """
    from cloakify.report.wording import percent
    from cloakify.workflows.attack import attack as run

    quiet, as_json = take(Talk, options).quiet, take(JsonOutput, options).json
    data, output = take(DataFile, options).data, take(SamplesFile, options).output
    with progress_bars(quiet) as progress:
        result = run(model, data, output, take(AttackSetting, options), progress)
    remark_data(result.notes, result.class_names, quiet)
    if as_json:
        say_json(json.dumps(result.to_dict(), indent=2))
        return
    say(f"accuracy, clean     {percent(result.clean)} %")
    say(f"accuracy, attacked  {percent(result.attacked)} %")
    for side, figures in zip(("clean", "attacked"), result.labels or (), strict=False):
        say(f"{'labels, ' + side:<20}{percent(figures.accuracy)} %")
    remark(f"Written: {result.path}", quiet)
