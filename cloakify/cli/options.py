"""The command line's options, made from the declarations of what a user may set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cloakify.errors import UsageError
from cloakify.settings.groups import HEADINGS
from cloakify.settings.option import Declaration, Group, declarations
from cloakify.settings.settings import Settings

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
            raise click.UsageError(str(error), ctx) from None


class DeclaredOption(click.Option):
    """An option that was declared, and the heading under which help lists it."""

    def __init__(self, declared: Declaration, default: Any) -> None:
        option = declared.option
        flag = declared.kind is bool
        shown = option.unset
        if not (flag or declared.required or declared.several):
            shown = declared.write(default) or shown
        # An option that must be given has no default, which is not the same as one of None.
        missing = {"required": True} if declared.required else {"default": default}
        short = [name for name in option.also if not name.startswith("--")]
        long = [name for name in option.also if name.startswith("--")]
        super().__init__(
            [declared.name, *short, declared.flag, *long],
            help=option.help + f"  [default: {shown}]" * bool(shown),
            metavar=None if flag else declared.metavar,
            is_flag=flag,
            type=click.BOOL if flag else DeclaredType(declared),
            multiple=declared.several,
            **missing,
        )
        self.heading = declared.group.heading


class Verb(click.Command):
    """A command whose help lists options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                heading = param.heading if isinstance(param, DeclaredOption) else "Help"
                sections.setdefault(heading, []).append(record)
        for heading in (*HEADINGS, "Help"):
            if heading in sections:
                with formatter.section(heading):
                    formatter.write_dl(sections[heading])


def options_of(*kinds: type[Settings | Group]) -> Callable[[Any], Any]:
    """Return a decorator that gives a command the options of settings and of groups."""

    def decorate(command: Any) -> Any:
        given = [each for kind in kinds for each in _declared(kind)]
        # Decorators apply from the last to the first, and so does click.
        command.__click_params__ = [
            *(DeclaredOption(*each) for each in reversed(given)),
            *getattr(command, "__click_params__", []),
        ]
        return command

    return decorate


def option_of(group: type[Group], field: str) -> Callable[[Any], Any]:
    """Return a decorator that gives a command a single option of a group."""
    (declared,) = (each for each in declarations(group) if each.field == field)

    def decorate(command: Any) -> Any:
        params = getattr(command, "__click_params__", [])
        command.__click_params__ = [*params, DeclaredOption(declared, declared.default)]
        return command

    return decorate


def take(kind: type[Made], options: dict[str, Any]) -> Made:
    """Make settings or a group of a command's options, which are taken out of ``options``."""
    values = {}
    for declared, _ in _declared(kind):
        name = declared.field if issubclass(kind, Group) else declared.name
        values[name] = options.pop(declared.name)
    return kind(**values)


def _declared(kind: type) -> Iterator[tuple[Declaration, Any]]:
    """Yield declarations, each with its default."""
    if issubclass(kind, Group):
        for declared in declarations(kind):
            yield declared, declared.default
    else:
        assert issubclass(kind, Settings)
        defaults = kind.defaults()
        for slot, declared in kind.options().values():
            yield declared, getattr(defaults[slot], declared.field)


def check_reports(
    reports: Sequence[Path], outputs: Sequence[Path | None], inputs: Sequence[Path | None]
) -> None:
    """Refuse a report's name or place before the long work starts.

    Parameters
    ----------
    outputs, inputs
        What else is written, and what is read.
    """
    from cloakify.onnxfile import check_places
    from cloakify.report import check_report_path

    for path in reports:
        check_report_path(path)
    given = [path for path in outputs if path is not None]
    check_places([*given, *reports], [path for path in inputs if path is not None])
