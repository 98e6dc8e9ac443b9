"""`cloakify verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cloakify.cli.options import MODEL, device_option, json_option

# A wrong pair of files differs in every weight; all of it is in the JSON.
SHOWN = 10


@click.command(short_help="Prove that a mask is the only change to a model.")
@click.argument("hardened", type=MODEL)
@click.option("--against", "source", type=MODEL, required=True, help="The source model.")
@device_option
@json_option
def verify(hardened: Path, source: Path, device: str, as_json: bool) -> int:
    """Prove from the two files alone that HARDENED is the source plus a mask or tuned gates.

    Exits with 1 and names every difference otherwise.
    """
    from cloakify.workflows.verify import verify as run

    result = run(hardened, source, device)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
    elif result.faults:
        click.echo(f"{hardened}: is not {source} plus {result.added}")
        for fault in result.faults[:SHOWN]:
            click.echo(f"  {fault}")
        if len(result.faults) > SHOWN:
            click.echo(f"  … and {len(result.faults) - SHOWN} more; --json lists them all")
    else:
        proven = f"{hardened}: is {source} plus {result.added}, and nothing else"
        click.echo(f"{proven}; {result.summary}")
        for line in result.remarks:
            click.echo(f"Note: {line}.")
        click.echo("Its attack, eps, seed and data are what the file says of itself, not proven.")
    return 1 if result.faults else 0
