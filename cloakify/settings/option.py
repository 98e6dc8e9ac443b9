"""How an option is declared: once, as a field of a group.

>>> class DataOptions(Group, frozen=True, kw_only=True):  # doctest: +SKIP
...     limit: Annotated[Count | None, Option("Use at most this many samples.")] = None

The name of the option, the text that help shows, the type with its bounds and the default are all
there is to say; the command line, `cloakify.toml`, the environment, the Python interface, its
errors and the command that a report tells to repeat a run are made from it.

Groups are msgspec's structs: frozen and typed as those of pydantic, but imported in a third of the
time (25 against 80 ms), which `cloakify --help` would spend as well.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

import msgspec

from cloakify.errors import UsageError
from cloakify.settings import option_types


@dataclass(frozen=True)
class Option:
    """What is declared of an option besides its type and its default.

    Attributes
    ----------
    help
        A sentence.
    flag
        Its name on the command line where that is not the field's; in Python and in files it has
        the same one, without the dashes in front.
    also
        Other names on the command line.
    metavar
        What stands for a value in help, where the type does not say it well enough.
    none
        The word for ``None``.
    unset
        What is taken where it is left out, if the default does not say it.
    method
        The only method that has a use for it.
    samples
        Whether it names samples: a path, a pattern of paths, or a function that yields them.
    may_name_file
        Whether a value may be a file's name as well as something else.
    written
        Of files that are written, how their names end.
    command_only
        Whether it makes sense on a command line alone, not in a file.
    aside
        Whether nothing of what comes out depends on it.
    of
        Forms of samples that it says anything of (:mod:`cloakify.settings.forms`); all where none
        is named.
    """

    help: str
    _: KW_ONLY
    flag: str = ""
    also: tuple[str, ...] = ()
    metavar: str = ""
    none: str = ""
    unset: str = ""
    method: str = ""
    samples: bool = False
    may_name_file: bool = False
    written: tuple[str, ...] = ()
    command_only: bool = False
    aside: bool = False
    of: tuple[str, ...] = ()


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Options of one subject. Making one raises UsageError for a value out of an option's range."""

    heading: ClassVar[str]

    def __post_init__(self) -> None:
        """Check the values."""
        for declared in declarations(type(self)):
            value = getattr(self, declared.field)
            msgspec.structs.force_setattr(self, declared.field, declared.check(value))


@dataclass(frozen=True)
class Declaration:
    """An option, with the group and the field that it is declared as."""

    group: type[Group]
    field: str
    hint: Any
    default: Any
    option: Option

    @cached_property
    def flag(self) -> str:
        """The option's name on the command line."""
        return self.option.flag or "--" + self.field.replace("_", "-")

    @cached_property
    def name(self) -> str:
        """Its name in Python."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is msgspec.NODEFAULT

    @property
    def kind(self) -> Any:
        """The type of a value that is not ``None``."""
        return option_types.split_hint(self.hint)[0]

    @property
    def metavar(self) -> str:
        """What stands for a value in help."""
        shown = self.option.metavar or option_types.metavar(self.hint)
        named = not self.option.none or self.option.none in shown.split("|")
        return shown if named else f"{shown}|{self.option.none}"

    @property
    def several(self) -> bool:
        """Whether it is given once for each of its values."""
        return get_origin(self.kind) is tuple and option_types.File in get_args(self.kind)

    @property
    def names_files(self) -> bool:
        """Whether its values are files' names."""
        return self.several or self.kind is Path

    def check(self, value: object, written: str | None = None) -> Any:
        """Return a value in the type's form; text where that is none of it as on a command line.

        Parameters
        ----------
        written
            How the value was written, if it was text.

        Raises
        ------
        UsageError
            The option takes no such value.
        """
        try:
            return option_types.check(value, self.hint)
        except ValueError:
            if isinstance(value, str):
                read = self._read(value)
                if not isinstance(read, str):
                    return read
            shown = repr(value) if isinstance(value, str) else option_types.write(value)
            shown = shown if written is None else written
            raise UsageError(f"{self.flag} takes {self.takes}, not {shown}") from None

    def parse(self, text: str) -> Any:
        """Read a value from text, and check it.

        Raises
        ------
        UsageError
            It is none that the option takes.
        """
        read = self._read(text)
        if not isinstance(read, str):
            return read
        return self.check(read)

    def _read(self, text: str) -> Any:
        """Read a value from text, and check it where it is no text.

        Raises
        ------
        UsageError
            It is none that the option takes.
        """
        if self.option.none and text.lower() == self.option.none:
            return None
        try:
            value = option_types.parse(text, self.hint)
        except ValueError:
            raise UsageError(f"{self.flag} takes {self.takes}, not {text!r}") from None
        return value if isinstance(value, str) else self.check(value, text)

    def write(self, value: Any) -> str:
        """Write a value as :meth:`parse` reads it."""
        return self.option.none if value is None else option_types.write(value)

    @property
    def takes(self) -> str:
        """What it takes, as an error says it."""
        taken = option_types.takes(self.hint)
        return f"{taken}, or {self.option.none}" if self.option.none else taken


@cache
def declarations(group: type[Group]) -> tuple[Declaration, ...]:
    """Return what is declared in a group, in order."""
    hints = get_type_hints(group, include_extras=True)
    declared = []
    for field in msgspec.structs.fields(group):
        hint = hints[field.name]
        (option,) = (each for each in hint.__metadata__ if isinstance(each, Option))
        declared.append(Declaration(group, field.name, hint, field.default, option))
    return tuple(declared)
