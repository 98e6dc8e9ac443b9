"""Which kind of data lies at a path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cloakify.data.array_files import open_arrays, open_npy_file
from cloakify.data.arrow_files import ArrowFiles
from cloakify.data.bounds import check_regular
from cloakify.data.chained import ChainedRows
from cloakify.data.cifar import is_cifar, open_cifar
from cloakify.data.data_folder import find_data
from cloakify.data.folder import open_folder, open_images
from cloakify.data.foreign import not_read
from cloakify.data.idx import is_idx, open_idx
from cloakify.data.listed_folder import list_file, open_listed
from cloakify.data.names import Names
from cloakify.data.naming import shown
from cloakify.data.open_columns import open_columns
from cloakify.data.parquet_files import ParquetFiles
from cloakify.data.patterns import is_pattern, matching, root
from cloakify.data.request import Request
from cloakify.data.source import RowSource, Source
from cloakify.data.table import open_table
from cloakify.data.tar import NoImages, TarImages
from cloakify.data.tar_folder import open_tar_folder
from cloakify.data.zip_files import is_zip, open_zips, zip_at
from cloakify.errors import DataError
from cloakify.settings.endings import SHARDS, TARS, TEXT_TABLES, ending, is_image


def open_source(path: Path, request: Request) -> Source:
    """Open whatever lies at ``path``.

    Parameters
    ----------
    path
        File or folder, or a pattern of such (see :mod:`cloakify.data.patterns`).
    request
        What is asked of the data.

    Raises
    ------
    DataError
        Nothing is there, or nothing that is understood.
    """
    if is_pattern(path):
        return _open_matching(path, request)
    # Unlike a path's own methods these take names that no file can have.
    if os.path.isdir(path):
        return _open_folder(path, request)
    packed = zip_at(path)
    if packed is not None:
        archive, inside = packed
        return open_zips(archive, [archive], inside, lambda place: open_source(place, request))
    if not os.path.exists(path):
        raise DataError(f"{shown(path)} does not exist: check the path")
    check_regular(path)
    kind = ending(path.name)
    if kind == ".npz":
        return open_arrays(path, request)
    if kind == ".npy":
        return open_npy_file(path, request)
    if kind in SHARDS:
        return _open_shards(path, [path], request)
    if kind in TEXT_TABLES:
        return open_table(path, request)
    if is_cifar(path.name):
        return open_cifar(path, request)
    if is_idx(path):
        return open_idx(path, request)
    raise not_read(path)


def shards_at(path: Path) -> list[Path]:
    """Return the shards that a folder or a pattern stands for; none for anything else.

    Raises
    ------
    DataError
        As :func:`open_source`.
    """
    if is_pattern(path):
        return [Path(name) for name in matching(path) if name.lower().endswith(SHARDS)]
    if os.path.isdir(path) and not (path / "x.npy").is_file():
        return list(find_data(path).files)
    return []


def _open_matching(path: Path, request: Request) -> Source:
    """Open what a pattern stands for: images, shards, or files of rows behind each other."""
    matches = matching(path)
    if len(matches) == 1:
        return open_source(Path(matches[0]), request)
    files = Names(name for name in matches if not os.path.isdir(name))
    if not files:
        raise DataError(
            f"{shown(path)} matches folders alone: give the folder that they lie in, or the files "
            f"in them ({shown(path / '*')})"
        )
    if any(map(is_image, files)):
        return open_images(path, root(path), files, request)
    if all(is_zip(Path(file)) for file in files):
        archives = list(map(Path, files))
        return open_zips(path, archives, "", lambda place: open_source(place, request))
    kinds = {ending(file): file for file in files}
    if len(kinds) > 1:
        first, second, *_ = kinds.values()
        raise DataError(
            f"{shown(path)} matches both {shown(first)} and {shown(second)}: give a pattern for "
            "files of one kind"
        )
    return _open_files(path, list(map(Path, files)), request)


def _open_folder(path: Path, request: Request) -> Source:
    if (path / "x.npy").is_file():
        return open_arrays(path, request)
    samples = find_data(path, labelled=request.labelled)
    if samples.files:
        source = _open_files(path, samples.files, request)
    else:
        listed = list_file(samples.folder)
        if listed is not None and request.labelled:
            source = open_listed(samples.folder, listed, request)
        else:
            source = open_folder(samples.folder, request)
    source.notes = (*source.notes, *samples.notes)
    return source


def _open_files(path: Path, files: Sequence[Path], request: Request) -> Source:
    """Open files of one kind: shards, or files of rows behind each other."""
    if ending(files[0].name) in SHARDS:
        return _open_shards(path, files, request)
    if len(files) == 1:
        return open_source(files[0], request)
    parts = [open_source(file, request) for file in files]
    rows = [part for part in parts if isinstance(part, RowSource)]
    if len(rows) < len(parts):
        raise DataError(f"{shown(path)} holds {len(parts)} files of text: give one of them")
    return ChainedRows(path, rows)


def _open_shards(path: Path, files: Sequence[Path], request: Request) -> Source:
    """Open files of one kind as one source."""
    for file in files:
        check_regular(file)
    kind = ending(files[0].name)
    if kind in TARS:
        try:
            return TarImages(path, list(files), request)
        except NoImages as error:
            if len(files) > 1 or not error.holds_samples:
                raise
        return open_tar_folder(files[0], lambda place: open_source(place, request))
    table = ParquetFiles(path, files) if kind == ".parquet" else ArrowFiles(path, files)
    return open_columns(table, request)
