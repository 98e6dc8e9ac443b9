"""Classes by the folders that images lie in, inside an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloakify.data.folder import order_note, sorted_classes
from cloakify.data.labels import TextLabels
from cloakify.data.listing import HIDDEN
from cloakify.data.naming import shown
from cloakify.data.split_names import preferred, split_note
from cloakify.errors import DataError
from cloakify.numeric.arrays import Indices, Labels


@dataclass(frozen=True)
class PackedClasses:
    """Which images count, and their classes.

    Attributes
    ----------
    rows
        int64 [n], ascending: those of the split that was taken, or all.
    labels
        int64 [n].
    names
        Of the classes, in their order.
    notes
        What was chosen.
    """

    rows: Indices
    labels: Labels
    names: tuple[str, ...]
    notes: tuple[str, ...]


def is_hidden(name: str) -> bool:
    """Tell whether a member is hidden, or left by a system, or lies in such a folder."""
    return any(part.startswith(HIDDEN) for part in name.split("/"))


def packed_classes(path: Path, names: Sequence[str]) -> PackedClasses:
    """Take the folders that images lie in for their classes.

    Folders that all of them lie in are no class; of folders that are called ``train``, ``val``,
    ``test`` one is taken.

    Parameters
    ----------
    path
        What the user gave.
    names
        Of the images, with their folders, parted by ``/``.

    Raises
    ------
    DataError
        An image lies in no folder.
    """
    rows: Indices = np.arange(len(names))
    notes: tuple[str, ...] = ()
    above = _shared(names, rows)
    folders = TextLabels(_folder(path, name, above) for name in names)
    split = preferred(folders.names)
    if split is not None:
        if len(folders.names) > 1:
            notes = (split_note(path, folders.names, split),)
        rows = np.flatnonzero(folders.among(folders.names) == folders.names.index(split))
        above = _shared(names, rows)
        folders = TextLabels(_folder(path, names[row], above) for row in rows.tolist())
    classes = sorted_classes(folders.names)
    return PackedClasses(
        rows, folders.among(classes), tuple(classes), (*notes, *order_note(classes))
    )


def _shared(names: Sequence[str], rows: Indices) -> int:
    """Return how many folders all images lie in, but for the one next to the nearest image."""
    first = names[int(rows[0])].split("/")[:-1]
    shared = len(first) - 1
    for row in rows.tolist():
        folders = names[row].split("/")[:-1]
        shared = min(shared, len(folders) - 1)
        while shared > 0 and folders[:shared] != first[:shared]:
            shared -= 1
    return max(0, shared)


def _folder(path: Path, name: str, above: int) -> str:
    folders = name.split("/")[:-1]
    if len(folders) <= above:
        raise DataError(
            f"{shown(path)} holds image {shown(name)} in no class folder and without a label: pack "
            "class folders, a .cls beside each image, or pass --labels FILE, or --labels model to "
            "do without"
        )
    return folders[above]
