"""`cloakify verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cloakify.cli.console import say, say_json
from cloakify.cli.options import MODEL, declared_options, take
from cloakify.cli.verb import Verb
from cloakify.exit_codes import ExitCode
from cloakify.settings import DeviceOptions
from cloakify.settings.files import JsonOutput, SourceFile

# A wrong pair of files differs in every weight; all of it is in the JSON.
SHOWN = 10


@click.command(cls=Verb, short_help="Prove that a mask or gates are all that changed.")
@click.argument("hardened", type=MODEL)
@declared_options("verify")
def verify(hardened: Path, **options: Any) -> int:
    """Prove from the two files alone that HARDENED is the source plus a mask or tuned gates.

    Exits with 1 and names every difference otherwise; with 6 where HARDENED was transformed after
    hardening (optimised, quantised, …) and answers, on samples, as the source with its mask or
    gates does.
    """
    from cloakify.workflows.verify import verify as run

    source, as_json = take(SourceFile, options).against, take(JsonOutput, options).json
    where = take(DeviceOptions, options)
    result = run(hardened, source, where.device, where.threads)
    if as_json:
        say_json(json.dumps(result.to_dict(), indent=2))
    elif result.transformed is not None:
        transformed = result.transformed
        say(f"{hardened}: transformed after hardening, {transformed.kind} in force: {transformed}")
        say("That is no proof: what else differs from the source shows on samples alone.")
    elif result.faults:
        say(f"{hardened}: is not {source} plus {result.added}")
        for fault in result.faults[:SHOWN]:
            say(f"  {fault}")
        if len(result.faults) > SHOWN:
            say(f"  … and {len(result.faults) - SHOWN} more; --json lists them all")
        for line in result.remarks:
            say(f"  {line}")
    else:
        proven = f"{hardened}: is {source} plus {result.added}, and nothing else"
        say(f"{proven}; {result.summary}")
        for line in result.remarks:
            say(f"Note: {line}.")
        say("Its attack, eps, seed and data are what the file says of itself, not proven.")
    if result.transformed is not None:
        return ExitCode.TRANSFORMED
    return ExitCode.REFUSED if result.faults else ExitCode.DONE
