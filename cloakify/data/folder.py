"""Images in class folders (``calib/cat/1.png``), or in one flat folder where labels are not needed.

The subfolders' names, sorted as text, are the class indices: ``cat`` is 0, ``dog`` is 1. Where all
of them begin with a number, they sort by it: ``2`` stands before ``10``. Inside a class folder
images may lie at any depth. Names that begin with a dot are skipped, and `__MACOSX`,
which unpacking an archive leaves.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.bounds import check_file, check_regular
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
    | {".pgm", ".ppm", ".pnm", ".pbm"}
)
"""File name endings taken for images, in lower case."""

# A number of more digits is no index of a class.
_NUMBER = re.compile("[0-9]{1,18}")


class ImageFolder(EncodedSource):
    """Image files below a folder."""

    def __init__(
        self,
        path: Path,
        names: list[str],
        labels: NDArray[np.int64] | None,
        class_names: tuple[str, ...] | None,
        notes: tuple[str, ...],
    ) -> None:
        super().__init__(path, labels, class_names, notes)
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    def where(self, row: int) -> str:
        return shown(self.path / self._names[row])

    def key(self, row: int) -> str:
        return self._names[row]

    def read(self, row: int) -> bytes:
        try:
            with open(os.path.join(self.path, self._names[row]), "rb") as file:
                check_file(os.fstat(file.fileno()).st_size, self.where(row))
                return file.read()
        except OSError as error:
            raise DataError(
                f"{self.where(row)} can't be read ({error.strerror}): mend or remove it"
            ) from None


def open_folder(path: Path, request: Request) -> ImageFolder:
    """List the images below ``path``; none is opened.

    Parameters
    ----------
    path
        Folder of class folders; without labels, of images at any depth.
    request
        What is asked of it: the class folders' names are the labels.

    Raises
    ------
    DataError
        No image, a class folder without one, images beside the class folders, one name with two
        image endings, a link that leads nowhere or back to a folder above it.
    """
    skipped: list[str] = []
    if not request.labelled:
        names = sorted(_images(path, "", skipped))
        if not names:
            raise DataError(f"{shown(path)} holds no image{_endings(skipped)}")
        return ImageFolder(path, names, None, None, _skipped_note(path, skipped))

    request.refuse_label(shown(path))
    classes, loose = _class_folders(path)
    if not classes and not loose:
        raise DataError(
            f"{shown(path)} holds no class folders: put the images of each class in a subfolder"
        )
    if loose:
        where = "beside its class folders" if classes else "and no class folders"
        raise DataError(
            f"{shown(path)} holds images {where} ({some(loose)}): put each image in the folder of "
            "its class, or pass a file of labels by --labels FILE, or --labels model to do without"
        )
    names, labels = [], []
    for index, name in enumerate(classes):
        before = len(skipped)
        found = sorted(_images(path, name, skipped))
        if not found:
            raise DataError(
                f"class folder {shown(path / name)} holds no image{_endings(skipped[before:])}: "
                "add images, or remove it if it is no class"
            )
        names += found
        labels += [index] * len(found)
    notes = _skipped_note(path, skipped) + _order_note(classes)
    return ImageFolder(path, names, np.array(labels, np.int64), tuple(classes), notes)


def open_images(path: Path, above: Path, files: Sequence[Path], request: Request) -> ImageFolder:
    """Take some images, each of the class that the first folder below ``above`` is called.

    Parameters
    ----------
    path
        What the user gave.
    above
        The folder that all files lie below.
    files
        The images, and others, which are passed over.

    Raises
    ------
    DataError
        Labels are asked for, and an image lies in no folder below.
    """
    names = [file.relative_to(above).as_posix() for file in files]
    skipped = [name for name in names if not is_image(name)]
    names = [name for name in names if is_image(name)]
    for name in names:
        check_regular(above / name)
    notes = _skipped_note(path, skipped)
    if not request.labelled:
        return ImageFolder(above, names, None, None, notes)
    request.refuse_label(shown(path))
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"{shown(path)} matches images in no class folder ({some(loose)}): pass a file of "
            "labels by --labels FILE, or --labels model to do without"
        )
    of = [name.partition("/")[0] for name in names]
    classes = _sorted_classes(sorted(set(of)))
    places = {name: place for place, name in enumerate(classes)}
    labels = np.array([places[name] for name in of], np.int64)
    return ImageFolder(above, names, labels, tuple(classes), notes + _order_note(classes))


def _class_folders(path: Path) -> tuple[list[str], list[str]]:
    """Subfolders and image files directly in ``path``, each sorted."""
    folders, images = [], []
    for entry in _entries(path):
        if is_folder(entry):
            folders.append(entry.name)
        elif is_image(entry.name):
            images.append(entry.name)
    return _sorted_classes(folders), sorted(images)


def _sorted_classes(names: list[str]) -> list[str]:
    numbers = {name: leading.group() for name in names if (leading := _NUMBER.match(name))}
    if len(set(map(int, numbers.values()))) == len(names):
        return sorted(names, key=lambda name: int(numbers[name]))
    return sorted(names)


def _images(root: Path, below: str, skipped: list[str]) -> Iterator[str]:
    """Images under ``root/below`` as ``/``-separated paths from ``root``; links are followed."""
    # Each folder comes with the identities of the folders above it: a link to one is a loop.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [
        (below, tuple({_identity(root), _identity(root / below)}))
    ]
    while waiting:
        folder, above = waiting.pop()
        stems: dict[str, str] = {}
        for entry in _entries(root / folder if folder else root):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_folder(entry):
                identity = _identity(root / name)
                if identity in above:
                    raise DataError(
                        f"{shown(root / name)} is a link to a folder above it: remove the link"
                    )
                waiting.append((name, (*above, identity)))
            elif not is_image(entry.name):
                skipped.append(name)
            elif not (root / name).is_file():
                raise DataError(
                    f"{shown(root / name)} is no file, or a link that leads nowhere: remove it"
                )
            else:
                stem = os.path.splitext(entry.name)[0]
                if stem in stems:
                    raise DataError(
                        f"{shown(root / stems[stem])} and {shown(entry.name)} differ in their "
                        "ending only and may be one sample twice: keep one, or rename one"
                    )
                stems[stem] = name
                yield name


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "__MACOSX"))]
    except OSError as error:
        raise DataError(
            f"{shown(folder)} can't be listed ({error.strerror}): check the path and permissions"
        ) from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or leads to one; DataError where it can't be followed."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise DataError(
            f"{shown(entry.path)} can't be followed ({error.strerror}): remove it"
        ) from None


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(
            f"{shown(folder)} can't be read ({error.strerror}): check the path and permissions"
        ) from None
    return status.st_dev, status.st_ino


def is_image(name: str) -> bool:
    """Tell whether a file is taken for an image, by its ending."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _endings(skipped: list[str]) -> str:
    """What there is instead of images, for a message."""
    if not skipped:
        return ""
    endings = Counter(os.path.splitext(name)[1].lower() or "no ending" for name in skipped)
    seen = some([ending for ending, _ in endings.most_common()])
    return f" (only {len(skipped)} other file{'s' * (len(skipped) != 1)}: {seen})"


def _skipped_note(path: Path, skipped: list[str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    files = f"{len(skipped)} file{'s' * (len(skipped) != 1)}"
    return (f"{shown(path)}: {files} not taken for images ({some(sorted(skipped))})",)


def _order_note(classes: list[str]) -> tuple[str, ...]:
    """Some programs sort numbers as text: of 0 … 10, folder 10 is then class 2."""
    if classes == sorted(classes):
        return ()
    place = next(place for place, name in enumerate(sorted(classes)) if classes[place] != name)
    return (
        f"class folders are sorted by number: folder {shown(classes[place])} is class {place}; "
        "--classes gives the model's order, should it be another",
    )
