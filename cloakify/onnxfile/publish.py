"""A model and its sidecars change in one visible step.

The sidecars of an output are called after it and after their content, so that new ones never take
the place of old ones. They are put in place first; the model, renamed over the old one, is the
step; then the old ones are removed. A journal beside them says meanwhile what a run that is killed
leaves, for the next run to remove.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cloakify.errors import CloakifyError, ModelError
from cloakify.onnxfile.atomic import Part, dead_parts, sync_folder
from cloakify.onnxfile.sidecars import sha256_of

if sys.platform != "win32":
    from cloakify.onnxfile.atomic import lock_within

# Bytes of the content's SHA-256 in a name: no two contents will ever share one.
DIGEST = 8
SIDECAR = re.compile(rf".+\.([0-9a-f]{{{2 * DIGEST}}})\.data")

# A longer name would leave no room for the rest.
LONGEST = 200

JOURNAL = b"cloakify journal\n"

# Seconds to wait for another run that puts its files into the same folder.
PATIENCE = 30.0

# No journal is longer.
JOURNAL_LIMIT = 1 << 26


def sidecar_name(target: Path, digest: bytes) -> str:
    """Return what a sidecar of an output is called.

    Parameters
    ----------
    digest
        SHA-256 of its content.
    """
    return f"{_stem(target)}.{digest[:DIGEST].hex()}.data"


def publish(model: Part, sidecars: Mapping[str, Part | None]) -> None:
    """Put a finished model over its target, and finished sidecars beside it.

    Sidecars of the old file that no model in the folder names any more are removed.

    Parameters
    ----------
    sidecars
        By name; ``None`` for one that is there already.

    Raises
    ------
    CloakifyError
        A name is taken by another file, or the system refuses. The old model and its sidecars are
        untouched then.
    """
    target = model.target
    folder = target.parent
    with locked_folder(folder) as alone:
        old = _own_sidecars(target)
        if not sidecars and not old:
            model.publish(target)
            sync_folder(folder)
            return
        new = [name for name in sidecars if not os.path.lexists(folder / name)]
        with Part(target) as journal:
            # Removed again, as every part: it is never published.
            journal.file.write(JOURNAL + json.dumps([target.name, *new, *old]).encode())
            journal.finish()
            try:
                for name, part in sidecars.items():
                    _place(part, folder / name)
                sync_folder(folder)
                model.publish(target)
                sync_folder(folder)
            finally:
                if alone:
                    # After the step the old ones, else the new ones: what nobody names.
                    try:
                        _remove_unused(folder, target.name, {*new, *old})
                    except KeyboardInterrupt:
                        _remove_unused(folder, target.name, {*new, *old})
                        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what runs that are dead by now have left in a folder.

    That is files that they had begun, and sidecars that they had put in place, or were about to
    remove, which no model names. Nothing of a live run is removed, and nothing that is not called
    as cloakify calls such files.
    """
    with locked_folder(folder) as alone:
        for part in dead_parts(folder):
            target, *names = _journal(part) or [""]
            if names and not alone:
                continue
            _remove_unused(folder, target, names)
            with suppress(OSError):
                part.unlink()


@contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """Keep other runs from putting files into a folder; yield whether that was to be had.

    It is not on file systems without such locks, nor where another program holds the lock on.
    """
    if sys.platform == "win32":
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        # Whoever writes there says so in a line.
        yield False
        return
    try:
        alone = False
        with suppress(OSError):
            alone = lock_within(handle, PATIENCE)
        yield alone
    finally:
        os.close(handle)


def _place(part: Part | None, place: Path) -> None:
    if not os.path.lexists(place):
        if part is None:
            raise CloakifyError(f"{place}: was removed while it was in use; run it again")
        part.publish(place)
    elif part is not None and not holds(place, sha256_of(part.path)):
        raise CloakifyError(
            f"{place}: is not what its name says, and would be replaced; move it, or choose "
            "another place for the output"
        )


def holds(path: Path, digest: bytes) -> bool:
    """Tell whether a path is a regular file, no link, with a content of this SHA-256."""
    return path.is_file() and not path.is_symlink() and sha256_of(path) == digest


def _remove_unused(folder: Path, target: str, names: Iterable[str]) -> None:
    """Remove those of the sidecars named that are cloakify's own and that no model names."""
    for name in names:
        path, match = folder / name, SIDECAR.fullmatch(name)
        if match is None or path.name != name or path.is_symlink() or not path.is_file():
            continue
        with suppress(OSError, ModelError):
            models = {folder / target, *folder.glob("*.onnx")}
            if any(_mentions(model, name) for model in models):
                continue
            if sha256_of(path).hex().startswith(match[1]):
                path.unlink()


def _own_sidecars(target: Path) -> list[str]:
    """Return the sidecars of the file at an output's place that are called as its own are."""
    own = re.compile(rf"{re.escape(_stem(target))}\.[0-9a-f]{{{2 * DIGEST}}}\.data")
    with suppress(OSError):
        names = [name for name in sorted(os.listdir(target.parent)) if own.fullmatch(name)]
        return [name for name in names if _mentions(target, name)]
    return []


def _stem(target: Path) -> str:
    name = os.fsencode(target.name)
    try:
        # It will stand in a message, which takes no other text.
        name.decode()
    except UnicodeDecodeError:
        return hashlib.sha256(name).hexdigest()
    return target.name if len(name) <= LONGEST else hashlib.sha256(name).hexdigest()


def _mentions(model: Path, name: str) -> bool:
    """Tell whether a file holds a name; parsed, it could take any time and memory."""
    if not model.is_file() or not model.stat().st_size:
        return False
    with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(os.fsencode(name)) >= 0


def _journal(part: Path) -> list[str] | None:
    """Return the target's and the sidecars' names, where a part is a journal and is whole."""
    with suppress(OSError, ValueError), open(part, "rb") as file:
        if file.read(len(JOURNAL)) == JOURNAL:
            names = json.loads(file.read(JOURNAL_LIMIT))
            if names and all(isinstance(name, str) for name in names):
                return list(names)
    return None
