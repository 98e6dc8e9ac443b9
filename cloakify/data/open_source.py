"""Which kind of data lies at a path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cloakify.data.array_files import open_npy_file, open_npy_folder, open_npz
from cloakify.data.bounds import check_regular
from cloakify.data.folder import open_folder
from cloakify.data.listed_folder import list_file, open_listed
from cloakify.data.naming import shown
from cloakify.data.parquet import open_parquet
from cloakify.data.source import Source
from cloakify.data.table import open_csv
from cloakify.data.tar import TarImages
from cloakify.errors import DataError

# Names of the splits of a data set, the one to calibrate on first: what a model was trained on
# tells less of it.
SPLITS = ("val", "valid", "validation", "dev", "test", "train", "training")


def open_source(path: Path, input_name: str, *, labelled: bool) -> Source:
    """Open whatever lies at ``path``.

    Parameters
    ----------
    path
        File or folder.
    input_name
        Name of the model's input, which arrays may go by.
    labelled
        Whether the labels must come with the data.

    Raises
    ------
    DataError
        Nothing is there, or nothing that is understood.
    """
    if path.is_dir():
        return _open_folder(path, input_name, labelled=labelled)
    if not path.exists():
        raise DataError(f"{shown(path)} does not exist: check the path")
    check_regular(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return open_npz(path, input_name, labelled=labelled)
    if suffix == ".npy":
        return open_npy_file(path, labelled=labelled)
    if suffix == ".tar":
        return TarImages(path, [path], labelled=labelled)
    if suffix == ".parquet":
        return open_parquet(path, [path], input_name, labelled=labelled)
    if suffix == ".csv":
        return open_csv(path, labelled=labelled)
    raise DataError(
        f"{shown(path)} is no data that cloakify reads: give a folder of class folders with "
        "images, a .npz, .npy, .csv, .tar or .parquet file"
    )


def _open_folder(path: Path, input_name: str, *, labelled: bool) -> Source:
    if (path / "x.npy").is_file():
        return open_npy_folder(path, labelled=labelled)
    tars, tables = (_shards(path, ending) for ending in (".tar", ".parquet"))
    if tars and tables:
        raise DataError(
            f"{shown(path)} holds both {shown(tars[0].name)} and {shown(tables[0].name)}: "
            "give a folder of one kind, or one file"
        )
    if tars:
        return TarImages(path, tars, labelled=labelled)
    if tables:
        return open_parquet(path, tables, input_name, labelled=labelled)
    listed = list_file(path)
    if listed is not None and labelled:
        return open_listed(path, listed)
    return _with_split(path, lambda folder: open_folder(folder, labelled=labelled))


def _with_split(path: Path, opened: Callable[[Path], Source]) -> Source:
    """Open a folder, or of one that holds nothing but splits of a data set, the held-out one."""
    try:
        folders = [entry.name for entry in path.iterdir() if entry.is_dir()]
    except OSError:
        return opened(path)
    names = [name for name in folders if not name.startswith((".", "__MACOSX"))]
    if not names or not all(name.lower() in SPLITS for name in names):
        return opened(path)
    chosen = min(names, key=lambda name: SPLITS.index(name.lower()))
    source = opened(path / chosen)
    if len(names) > 1:
        source.notes = (
            *source.notes,
            f"{shown(path)} holds {', '.join(sorted(map(shown, names)))}: the samples are those of "
            f"{shown(chosen)}; name another folder to use that",
        )
    return source


def _shards(path: Path, ending: str) -> list[Path]:
    try:
        found = sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() == ending and not file.name.startswith(".")
        )
    except OSError as error:
        raise DataError(
            f"{shown(path)} can't be listed ({error.strerror}): check the path and permissions"
        ) from None
    for file in found:
        check_regular(file)
    return found
