"""What a folder holds: shards, a data set as Hugging Face's ``datasets`` saves it, or images.

A data set may lie in folders for its splits (``train/``, ``val/``), in files that name them
(``data/train-00000-of-00002.parquet``), or as ``save_to_disk`` writes it: Arrow files that a
`state.json` lists, and above the folders of several splits a `dataset_dict.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloakify.data.cifar import is_cifar
from cloakify.data.idx import each_once, is_idx_images
from cloakify.data.json_text import json_object
from cloakify.data.listed_folder import FILES as LISTS
from cloakify.data.listed_folder import list_file
from cloakify.data.listing import entries, is_folder
from cloakify.data.naming import shown, some
from cloakify.data.split_names import one_split, preferred, split_note
from cloakify.errors import DataError
from cloakify.settings.endings import COLUMNS, SHARDS, TABLES, ending, is_image

_STATE, _DICT = "state.json", "dataset_dict.json"
# More than any such file holds.
_LARGEST = 1 << 24
# Folders within folders that are looked into: a repository's, a configuration's, a split's.
_DEEPEST = 3
# A folder of more folders is one of classes.
_MOST_FOLDERS = 100


def is_of_samples(name: str) -> bool:
    """Tell whether a file is called as one that holds samples, and is no image."""
    file = name.rpartition("/")[2]
    return (
        file == "x.npy"
        or is_cifar(file)
        or is_idx_images(file)
        or ending(file) in (*COLUMNS, *TABLES)
    )


@dataclass(frozen=True)
class Found:
    """Where in a folder samples are.

    Attributes
    ----------
    folder
        That of the samples.
    files
        The shards there, in order; none where it holds images.
    notes
        What was chosen of several.
    """

    folder: Path
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def find_data(path: Path, depth: int = _DEEPEST, *, labelled: bool = False) -> Found:
    """Find the samples in a folder.

    Parameters
    ----------
    path
        The folder.
    depth
        How many folders within it are looked into.
    labelled
        Whether labels are asked for, which images have by their folders.

    Raises
    ------
    DataError
        It holds shards of several kinds, or several data sets, or says of itself what is not so.
    """
    if (path / _STATE).is_file():
        return Found(path, _saved_files(path))
    if (path / _DICT).is_file():
        names = _texts(path / _DICT, _json(path / _DICT).get("splits"))
        return _of_splits(path, names, preferred(names) or names[0], depth)
    listing = _listing(path)
    files = listing.shards or listing.idx
    if not files and not listing.folders and not listing.has_images:
        files = listing.tables
    endings = {ending(file.name): file for file in reversed(files)}
    if len(endings) > 1 and files is not listing.idx:
        first, second, *_ = (
            endings[kind] for kind in (*SHARDS, *TABLES, ".bin") if kind in endings
        )
        raise DataError(
            f"{shown(path)} holds both {shown(first.name)} and {shown(second.name)}: "
            "give a folder of one kind, or one file"
        )
    if files:
        kept, notes = one_split(files)
        if len(kept) > 1 and files is listing.idx:
            several = some([file.name for file in kept])
            raise DataError(f"{shown(path)} holds several files of images ({several}): give one")
        return Found(path, tuple(kept), notes)
    chosen = preferred(listing.folders)
    if chosen is not None and depth:
        if labelled:
            chosen = _with_classes(path, listing.folders, chosen)
        return _of_splits(path, listing.folders, chosen, depth)
    within = _within(path, listing.folders, depth)
    if within is None and depth and len(listing.folders) == 1 and listing.is_bare:
        # What is packed in a folder of its own: a folder of folders, and no class.
        below = path / listing.folders[0]
        inner = _listing(below, images_end_it=True)
        if inner.folders and not inner.has_images:
            return find_data(below, depth - 1, labelled=labelled)
    return within or Found(path)


def _of_splits(path: Path, names: list[str], chosen: str, depth: int) -> Found:
    """Take one split of several, which are folders."""
    if not (path / chosen).is_dir():
        raise DataError(f"{shown(path)} has no folder {shown(chosen)}, which it lists: mend it")
    split = find_data(path / chosen, max(0, depth - 1))
    if len(names) == 1:
        return split
    return replace(split, notes=(*split.notes, split_note(path, names, chosen)))


def _with_classes(path: Path, splits: list[str], chosen: str) -> str:
    """Return a split with class folders, where that which was chosen has bare images alone.

    A competition's ``test`` has no labels, and its ``train`` has them by folders.
    """
    listing = _listing(path / chosen, images_end_it=True)
    if not listing.has_images or list_file(path / chosen) is not None:
        return chosen
    others = [name for name in splits if _holds_classes(path / name)]
    return preferred(others) or (others[0] if others else chosen)


def _holds_classes(path: Path) -> bool:
    """Tell whether a folder holds nothing but folders, more than one."""
    listing = _listing(path, images_end_it=True)
    return listing.is_bare and len(listing.folders) > 1


def _within(path: Path, folders: list[str], depth: int) -> Found | None:
    """Return the data set in a folder below, as in a repository's `data/`; ``None`` without one."""
    if not depth:
        return None
    sets: dict[str, Found] = {}
    for name in folders[:_MOST_FOLDERS]:
        if _holds_data(path / name):
            sets[name] = find_data(path / name, depth - 1)
    if len(sets) > 1:
        raise DataError(
            f"{shown(path)} holds several data sets ({some(list(sets))}): give the folder of one"
        )
    return next(iter(sets.values()), None)


def _holds_data(path: Path) -> bool:
    """Tell whether a folder holds a data set in files, rather than images."""
    if (path / _STATE).is_file():
        return True
    listing = _listing(path, images_end_it=True)
    if listing.has_images:
        return False
    if listing.shards or listing.idx or (listing.tables and not listing.folders):
        return True
    split = preferred(listing.folders)
    return split is not None and bool(_listing(path / split, images_end_it=True).shards)


@dataclass
class _Listing:
    """What lies in a folder, sorted; what is hidden is left out."""

    shards: list[Path] = field(default_factory=list)
    idx: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    has_images: bool = False

    @property
    def is_bare(self) -> bool:
        """Whether nothing but folders lies there."""
        return not (self.shards or self.idx or self.tables or self.has_images)


def _listing(path: Path, *, images_end_it: bool = False) -> _Listing:
    """List a folder; where an image ends it, not to its end, as there may be a million of them."""
    listing = _Listing()
    for entry in entries(path):
        if is_folder(entry):
            listing.folders.append(entry.name)
        elif is_image(entry.name):
            listing.has_images = True
            if images_end_it:
                break
        elif (kind := ending(entry.name)) in SHARDS:
            listing.shards.append(path / entry.name)
        elif is_idx_images(entry.name):
            listing.idx.append(path / entry.name)
        elif is_cifar(entry.name) or (kind in TABLES and entry.name not in LISTS):
            listing.tables.append(path / entry.name)
    return _Listing(
        sorted(listing.shards),
        each_once(listing.idx),
        sorted(listing.tables),
        sorted(listing.folders),
        listing.has_images,
    )


def _saved_files(path: Path) -> tuple[Path, ...]:
    """Return the files of a data set that ``save_to_disk`` has written."""
    state = _json(path / _STATE)
    listed = state.get("_data_files")
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise DataError(f"{shown(path / _STATE)} lists no data files: save the data set again")
    if state.get("_indices_data_files"):
        raise DataError(
            f"{shown(path)} was saved as a choice of rows by an old version of datasets: load and "
            "save it again"
        )
    names = _texts(path / _STATE, [each.get("filename") for each in listed])
    missing = [name for name in names if not (path / name).is_file()]
    if missing:
        raise DataError(f"{shown(path)} lacks {some(missing)}, which it lists: copy it again")
    return tuple(path / name for name in names)


def _texts(file: Path, values: object) -> list[str]:
    """Return names of files or folders beside a file that lists them."""
    if not isinstance(values, list) or not values:
        raise DataError(f"{shown(file)} lists nothing: save the data set again")
    for value in values:
        if not isinstance(value, str) or not value or Path(value).name != value or value == "..":
            raise DataError(f"{shown(file)} lists {shown(str(value))}, no name of a file beside it")
    return list(values)


def _json(file: Path) -> dict[str, Any]:
    try:
        with open(file, "rb") as opened:
            read = json_object(opened.read(_LARGEST))
    except OSError as error:
        raise DataError(f"{shown(file)} can't be read ({error.strerror}): check the file") from None
    if read is None:
        raise DataError(f"{shown(file)} is no JSON object: save the data set again")
    return read
