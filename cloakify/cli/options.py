"""The command line's options, made from the declarations of what a user may set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from cloakify.errors import UsageError
from cloakify.settings.option import Declaration, Group
from cloakify.settings.settings import Settings
from cloakify.settings.verbs import declared_in, options_of

PREFIX = "CLOAKIFY"

Made = TypeVar("Made", bound=Settings | Group)


class Input(click.Path):
    """A file or folder to read.

    What can't be read is said by who reads it, with the exit code for models, or for data.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        """Return the path; an empty one, as of a variable that is not set, is none."""
        if not os.fspath(value):
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


MODEL = Input()


class DeclaredType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.5 on
    """What a declared option takes."""

    envvar_list_splitter = os.path.pathsep

    def __init__(self, declared: Declaration) -> None:
        self.declared = declared
        self.name = declared.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value; its error is the one that Python raises."""
        declared = self.declared
        try:
            if declared.several:
                (path,) = declared.check(value)
                return path
            return declared.parse(value) if isinstance(value, str) else declared.check(value)
        except UsageError as error:
            raise click.UsageError(f"{error}{_from_where(param, ctx)}", ctx) from None


def _from_where(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """Say which variable a value comes from, where it stands on no command line."""
    if ctx is None or param is None or param.name is None:
        return ""
    if ctx.get_parameter_source(param.name) is not ParameterSource.ENVIRONMENT:
        return ""
    names = [name for name in param.envvar or () if os.environ.get(name)]
    return f", as the environment's {names[0]} says"


class DeclaredOption(click.Option):
    """An option that was declared, and the heading under which help lists it."""

    def __init__(self, declared: Declaration, default: Any, verb: str) -> None:
        option = declared.option
        flag = declared.kind is bool
        shown = option.unset
        if not (flag or declared.required or declared.several):
            shown = declared.write(default) or shown
        # An option that must be given has no default, which is not the same as one of None.
        missing = {"required": True} if declared.required else {"default": default}
        short = [name for name in option.also if not name.startswith("--")]
        long = [name for name in option.also if name.startswith("--")]
        # What the environment or a file sets must be possible to take back.
        back = f"/--no-{declared.flag.removeprefix('--')}" if flag else ""
        name = declared.name.upper()
        super().__init__(
            [declared.name, *short, declared.flag + back, *long],
            help=option.help + f"  [default: {shown}]" * bool(shown),
            metavar=None if flag else declared.metavar,
            # False would have click look whether the next word is an option, not a value.
            is_flag=flag or None,
            type=click.BOOL if flag else DeclaredType(declared),
            multiple=declared.several,
            envvar=[f"{PREFIX}_{verb.upper()}_{name}", f"{PREFIX}_{name}"],
            **missing,
        )
        self.declared = declared

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return what help shows: of a flag, the way to set it."""
        back, self.secondary_opts = self.secondary_opts, []
        record = super().get_help_record(ctx)
        self.secondary_opts = back
        return record


def declared_options(verb: str) -> Callable[[Any], Any]:
    """Return a decorator that gives a command all options of a verb."""

    def decorate(command: Any) -> Any:
        # Click takes decorators' parameters from the last to the first.
        command.__click_params__ = [
            *reversed([DeclaredOption(*each, verb) for each in options_of(verb)]),
            *getattr(command, "__click_params__", []),
        ]
        return command

    return decorate


def take(kind: type[Made], options: dict[str, Any]) -> Made:
    """Make settings or a group of a command's options, which are taken out of ``options``."""
    values = {}
    for declared, _ in declared_in(kind):
        name = declared.field if issubclass(kind, Group) else declared.name
        values[name] = options.pop(declared.name)
    return kind(**values)


def check_reports(
    reports: Sequence[Path], outputs: Sequence[Path | None], inputs: Sequence[Path | None]
) -> None:
    """Refuse a report's name or place before anything large is imported.

    Parameters
    ----------
    outputs, inputs
        What else is written, and data that is read. Models have sidecars, and are looked at when
        they are open.
    """
    from cloakify.onnxfile import check_places
    from cloakify.report import check_report_path

    for path in reports:
        check_report_path(path)
    given = [path for path in outputs if path is not None]
    check_places([*given, *reports], [path for path in inputs if path is not None])
