"""The command that repeats a run: of settings and files, the line that a shell takes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from cloakify.settings.config_file import config_beside
from cloakify.settings.option import Declaration
from cloakify.settings.settings import Settings
from cloakify.settings.urls import url_of, without_secrets
from cloakify.settings.verbs import options_of

# What --config takes for no file at all.
NO_FILE = "none"


def command_line(
    verb: str, models: Sequence[str | os.PathLike[str]], setting: Settings, **files: Any
) -> str:
    """Return the command that runs a verb on models with these settings.

    Options that have their defaults are left out, and those that say nothing of what comes out.
    Where a file of options lies beside the model it is told not to be read: what counted of it is
    in the settings.

    Parameters
    ----------
    files
        Paths by the names of the options that take them; ``None`` for those that are not given.
    """
    options = {declared.name: declared for declared, _ in options_of(verb)}
    words = ["cloakify", verb, *(_path(model) for model in models)]
    for name, value in files.items():
        if value is not None:
            several = options[name].several and isinstance(value, tuple | list)
            plain = several or isinstance(value, str | os.PathLike)
            # What is no path, but yields samples, no shell can repeat: it is named all the same.
            given = value if plain else f"<{type(value).__name__}>"
            words += _option(options[name], options[name].check(given))
    for declared, value in setting.changed():
        if not declared.option.aside:
            words += _option(declared, value)
    if config_beside(models[0]) is not None:
        words += ["--config", NO_FILE]
    return shlex.join(words)


def _option(declared: Declaration, value: Any) -> Iterable[str]:
    if declared.kind is bool:
        return [declared.flag if value else f"--no-{declared.flag.removeprefix('--')}"]
    values = value if declared.several else [value]
    return [word for each in values for word in (declared.flag, _text(declared, each))]


def _text(declared: Declaration, value: Any) -> str:
    return _path(value) if isinstance(value, os.PathLike) else declared.write(value)


def _path(path: str | os.PathLike[str]) -> str:
    url = url_of(path)
    if url is not None:
        return without_secrets(url)
    # A name that looks like an option is none in a folder.
    text = os.fspath(path)
    return os.path.join(os.curdir, text) if text.startswith("-") else text
