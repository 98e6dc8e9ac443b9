"""What all verbs' commands do alike: help under headings, and options from files."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cloakify.cli.console import remark, say, say_json
from cloakify.cli.options import PREFIX, DeclaredOption
from cloakify.errors import PartDone, UsageError
from cloakify.settings.command_line import NO_FILE
from cloakify.settings.config_file import (
    NAME,
    config_beside,
    known_options,
    read_config,
    write_config,
)
from cloakify.settings.endings import ALL
from cloakify.settings.groups import HEADINGS
from cloakify.settings.settings import did_you_mean
from cloakify.settings.verbs import VERBS

# What counts as given by the user.
_GIVEN = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
# Where a context keeps the file of options, and whether all that is asked for is to write one.
_FILE, _WRITES = f"{__name__}.file", f"{__name__}.writes"


class Verb(click.Command):
    """A command whose help lists options under headings, and that takes options from files.

    An option counts as the command line gives it, else as the environment does, else as a file
    does: the one that ``--config`` names, or the one beside the model.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                heading = "Help"
                if isinstance(param, DeclaredOption):
                    heading = param.declared.group.heading
                sections.setdefault(heading, []).append(record)
        for heading in (*HEADINGS, "Help"):
            if heading in sections:
                with formatter.section(heading):
                    formatter.write_dl(sections[heading])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, with what a file says in place of defaults."""
        typed, left, _ = self.make_parser(ctx).parse_args(list(args))
        self._check_pattern(ctx, typed, left)
        config = next((param for param in self.params if param.name == "config"), None)
        asks_help = self.get_help_option(ctx)
        if config is not None and not (asks_help and typed.get(str(asks_help.name))):
            named, model = typed.get("config") or _variable(config), self._model(typed)
            path = Path(named) if named else config_beside(model) if model else None
            ctx.meta[_WRITES] = typed.get("init_config") is True
            if ctx.meta[_WRITES]:
                if named == NO_FILE:
                    raise click.UsageError(
                        f"--init-config writes a file, and --config {NO_FILE} names none: leave "
                        "one of them out",
                        ctx,
                    )
                folder = Path(model).parent if model else Path()
                ctx.meta[_FILE] = Path(named) if named else folder / NAME
            elif path is not None and named != NO_FILE:
                ctx.meta[_FILE] = path
                ctx.default_map = read_config(path, str(self.name), trusted=bool(named))
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters; none is required where all that is made is a file of options."""
        params = super().get_params(ctx)
        if ctx.meta.get(_WRITES):
            params = [copy.copy(param) for param in params]
            for param in params:
                param.required = False
        return params

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, or write a file of options."""
        quiet = bool(ctx.params.get("quiet"))
        for text in unknown_variables(os.environ):
            remark(f"Note: {text}", quiet)
        if ctx.meta.get(_WRITES):
            self._write_config(ctx)
            return 0
        if ctx.meta.get(_FILE) is not None:
            # A file that came with a model is not let hide that it is read.
            asked = ctx.get_parameter_source("quiet") is not ParameterSource.DEFAULT_MAP
            remark(f"Options from {ctx.meta[_FILE]}", quiet and asked)
        for name in ("config", "init_config"):
            ctx.params.pop(name, None)
        try:
            return super().invoke(ctx)
        except PartDone as part:
            if ctx.params.get("json"):
                say_json(json.dumps({"chunks": {"done": part.done, "of": part.chunks}}))
            else:
                say(f"Part {ctx.params['shard']}: {part}")
            return 0

    def _check_pattern(self, ctx: click.Context, typed: Mapping[str, Any], left: list[str]) -> None:
        """Raise a usage error where a shell has written out what --data was to be a pattern of."""
        given = [
            typed.get(str(param.name)) for param in self.params if isinstance(param, click.Argument)
        ]
        models = [model for each in given if isinstance(each, tuple) for model in each]
        files = [each for each in (*left, *models) if each.lower().endswith(ALL)]
        if typed.get("data") and files:
            raise click.UsageError(
                f"--data takes one path, and {files[0]} is another: keep a pattern in "
                "quotes ('DIR/*.jpg')",
                ctx,
            )

    def _model(self, typed: Mapping[str, Any]) -> str | None:
        """Return the model, or the first of several, of a command line that was not parsed yet."""
        (argument,) = (param for param in self.params if isinstance(param, click.Argument))
        given = typed.get(str(argument.name))
        given = given[0] if isinstance(given, tuple) and given else given
        return given if isinstance(given, str) and given else None

    def _write_config(self, ctx: click.Context) -> None:
        """Write the file with what was given, where there is none yet."""
        from cloakify.onnxfile import atomic_write

        path: Path = ctx.meta[_FILE]
        if path.exists():
            raise UsageError(f"{path}: exists already; name another file with --config")
        given = {
            param.name: ctx.params[param.name]
            for param in self.params
            if isinstance(param, DeclaredOption)
            and ctx.get_parameter_source(str(param.name)) in _GIVEN
        }
        with atomic_write(path) as file:
            file.write(write_config(str(self.name), given, path.parent).encode())
        remark(f"Written: {path}", bool(ctx.params.get("quiet")))


def _variable(option: click.Parameter) -> str | None:
    """Return what the environment gives for an option."""
    values = (os.environ.get(name) for name in option.envvar or ())
    return next(filter(None, values), None)


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Say of every variable of the environment that looks like an option, but is none, so."""
    options = [name.upper() for name in known_options()]
    verbs = [verb.upper() for verb in VERBS]
    known = [f"{PREFIX}_{name}" for name in options]
    known += [f"{PREFIX}_{verb}_{name}" for verb in verbs for name in options]
    return [
        f"the environment's {name} is no option{did_you_mean(name, known)}"
        for name in names
        if name.startswith(f"{PREFIX}_") and name not in known
    ]
