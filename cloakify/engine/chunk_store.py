"""What was made of chunks, in a folder: for a run that goes on, and for one in parts.

Each chunk is a file of its own, which appears whole or not at all: a line of JSON that says what it
is of, and the arrays (NumPy's ``.npz``), whose SHA-256 that line holds. The run that it belongs to
is told by facts: versions, digests, settings. A chunk of other facts is refused, a damaged one is
made again.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np

from cloakify.engine.task import Arrays, Task
from cloakify.errors import CloakifyError, UsageError
from cloakify.numeric.arrays import Indices
from cloakify.onnxfile import atomic_write
from cloakify.onnxfile.publish import remove_leftovers

ENDING = ".chunk"

# More than any first line has.
_LONGEST = 1 << 20


class ChunkStore:
    """The chunks of one run in a folder, which other processes may write to at the same time.

    Parameters
    ----------
    folder
        Made where it is missing.
    facts
        What tells the run from others, by names that an error can use: ``model``, ``data``.

    Raises
    ------
    UsageError
        The folder holds chunks of another run.
    CloakifyError
        It can't be made.
    """

    def __init__(self, folder: Path, facts: Mapping[str, str]) -> None:
        self._folder, self._facts = folder, dict(facts)
        try:
            folder.mkdir(exist_ok=True)
            one = next(folder.glob("*" + ENDING), None)
        except OSError as error:
            reason = error.strerror or error
            raise CloakifyError(f"{folder}: is no folder to keep work in ({reason})") from error
        remove_leftovers(folder)
        if one is not None:
            self._read(one)
        self._is_tidy = False

    def has(self, task: Task[Any], number: int, chunk: Indices) -> bool:
        """Tell whether a chunk is there, whole.

        Raises
        ------
        UsageError
            It is there, but of another run.
        """
        return self.get(task, number, chunk) is not None

    def get(self, task: Task[Any], number: int, chunk: Indices) -> Arrays | None:
        """Return what was made of a chunk; ``None`` where it is not there, or damaged.

        Raises
        ------
        UsageError
            It is of another run.
        """
        path = self._place(task, number)
        read = self._read(path)
        if read is None:
            return None
        told, content = read
        if told.get("chunk") != _named(task, number, chunk):
            raise UsageError(
                f"{path}: is of other work, on other samples or a model that was made otherwise; "
                f"{_remedy(self._folder)}"
            )
        if told.get("sha256") != hashlib.sha256(content).hexdigest():
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, EOFError, ValueError, BadZipFile, zlib.error):
            return None

    def put(self, task: Task[Any], number: int, chunk: Indices, made: Arrays) -> None:
        """Keep what was made of a chunk.

        Raises
        ------
        CloakifyError
            It can't be written.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **cast(dict[str, Any], made))
        content = buffer.getbuffer()
        told = {
            "facts": self._facts,
            "chunk": _named(task, number, chunk),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        with atomic_write(self._place(task, number)) as file:
            file.write(json.dumps(told).encode() + b"\n")
            file.write(content)
        if not self._is_tidy:
            # A run that was killed just before this one began may have been dying still.
            remove_leftovers(self._folder)
            self._is_tidy = True

    def _place(self, task: Task[Any], number: int) -> Path:
        return self._folder / f"{task.name}-{number:06}{ENDING}"

    def _read(self, path: Path) -> tuple[Mapping[str, object], bytes] | None:
        """Return what a chunk's file says of itself, and its arrays as bytes."""
        try:
            with open(path, "rb") as file:
                told = json.loads(file.readline(_LONGEST))
                content = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CloakifyError(f"{path}: can't be read ({error.strerror or error})") from error
        except ValueError:
            return None
        facts = told.get("facts") if isinstance(told, dict) else None
        if not isinstance(facts, dict):
            return None
        for name, value in self._facts.items():
            if facts.get(name) != value:
                was, now = _short(str(facts.get(name))), _short(value)
                raise UsageError(
                    f"{path}: is of another run: its {name} is {was}, here it is {now}; "
                    f"{_remedy(self._folder)}"
                )
        return told, content


def _named(task: Task[Any], number: int, chunk: Indices) -> str:
    """Return what tells a chunk from others: its samples, and what is done with them."""
    samples = hashlib.sha256(chunk.astype("<i8").tobytes()).hexdigest()
    return f"{task.name} {number} {samples} {task.digest}"


def _remedy(folder: Path) -> str:
    return f"name another folder with --resume, or remove {folder}"


def _short(text: str) -> str:
    if not text:
        return "none"
    return text if len(text) <= 90 else f"{text[:80]}…"
