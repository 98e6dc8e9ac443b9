"""`cloakify devices`."""

from __future__ import annotations

import json

import click

from cloakify.cli.options import json_option


@click.command(short_help="Show what ONNX Runtime can use here, and what is missing.")
@json_option
def devices(as_json: bool) -> None:
    """Show which devices ONNX Runtime can use on this machine, and what others lack."""
    import onnxruntime

    from cloakify.runtime import cuda_obstacle

    obstacle = cuda_obstacle()
    if as_json:
        document = {
            "onnxruntime": onnxruntime.__version__,
            "devices": {
                "cpu": {"usable": True, "missing": None},
                "cuda": {"usable": obstacle is None, "missing": obstacle},
            },
        }
        click.echo(json.dumps(document, indent=2))
        return
    click.echo(f"onnxruntime {onnxruntime.__version__}")
    click.echo("cpu   usable")
    click.echo("cuda  usable" if obstacle is None else f"cuda  not usable: {obstacle}")
