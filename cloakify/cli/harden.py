"""`cloakify harden`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cloakify.cli.console import progress_bars, remark_data
from cloakify.cli.options import (
    MODEL,
    Number,
    Ratio,
    attack_options,
    check_reports,
    data_options,
    head_option,
    report_options,
    run_options,
    threat_options,
)
from cloakify.cli.tuning_options import tuning_options


@click.command(short_help="Insert a mask that makes a model harder to fool, and judge it.")
@click.argument("model", type=MODEL)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The hardened file.  [default: <stem>.hardened.onnx beside MODEL]",
)
@data_options
@attack_options("fgsm")
@threat_options
@tuning_options
@click.option(
    "--attacked",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Attacked copies of the data, paired by name, index or order, to calibrate on.",
)
@click.option(
    "--score",
    default="auto",
    show_default=True,
    metavar="auto|deepcloak|margin|greedy|relaxed",
    help="What ranks the features; auto compares all under attack.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Rounds in which auto answers attacks on its own mask.",
)
@click.option(
    "--mask-ratio",
    type=Ratio(),
    default="auto",
    show_default=True,
    help="Share of the features to mask; auto looks at every size.",
)
@click.option(
    "--max-accuracy-drop",
    type=Number(),
    default="0.01",
    show_default=True,
    help="Clean accuracy that may be spent, on the select split.",
)
@click.option(
    "--evaluation-attack",
    "evaluation",
    type=click.Choice(["auto", "apgd", "apgd-dlr", "apgd-t"]),
    default="auto",
    show_default=True,
    help="What judges the result; auto: apgd, or apgd-dlr where logits are small.",
)
@click.option(
    "--evaluation-steps",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="Of that attack.",
)
@click.option(
    "--report-limit",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Report on at most so many samples.",
)
@click.option(
    "--require-gain",
    type=Number(),
    help="Fail (1) with a smaller adaptive gain; 0.05 is five points.",
)
@click.option("--replace-mask", is_flag=True, help="Swap the mask of a hardened model out.")
@head_option
@run_options
@report_options
def harden(
    model: Path,
    output: Path | None,
    data: Path,
    attacked: Path | None,
    reports: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    **settings: Any,
) -> int:
    """Write a hardened copy of MODEL: the same graph with a constant mask before its head.

    With --method tuned, the same graph with constant factors on the channels of its layers,
    trained against attacks on the data; no other number of the model changes. Ctrl-C ends the
    training there: the best found so far is judged and written, unless Ctrl-C is pressed again.

    Calibrates on the data, proves that the mask is the only change, and reports accuracy before
    and after: clean, on static attacked samples, and against an attacker who knows the mask. Only
    the last one is robustness.

    \b
    Example:
      cloakify harden model.onnx --data calib/ --eps 4/255 --report report.html
      cloakify harden model.onnx --data calib/ --eps 4/255 --method tuned --emit fold
    """
    from cloakify.experiment.settings import HardenSetting
    from cloakify.report import align, render_json, tables, write_report
    from cloakify.report.facts import verdicts, warnings
    from cloakify.workflows.harden import harden as run

    check_reports(reports, [output, settings["tune_state"]], [model, data, attacked])
    with progress_bars(quiet) as progress:
        result = run(model, data, output, HardenSetting(**settings), progress, attacked)
    remark_data(result.notes, result.class_names, quiet)
    if as_json:
        click.echo(render_json(result.report), nl=False)
    else:
        for table in tables(result.report):
            click.echo(align(table))
        click.echo()
        for _, sentence in verdicts(result.report):
            click.echo(sentence)
        for line in warnings(result.report):
            click.echo(f"Warning: {line}")
        mask = result.report.mask
        if result.path is not None:
            done = f"Masked {mask.removed} of {mask.total} features"
            if mask.method == "tuned":
                done = f"Tuned {mask.total} gates ({mask.removed} of them 0)"
            click.echo(f"{done}: {result.path}")
    # Last: what was measured is not lost where a disk is full.
    for path in reports:
        write_report(result.report, path)
    if result.gate is not None:
        click.echo(f"Gate not met: {result.gate}", err=True)
        return 1
    # What an interrupted tuning had found is written, but it is not what was asked for.
    return 130 if result.interrupted else 0
