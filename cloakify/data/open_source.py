"""Which kind of data lies at a path."""

from __future__ import annotations

from pathlib import Path

from cloakify.data.array_files import open_npy_file, open_npy_folder, open_npz
from cloakify.data.bounds import check_regular
from cloakify.data.folder import open_folder
from cloakify.data.naming import shown
from cloakify.data.parquet import open_parquet
from cloakify.data.source import Source
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
    if suffix == ".tar":
        return TarImages(path, [path], labelled=labelled)
    if suffix == ".parquet":
        return open_parquet(path, [path], input_name, labelled=labelled)
    raise DataError(
        f"{shown(path)} is no data that cloakify reads: give a folder of class folders with "
        "images, a .npz or .npy file, a .tar or a .parquet file"
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
    return open_folder(path, labelled=labelled)


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
