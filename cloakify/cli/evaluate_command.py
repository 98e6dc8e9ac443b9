"""`cloakify evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cloakify.cli.console import (
    outlook_teller,
    progress_bars,
    remark_data,
    say,
    say_json,
    say_report,
)
from cloakify.cli.options import MODEL, check_reports, declared_options, take
from cloakify.cli.verb import Verb
from cloakify.exit_codes import ExitCode
from cloakify.settings import EvaluateSetting
from cloakify.settings.files import CopiesFile, DataFile, JsonOutput, ReportFiles, Talk


@click.command(cls=Verb, short_help="Measure how robust models are, side by side.")
@click.argument("models", type=MODEL, nargs=-1, required=True)
@declared_options("evaluate")
def evaluate(models: tuple[Path, ...], **options: Any) -> int:
    """Measure clean and robust accuracy of MODELS on the same samples.

    The first model is what the others are compared with. Every model faces every attack, and the
    samples crafted against the other models; a sample counts as robust only if nothing that was
    tried within the budget misleads the model. Warnings say where an attack is not to be trusted.

    The time grows with samples, budgets, models and above all with what withstands: --limit 500
    leaves intervals of 4 points at most to either side, in a quarter of the time of 2,000.

    \b
    Example:
      cloakify evaluate model.onnx model.hardened.onnx --data test/ --eps 2/255,4/255,8/255
    """
    from cloakify.report import render_json, write_report
    from cloakify.workflows.evaluate import evaluate as run

    quiet, as_json = take(Talk, options).quiet, take(JsonOutput, options).json
    data, attacked = take(DataFile, options).data, take(CopiesFile, options).attacked
    reports = take(ReportFiles, options).report
    check_reports(reports, [], [data, attacked])
    setting = take(EvaluateSetting, options)
    with progress_bars(quiet) as progress:
        result = run(models, data, setting, progress, attacked, reports, outlook_teller(quiet))
    remark_data(result.notes, result.class_names, quiet)
    if as_json:
        say_json(render_json(result.report))
    else:
        say_report(result.report)
    # Last: what was measured is not lost where a disk is full.
    for path in reports:
        write_report(result.report, path)
    if result.gate is not None:
        say(f"Gate not met: {result.gate}", err=True)
        return ExitCode.REFUSED
    return ExitCode.DONE
