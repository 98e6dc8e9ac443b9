"""Samples that a user's own function yields: the way in for whatever form nothing else reads.

This runs the user's code, on purpose, with the rights of the user. What names it stands on the
command line or in Python; a file of options that came with a model may not.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType

from cloakify.data.naming import shown
from cloakify.errors import CloakifyError, DataError
from cloakify.settings.programs import split_program


def load(path: Path) -> object:
    """Return what a function gives, or the object of that name if it can't be called.

    Raises
    ------
    DataError
        There is no such script, module or name, or it raises something.
    """
    parts = split_program(path)
    assert parts is not None
    place, name = parts
    with own_code(shown(path)):
        module = _script(Path(place)) if place.endswith(".py") else _module(place)
        value = getattr(module, name, None)
        if value is None:
            names = [each for each in vars(module) if _may_yield(module, each)]
            raise DataError(
                f"{shown(place)} has no {name!r}: it has {', '.join(names) or 'no function'}"
            )
        # A reader is one already; its class is called for one.
        made = isinstance(value, type) or not hasattr(value, "get_next")
        if not callable(value) or not made:
            return value
        needed = _needed(value)
        if needed:
            raise DataError(
                f"{shown(path)} is called without arguments, and takes {', '.join(needed)}: give a "
                "function that calls it"
            )
        return value()


def _may_yield(module: ModuleType, name: str) -> bool:
    """Tell whether a name of a module may stand for samples: not what it has imported."""
    value = getattr(module, name)
    if callable(value):
        return getattr(value, "__module__", None) == module.__name__
    return not name.startswith("_") and isinstance(value, Iterable) and not isinstance(value, str)


def _needed(function: Callable[[], object]) -> list[str]:
    """Return the arguments that a function can't be called without, where that can be told."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        each.name for each in parameters if each.default is each.empty and each.kind not in optional
    ]


def script_of(path: str | os.PathLike[str]) -> Path | None:
    """Return the script that a path names a function in; ``None`` for anything else."""
    parts = split_program(path)
    return Path(parts[0]) if parts is not None and parts[0].endswith(".py") else None


@contextmanager
def own_code(where: str) -> Iterator[None]:
    """Run the user's code: what it prints goes to standard error, what it raises is one line."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except CloakifyError:
        raise
    # Whatever it is, it is not ours to know.
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        outside = [frame for frame in frames if not frame.filename.startswith((_OWN, "<frozen"))]
        at = f" at line {outside[-1].lineno} of {outside[-1].filename}" if outside else ""
        said = shown(": ".join([type(error).__name__, *str(error).split("\n", 1)[:1]]).rstrip(": "))
        raise DataError(f"{where} raises {said}{shown(at)}: mend it") from error


# Frames of our own are not where the user's code is wrong.
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def _script(path: Path) -> ModuleType:
    if not path.is_file():
        raise DataError(f"{shown(path)} does not exist: check the path")
    # Its neighbours can be imported, as where Python runs it itself.
    sys.path.insert(0, str(path.parent.resolve()))
    # Under a name that nothing else is imported by.
    spec = importlib.util.spec_from_file_location(f"cloakify_samples.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    # Where the command is called, as with `python -m`.
    sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)
