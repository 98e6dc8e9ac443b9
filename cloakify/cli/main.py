"""The `cloakify` command: its verbs, and what becomes of an error."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Sequence

import click

from cloakify.cli.attack import attack
from cloakify.cli.devices import devices
from cloakify.cli.evaluate import evaluate
from cloakify.cli.harden import harden
from cloakify.cli.inspect import inspect
from cloakify.cli.verify import verify
from cloakify.errors import CloakifyError
from cloakify.version import __version__

INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cloakify")
def cli() -> None:
    """Harden trained ONNX classifiers against adversarial samples, and say what that buys.

    \b
    Exit codes: 0 done; 1 a gate was not met, or a file could not be written;
    2 wrong usage; 3 the model can't be used; 4 the data can't be used; 5 the device can't be had;
    130 interrupted.
    """


for _verb in (harden, evaluate, attack, inspect, verify, devices):
    cli.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    # So batch systems end a job. It is cleaned up behind as behind Ctrl-C, half files and all.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every error becomes one line."""
    try:
        code = cli.main(arguments, prog_name="cloakify", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        where = "cloakify" if error.ctx is None else error.ctx.command_path
        click.echo(f"Error: {error.format_message()} ({where} --help tells more)", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CloakifyError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__, EOFError):
            # click takes it for a user who has gone; here no user is asked anything.
            raise error.__cause__ from None
        click.echo("Interrupted; nothing was left half written.", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        click.echo(f"Error: the output can't be written ({error.strerror})", err=True)
        # Python would try once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CloakifyError.exit_code
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        # click ends so when the reader of our output has gone (`| head`), which is no failure.
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
