"""Which kind of data lies at a path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloakify.data.array_files import open_npy_file, open_npy_folder, open_npz
from cloakify.data.arrow_file import ArrowFiles
from cloakify.data.bounds import check_regular
from cloakify.data.data_folder import SHARDS, find_data
from cloakify.data.folder import open_folder
from cloakify.data.listed_folder import list_file, open_listed
from cloakify.data.naming import shown
from cloakify.data.open_columns import open_columns
from cloakify.data.parquet_column import ParquetFiles
from cloakify.data.source import Source
from cloakify.data.table import open_csv
from cloakify.data.tar import TarImages
from cloakify.errors import DataError


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
    if suffix in SHARDS:
        return _open_shards(path, [path], input_name, labelled=labelled)
    if suffix == ".csv":
        return open_csv(path, labelled=labelled)
    raise DataError(
        f"{shown(path)} is no data that cloakify reads: give a folder of class folders with "
        "images, a .npz, .npy, .csv, .tar, .parquet or .arrow file"
    )


def _open_folder(path: Path, input_name: str, *, labelled: bool) -> Source:
    if (path / "x.npy").is_file():
        return open_npy_folder(path, labelled=labelled)
    found = find_data(path)
    if found.files:
        source = _open_shards(path, found.files, input_name, labelled=labelled)
    else:
        listed = list_file(found.folder)
        if listed is not None and labelled:
            source = open_listed(found.folder, listed)
        else:
            source = open_folder(found.folder, labelled=labelled)
    source.notes = (*source.notes, *found.notes)
    return source


def _open_shards(path: Path, files: Sequence[Path], input_name: str, *, labelled: bool) -> Source:
    """Open files of one kind as one source."""
    for file in files:
        check_regular(file)
    kind = files[0].suffix.lower()
    if kind == ".tar":
        return TarImages(path, list(files), labelled=labelled)
    table = ParquetFiles(path, files) if kind == ".parquet" else ArrowFiles(path, files)
    return open_columns(table, input_name, labelled=labelled)
