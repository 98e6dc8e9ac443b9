"""`cloakify harden`."""

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
from cloakify.settings import HardenSetting
from cloakify.settings.files import (
    CopiesFile,
    DataFile,
    HardenedFile,
    JsonOutput,
    ReportFiles,
    Talk,
    UnlabelledFile,
)


@click.command(
    cls=Verb, short_help="Write a copy that is harder to fool, by a mask or gates; judge it."
)
@click.argument("model", type=MODEL)
@declared_options("harden")
def harden(model: Path, **options: Any) -> int:
    """Write a hardened copy of MODEL: the same graph with a constant mask before its head.

    With --method tuned, the same graph with constant factors and shifts of the channels of its
    layers, trained against attacks on the data; no other number of the model changes. Ctrl-C ends
    the training there: the best found so far is judged and written, unless Ctrl-C is pressed again.

    Calibrates on the data, proves that the mask is the only change, and reports accuracy before
    and after: clean, on static attacked samples, and against an attacker who knows the mask. Only
    the last one is robustness.

    \b
    Example:
      cloakify harden model.onnx --data calib/ --eps 4/255 --report report.html
      cloakify harden model.onnx --data calib/ --eps 4/255 --method tuned --emit fold
    """
    from cloakify.report import render_json, write_report
    from cloakify.workflows.harden import harden as run

    quiet, as_json = take(Talk, options).quiet, take(JsonOutput, options).json
    data, attacked = take(DataFile, options).data, take(CopiesFile, options).attacked
    unlabelled = take(UnlabelledFile, options).unlabelled
    output, reports = take(HardenedFile, options).output, take(ReportFiles, options).report
    setting = take(HardenSetting, options)
    check_reports(reports, [output, setting.tuning.state], [data, attacked, unlabelled])
    with progress_bars(quiet) as progress:
        result = run(
            model,
            data,
            output,
            setting,
            progress,
            attacked,
            reports,
            outlook_teller(quiet),
            unlabelled,
        )
    remark_data(result.notes, result.class_names, quiet)
    if as_json:
        say_json(render_json(result.report))
    else:
        say_report(result.report)
        mask = result.report.mask
        if result.path is not None:
            done = f"Masked {mask.removed} of {mask.total} features"
            if mask.method == "tuned":
                shifts = f" and {mask.shifts} shifts" if mask.shifts else ""
                zeros = f" ({mask.removed} of the gates are 0)" if mask.removed else ""
                done = f"Tuned {mask.total} gates{shifts}{zeros}"
            say(f"{done}: {result.path}")
    # Last: what was measured is not lost where a disk is full.
    for path in reports:
        write_report(result.report, path)
    if result.gate is not None:
        say(f"Gate not met: {result.gate}", err=True)
        return ExitCode.REFUSED
    # What an interrupted tuning had found is written, but it is not what was asked for.
    return ExitCode.INTERRUPTED if result.interrupted else ExitCode.DONE
