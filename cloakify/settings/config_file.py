"""`cloakify.toml`: options in a file, written and read.

A key is the name of an option, its value what the command line takes, as text or as TOML's number,
boolean or list. Keys count for every verb that has the option; those in a table that is called like
a verb count for that verb alone, and before the others.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloakify.errors import UsageError
from cloakify.settings.groups import HEADINGS
from cloakify.settings.option import Declaration
from cloakify.settings.programs import names_module
from cloakify.settings.settings import did_you_mean
from cloakify.settings.urls import Url, url_of, without_secrets
from cloakify.settings.verbs import VERBS, options_of

NAME = "cloakify.toml"

# Signs of what stands for files, or runs something, rather than being a file's name.
_SIGNS = frozenset("*?[{:")

# More than any such file holds.
_LARGEST = 2**20


def config_beside(model: str | os.PathLike[str]) -> Path | None:
    """Return the file that lies beside a model, or in its folder, or ``None``."""
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    return folder / NAME if (folder / NAME).is_file() else None


def read_config(path: Path, verb: str, *, trusted: bool = True) -> dict[str, Any]:
    """Read a verb's options from a file: values by the options' names in Python.

    Relative paths are taken from the file's folder.

    Parameters
    ----------
    trusted
        Whether the user named the file. One that merely lies beside a model may have come with it,
        and is let name no files outside its folder, and none to write in the place of another.

    Raises
    ------
    UsageError
        It can't be read, an option does not exist, or a value is out of its range.
    """
    shared, own = _split(_parse(path), path, verb)
    options: dict[str, Any] = {}
    for name, value in (shared | own).items():
        declared = _of_verb(verb).get(name)
        if declared is None:
            continue
        try:
            options[name] = _read(declared, value, path.parent)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        if not trusted:
            _check_inside(declared, options[name], path)
    return options


def write_config(verb: str, given: Mapping[str, Any], folder: Path) -> str:
    """Return a file with every option of a verb, explained.

    Parameters
    ----------
    given
        Values by the options' names; the others stand there as comments, with their defaults.
    folder
        Where the file will be: relative paths in it count from there.
    """
    sections: dict[str, list[str]] = {}
    for declared, default in options_of(verb):
        if not declared.option.command_only:
            value = _seen_from(folder, given.get(declared.name, default))
            lines = _explained(declared, value, given=declared.name in given)
            sections.setdefault(declared.group.heading, []).extend(lines)
    head = [
        f"# Options of `cloakify {verb}`, under the names that they have on the command line.",
        "# What stands there, or in environment variables such as CLOAKIFY_EPS, wins over this.",
        f"# A table such as [{verb}] at the end holds what counts for that verb alone.",
        "",
    ]
    for heading in HEADINGS:
        if heading in sections:
            head += [f"# ---- {heading} ----", "", *sections[heading]]
    return "\n".join(head)


def _explained(declared: Declaration, value: Any, *, given: bool) -> list[str]:
    """Return the lines of one option; one that is not given is a comment."""
    lines = [f"# {declared.option.help}"]
    if declared.kind is str:
        lines += [f"# Takes {declared.metavar}."] * ("|" in declared.metavar)
    elif declared.kind is not bool:
        lines.append(f"# Takes {declared.takes}.")
    key, unset = _key(declared.name), declared.option.unset
    if given:
        lines.append(f"{key} = {_toml(value, declared)}")
    elif declared.required or (value is None and not declared.option.none):
        lines.append(f"# {key} =" + f"  # {unset}" * bool(unset))
    else:
        lines.append(f"# {key} = {_toml(value, declared)}")
    return [*lines, ""]


def known_options() -> dict[str, Declaration]:
    """Return all options of all verbs by their names in Python."""
    return {declared.name: declared for verb in VERBS for declared, _ in options_of(verb)}


def _check_inside(declared: Declaration, value: Any, path: Path) -> None:
    """Raise UsageError for files outside the folder of the file of options, and for programs.

    So for what is written over files, or under names that something else may run or read: the user
    has named neither. What stands for several files, or for a function in one, is no file's name.
    """
    if declared.option.may_name_file:
        value = Path(value) if isinstance(value, str) and Path(value).exists() else None
    elif not declared.names_files:
        return
    folder = path.parent.resolve()
    for named in value if isinstance(value, tuple) else (value,):
        if named is None:
            continue
        url = url_of(named)
        if url is not None:
            raise UsageError(
                f"{path}: {declared.flag} names {without_secrets(url)}, which lies elsewhere: "
                "options found beside a model may name nothing to fetch: give --config "
                f"{path} if you trust them, else --config none"
            )
        if declared.option.samples and not named.exists() and _has_signs(named, path):
            raise UsageError(
                f"{path}: {declared.flag} names {named}, which is no file: options found beside a "
                f"model may name no patterns, and nothing to run: give --config {path} if you "
                "trust them, else --config none"
            )
        if not named.resolve().is_relative_to(folder):
            raise UsageError(
                f"{path}: {declared.flag} names {named}, which options found beside a model may "
                f"not, as it is outside their folder: give --config {path} if you trust them, else "
                "--config none"
            )
        _check_written(declared, named, path)


def _check_written(declared: Declaration, named: Path, path: Path) -> None:
    endings = declared.option.written
    if not endings:
        return
    if os.path.lexists(named):
        fault = f"{named}, which is there already: options found beside a model may replace nothing"
    elif not named.name.lower().endswith(endings):
        fault = f"{named}, which options found beside a model may not, as it ends in none of "
        fault += ", ".join(endings)
    else:
        return
    raise UsageError(
        f"{path}: {declared.flag} names {fault}: give --config {path} if you trust them, else "
        "--config none"
    )


def _has_signs(named: Path, path: Path) -> bool:
    return names_module(named) or not _SIGNS.isdisjoint(os.path.relpath(named, path.parent))


def _of_verb(verb: str) -> dict[str, Declaration]:
    return {declared.name: declared for declared, _ in options_of(verb)}


def _parse(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise UsageError(f"{path}: holds more than a mebibyte; it is no file of options")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is no TOML ({error})") from None


def _split(
    document: dict[str, Any], path: Path, verb: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what counts for all verbs and for this one; all of the file is checked."""
    known = known_options()
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            if key not in VERBS:
                hint = did_you_mean(key, VERBS)
                raise UsageError(f"{path}: [{key}] is no verb of cloakify's{hint}")
            options = _of_verb(key)
            named = {
                _name(path, inner, options, f"[{key}] "): each for inner, each in value.items()
            }
            own |= named if key == verb else {}
        else:
            shared[_name(path, key, known, "")] = value
    return shared, own


def _name(path: Path, key: str, known: Mapping[str, Declaration], table: str) -> str:
    """Return the name in Python of an option that a file may hold."""
    name = key.replace("-", "_")
    keys = [_key(each) for each, of in known.items() if not of.option.command_only]
    if _key(name) not in keys:
        raise UsageError(f"{path}: there is no option {table}{key}{did_you_mean(key, keys)}")
    return name


def _key(name: str) -> str:
    return name.replace("_", "-")


def _read(declared: Declaration, value: object, folder: Path) -> Any:
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | bool | int | float) for part in parts):
        raise UsageError(f"{declared.flag} takes {declared.takes}, not {_text(value)}")
    if declared.names_files:
        paths = value if declared.several and isinstance(value, list) else [value]
        if not all(isinstance(each, str) and each for each in paths):
            raise UsageError(f"{declared.flag} takes {declared.takes}, not {_text(value)}")
        placed = [_placed(declared, str(each), folder) for each in paths]
        return declared.check(placed if declared.several else placed[0])
    text = _text(value)
    if declared.option.may_name_file and (folder / text).is_file():
        text = str(folder / text)
    return declared.parse(text)


def _placed(declared: Declaration, name: str, folder: Path) -> Path:
    """Return a path as it counts from the file's folder; a module lies in none, nor does a URL."""
    if declared.option.samples and url_of(name) is not None:
        return Url.of(name)
    return Path(name) if declared.option.samples and names_module(name) else folder / name


def _text(value: object) -> str:
    """Return a value of TOML as the command line would have it."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _seen_from(folder: Path, value: Any) -> Any:
    """Return the value, relative paths as they are called from a folder."""
    if isinstance(value, tuple):
        return tuple(_seen_from(folder, each) for each in value)
    if isinstance(value, Path) and url_of(value) is None and not value.is_absolute():
        return Path(os.path.relpath(value, folder))
    return value


def _toml(value: Any, declared: Declaration) -> str:
    """Write a value as TOML: numbers and booleans as such, all else as text."""
    if isinstance(value, bool | int):
        return declared.write(value)
    if declared.several:
        return "[" + ", ".join(_quoted(str(each)) for each in value) + "]"
    text = declared.write(value)
    return text if isinstance(value, float) and "/" not in text else _quoted(text)


def _quoted(text: str) -> str:
    # JSON's escapes are those of TOML, which wants DEL escaped, too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
