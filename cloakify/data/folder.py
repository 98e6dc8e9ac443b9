"""Images in class folders (``calib/cat/1.png``), or in one flat folder where labels are not needed.

The subfolders' names, sorted as text, are the class indices: ``cat`` is 0, ``dog`` is 1. Where all
of them begin with a number, they sort by it: ``2`` stands before ``10``. Inside a class folder
images may lie at any depth. Names that begin with a dot are skipped, and what
systems leave in folders (`__MACOSX`, `@eaDir`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cloakify.data.audio import no_audio
from cloakify.data.bounds import check_file, check_regular
from cloakify.data.foreign import instead_of_images
from cloakify.data.labels import TextLabels
from cloakify.data.listing import entries, is_folder
from cloakify.data.names import Names, Places, Renamed, in_order
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.skipped import Skipped
from cloakify.data.source import EncodedSource
from cloakify.errors import DataError
from cloakify.settings.endings import TEXT_TABLES, ending, is_image

# Files of a folder that are looked at to say what it holds instead of images.
_LOOKED_AT = 100

# A number of more digits is no index of a class.
_NUMBER = re.compile("[0-9]{1,18}")


class ImageFolder(EncodedSource):
    """Image files below a folder."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str],
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

    def names(self) -> Sequence[str]:
        return Renamed(len(self), lambda row: _stem(self._names[row]))

    def read(self, row: int) -> bytes:
        try:
            with open(os.path.join(self.path, self._names[row]), "rb") as file:
                check_file(os.fstat(file.fileno()).st_size, self.where(row))
                return file.read()
        except OSError as error:
            raise DataError(
                f"{self.where(row)} can't be read ({error.strerror}): mend or remove it"
            ) from None


# Where data sets for detectors and segmenters (COCO's, Pascal's, YOLO's) keep what is no image.
_OF_BOXES = {"annotations", "imagesets", "labels"}


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
    if not request.labelled:
        names, skipped = _images(path, "")
        if not len(names):
            if skipped.has_audio:
                raise no_audio(shown(path))
            told = instead_of_images(path, skipped.first)
            raise DataError(f"{shown(path)} holds no image{skipped.instead}{told}")
        return ImageFolder(path, names, None, None, skipped.note(path))

    request.refuse_label(shown(path))
    classes, loose, tables = _class_folders(path)
    if not classes and not loose:
        files = sorted(entry.name for entry in islice(entries(path), _LOOKED_AT))
        others = Skipped()
        for file in files:
            others.add(file)
        raise DataError(
            f"{shown(path)} holds no class folders{others.instead}: put the images of each class "
            f"in a subfolder{instead_of_images(path, files)}"
        )
    if loose:
        where = "beside its class folders" if classes else "and no class folders"
        table = next(map(str, tables or _tables_above(path)), "FILE")
        raise DataError(
            f"{shown(path)} holds images {where} ({some(loose)}): put each image in the folder of "
            f"its class, or pass a file of labels by --labels {shown(table)}, or --labels model to "
            "do without"
        )
    if len(classes) == 1 and tables:
        images = shown(path / classes[0])
        raise DataError(
            f"{shown(path)} holds one folder, and {shown(tables[0].name)}: if that labels the "
            f"images in it, give --data {images} --labels {shown(tables[0])}"
        )
    return _of_classes(path, classes)


def _of_classes(path: Path, classes: list[str]) -> ImageFolder:
    """List the images of each class folder."""
    names, skipped, counts = Names(), Skipped(), []
    for name in classes:
        images, others = _images(path, name)
        if not len(images):
            if others.has_audio:
                raise no_audio(f"class folder {shown(path / name)}")
            what = "add images, or remove it if it is no class"
            what += instead_of_images(path, others.first)
            if name.casefold() in _OF_BOXES:
                what = (
                    "a data set of boxes or masks? cloakify takes one class a sample: give class "
                    "folders, or a list of classes by --labels FILE"
                )
            raise DataError(
                f"class folder {shown(path / name)} holds no image{others.instead}: {what}"
            )
        names.extend(images)
        skipped.update(others)
        counts.append(len(images))
    notes = skipped.note(path) + order_note(classes)
    labels = np.repeat(np.arange(len(classes)), counts)
    return ImageFolder(path, names, labels, tuple(classes), notes)


def open_images(path: Path, above: Path, files: Sequence[str], request: Request) -> ImageFolder:
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
    names, skipped = Names(), Skipped()
    for file in files:
        name = Path(file).relative_to(above).as_posix()
        if is_image(name):
            check_regular(Path(file))
            names.append(name)
        else:
            skipped.add(name)
    if not request.labelled:
        return ImageFolder(above, names, None, None, skipped.note(path))
    request.refuse_label(shown(path))
    loose = Names(name for name in names if "/" not in name)
    if loose:
        raise DataError(
            f"{shown(path)} matches images in no class folder ({some(loose)}): pass a file of "
            "labels by --labels FILE, or --labels model to do without"
        )
    of = TextLabels(name.partition("/")[0] for name in names)
    classes = sorted_classes(of.names)
    notes = skipped.note(path) + order_note(classes)
    return ImageFolder(above, names, of.among(classes), tuple(classes), notes)


def _class_folders(path: Path) -> tuple[list[str], Names, list[Path]]:
    """Subfolders, image files and tables directly in ``path``, each sorted."""
    folders, tables = [], []

    def images() -> Iterator[str]:
        for entry in entries(path):
            if is_folder(entry):
                folders.append(entry.name)
            elif is_image(entry.name):
                yield entry.name
            elif ending(entry.name) in TEXT_TABLES:
                tables.append(path / entry.name)

    loose = in_order(images())
    return sorted_classes(folders), loose, sorted(tables)


def _tables_above(path: Path) -> list[Path]:
    """Tables beside a folder that are called as if they held its labels."""
    names = [f"{stem}{kind}" for stem in (path.name, "labels", "train") for kind in TEXT_TABLES]
    return [path.parent / name for name in names if (path.parent / name).is_file()]


def sorted_classes(names: list[str]) -> list[str]:
    """Sort names of classes: by their numbers where all begin with another one, else as text."""
    numbers = {name: leading.group() for name in names if (leading := _NUMBER.match(name))}
    if len(set(map(int, numbers.values()))) == len(names):
        return sorted(names, key=lambda name: int(numbers[name]))
    return sorted(names)


def _images(root: Path, below: str) -> tuple[Names, Skipped]:
    """Images under ``root/below`` as ``/``-separated paths from ``root``, sorted, and the rest."""
    skipped = Skipped()
    names = in_order(_walk(root, below, skipped))
    again = Places(map(_stem, names)).again()
    if len(again):
        second = names[int(again[0])]
        (first,) = Places(map(_stem, names)).of([_stem(second)]).tolist()
        raise DataError(
            f"{shown(root / names[first])} and {shown(os.path.basename(second))} differ in their "
            "ending only and may be one sample twice: keep one, or rename one"
        )
    return names, skipped


def _walk(root: Path, below: str, skipped: Skipped) -> Iterator[str]:
    """Yield the images, in no order; links are followed."""
    # Each folder comes with the identities of the folders above it: a link to one is a loop.
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [
        (below, tuple({_identity(root), _identity(root / below)}))
    ]
    while waiting:
        folder, above = waiting.pop()
        for entry in entries(root / folder if folder else root):
            name = f"{folder}/{entry.name}" if folder else entry.name
            if is_folder(entry):
                identity = _identity(root / name)
                if identity in above:
                    raise DataError(
                        f"{shown(root / name)} is a link to a folder above it: remove the link"
                    )
                waiting.append((name, (*above, identity)))
            elif not is_image(entry.name):
                skipped.add(name)
            elif not os.path.isfile(entry.path):
                raise DataError(
                    f"{shown(root / name)} is no file, or a link that leads nowhere: remove it"
                )
            else:
                yield name


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise DataError(
            f"{shown(folder)} can't be read ({error.strerror}): check the path and permissions"
        ) from None
    return status.st_dev, status.st_ino


def order_note(classes: list[str]) -> tuple[str, ...]:
    """Say that classes are sorted by number: as text, which some programs do, 10 is class 2."""
    if classes == sorted(classes):
        return ()
    place = next(place for place, name in enumerate(sorted(classes)) if classes[place] != name)
    return (
        f"class folders are sorted by number: folder {shown(classes[place])} is class {place}; "
        "--classes gives the model's order, should it be another",
    )
