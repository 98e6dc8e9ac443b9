"""`cloakify devices`."""

from __future__ import annotations

import json
from typing import Any

import click

from cloakify.cli.console import say, say_json
from cloakify.cli.options import declared_options, take
from cloakify.cli.verb import Verb
from cloakify.settings.files import JsonOutput


@click.command(cls=Verb, short_help="Show what ONNX Runtime can use here, and what is missing.")
@declared_options("devices")
def devices(**options: Any) -> None:
    """Show which devices ONNX Runtime can use on this machine, and what others lack."""
    from cloakify.runtime import device_report

    report = device_report()
    if take(JsonOutput, options).json:
        document = {
            "onnxruntime": report.onnxruntime,
            "package": report.package,
            "providers": list(report.providers),
            "built_for_cuda": report.built_for_cuda,
            "driver_cuda": report.driver_cuda,
            "default": str(report.default),
            "devices": [
                {
                    "device": str(entry.device),
                    "name": entry.name,
                    "memory": entry.memory,
                    "usable": entry.obstacle is None,
                    "missing": entry.obstacle,
                }
                for entry in report.entries
            ],
            "missing": report.missing,
        }
        say_json(json.dumps(document, indent=2))
        return
    cuda = f", built for CUDA {report.built_for_cuda}" if report.built_for_cuda else ""
    say(f"{report.package} {report.onnxruntime}{cuda}")
    for entry in report.entries:
        memory = f", {entry.memory / 2**30:.0f} GiB" if entry.memory else ""
        state = "usable" if entry.obstacle is None else f"not usable: {entry.obstacle}"
        say(f"{entry.device!s:<8}{entry.name}{memory}: {state}")
    if report.missing is not None:
        say(f"no GPU: {report.missing}")
    say(f"--device auto takes {report.default}")
