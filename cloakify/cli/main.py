"""The `cloakify` command: its verbs, and what becomes of an error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import click

from cloakify.cli.attack_command import attack
from cloakify.cli.console import say
from cloakify.cli.devices_command import devices
from cloakify.cli.evaluate_command import evaluate
from cloakify.cli.harden_command import harden
from cloakify.cli.inspect_command import inspect
from cloakify.cli.process import was_interrupted
from cloakify.cli.verify_command import verify
from cloakify.errors import CloakifyError, OutOfMemoryError
from cloakify.exit_codes import ExitCode
from cloakify.version import __version__

OUT_OF_MEMORY = "memory does not suffice; give fewer samples (--limit), or smaller batches"

_HELP = """Harden trained ONNX classifiers against adversarial samples, and say what that buys.

\b
Example:
  cloakify harden model.onnx --data calib/ --eps 4/255 --report report.html

Options may also stand in a cloakify.toml beside MODEL, or in environment variables such as
CLOAKIFY_EPS; what the command line says wins.

\b
Exit codes:
""" + "\n".join(f"{code:>3} {code.meaning}" for code in ExitCode)


class _Verbs(click.Group):
    """Verbs in the order in which a user comes to need them, not in that of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Verbs,
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="cloakify")
def cli() -> None:
    """Hold all verbs."""


for _verb in (harden, evaluate, attack, inspect, verify, devices):
    cli.add_command(_verb)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error becomes one line."""
    try:
        with warnings.catch_warnings():
            # What libraries have to say of a damaged file is said by the one line of its error.
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            code = _run_verb(arguments)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        where = "cloakify" if error.ctx is None else error.ctx.command_path
        say(f"Error: {error.format_message()} ({where} --help tells more)", err=True)
        return error.exit_code
    except click.ClickException as error:
        say(f"Error: {error.format_message()}", err=True)
        return error.exit_code
    except CloakifyError as error:
        say(f"Error: {error}", err=True)
        return error.exit_code
    except MemoryError:
        say(f"Error: {OUT_OF_MEMORY}", err=True)
        return OutOfMemoryError.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            # click takes it for a user who has gone; here no user is asked anything.
            raise error.__cause__ from None
        say("Interrupted; nothing was left half written.", err=True)
        return ExitCode.INTERRUPTED


def _run_verb(arguments: Sequence[str] | None) -> object:
    """Return what the verb returns."""
    try:
        return cli.main(arguments, prog_name="cloakify", standalone_mode=False)
    except Exception:
        if was_interrupted():
            raise KeyboardInterrupt from None
        raise
