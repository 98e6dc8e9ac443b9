"""Tables in columns, Parquet or Arrow: images, arrays in lists, or numbers as a DataFrame has them.

Images are in a column ``image`` (or ``img``, or the only one of images) of structs ``{bytes,
path}`` or of plain bytes; arrays in a column named as the model's input, or ``x``, as lists, nested
as the sample's axes are. Labels are class indices or names in ``y``, ``labels`` or ``label``, or in
the only column of classes. Several shards count as one source, in the order of their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from cloakify.data.audio import no_audio
from cloakify.data.column_rows import ColumnImages, ColumnRows, ColumnTexts
from cloakify.data.columns import Column, ColumnFiles
from cloakify.data.features import Features
from cloakify.data.joined import by_column, with_others
from cloakify.data.labels import TextLabels, labels_of_columns, labels_of_numbers
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.roles import Kind, Roles, assign
from cloakify.data.source import Source
from cloakify.data.table import table_of_numbers
from cloakify.data.text_source import TextSource
from cloakify.errors import DataError
from cloakify.numeric.arrays import AnyArray, Labels
from cloakify.settings.endings import is_image

# Bytes of columns of numbers that are kept.
_LARGEST_TABLE = 1 << 32
# Cells of labels that are text at once.
_TOGETHER = 1 << 14

_Labels = tuple[Labels | None, tuple[str, ...] | None]


def open_columns(files: ColumnFiles, request: Request) -> Source:
    """Open the samples of a table.

    Parameters
    ----------
    files
        The table.
    request
        What is asked of it.

    Raises
    ------
    DataError
        A file is damaged, columns are missing or of no use.
    """
    features = Features(files.schema)
    flags = partial(_are_flags, files, features)
    roles = assign(features.kinds, request, files.first, features.told, flags)
    if roles.kind is Kind.NUMBER:
        source = _open_numbers(files, features, roles, request)
    elif roles.kind is Kind.TEXT:
        columns = [files.column(name) for name in roles.samples]
        texts = [ColumnTexts(each) for each in columns]
        source = TextSource(files.path, texts, *_labels(files, features, roles), files.where_row)
    else:
        source = _open_arrays(files, features, roles, request)
    source.notes = (*source.notes, *roles.notes)
    return source


def _are_flags(files: ColumnFiles, features: Features, names: Sequence[str]) -> bool:
    """Tell whether the first cells of columns are all 0 and 1, or false and true."""
    if any(features.kinds[name] is not Kind.NUMBER for name in names):
        return False
    first = next(files.numbers(names, "labels"), [])
    return all(bool(np.isin(column, (0, 1)).all()) for column in first)


def _open_arrays(files: ColumnFiles, features: Features, roles: Roles, request: Request) -> Source:
    """Open images, or arrays in lists."""
    (name,) = roles.samples
    if features.is_audio(name):
        raise no_audio(files.where(name))
    samples = files.column(name)
    labels = _labels(files, features, roles)
    if roles.kind is not Kind.LIST:
        return ColumnImages(files.path, samples, *labels)
    length = _padded_length(samples, request)
    return with_others(
        ColumnRows(files.path, samples, *labels, length),
        request.others,
        [name for name, kind in features.kinds.items() if kind is Kind.LIST],
        lambda name: ColumnRows(files.path, files.column(name), None, None, length),
    )


def _open_numbers(files: ColumnFiles, features: Features, roles: Roles, request: Request) -> Source:
    """Open columns of numbers as a table."""
    if not any(features.kinds[name] is Kind.NUMBER for name in roles.samples):
        _refuse_names(files, features, roles)
        wanted = "'image' or 'x'"
        if request.input_name not in ("image", "x"):
            wanted += f", or {shown(request.input_name)!r} as the model does"
        raise DataError(
            f"{shown(files.first)} has columns {some(list(features.kinds))}: name the samples "
            f"{wanted}"
        )
    for name in roles.samples:
        files.check_number(
            name, "numbers: encode it as the model was trained with, or leave it out"
        )
    count, width = len(files), len(roles.samples)
    if 8 * count * width > _LARGEST_TABLE:
        raise DataError(
            f"{shown(files.path)} holds {count} rows of {width} numbers, more than are kept: give "
            "a part of it"
        )
    labels = _labels(files, features, roles)
    table = table_of_numbers(files.path, files.numbers(roles.samples, "cells"), labels)
    return by_column(table, roles.samples, request.inputs)


def _refuse_names(files: ColumnFiles, features: Features, roles: Roles) -> None:
    """Raise DataError where the table has images' names in the place of images."""
    for name in roles.samples:
        if features.kinds[name] is Kind.TEXT:
            column = files.column(name)
            first = column.value(0).as_py()
            if isinstance(first, str) and is_image(first):
                raise DataError(
                    f"{column.where(0)} is {shown(first)!r}, the name of an image: give the "
                    "images' folder as data, and names and labels as .csv by --labels FILE"
                )


def _padded_length(samples: Column, request: Request) -> int | None:
    """Return what rows of ids are padded to; ``None`` where they are equally long, or no ids.

    Where the model takes a mask of what is padding, it does not matter what pads.
    """
    if not request.ids:
        return None
    lists = (samples.value(row).values for row in range(len(samples)))
    lengths = {0 if each is None else len(each) for each in lists}
    if len(lengths) == 1:
        return None
    if not any("mask" in name.lower() for name in request.others):
        raise DataError(
            f"{samples.where(0)} and others hold {min(lengths)} to {max(lengths)} ids, and the "
            "model takes no mask of what is padding: pad them as it was trained with, or give the "
            "text"
        )
    return max(lengths)


def _labels(files: ColumnFiles, features: Features, roles: Roles) -> _Labels:
    """Read the labels: class indices, names of classes, or 0 and 1 for independent ones."""
    names = roles.labels.names
    if not names:
        return None, None
    if len(names) > 1:
        where = f"{shown(files.first)} columns {some(names)}"
        return labels_of_columns(_numbers(files, names), where), roles.labels.classes
    (name,) = names
    kind, where = features.kinds[name], files.where(name)
    if kind is Kind.TEXT:
        return _texts(files, name).read(where)
    if kind is Kind.LIST:
        return _lists(files, name), None
    return labels_of_numbers(_numbers(files, [name])[0], where), features.class_names(name)


def _numbers(files: ColumnFiles, names: Sequence[str]) -> list[AnyArray]:
    """Read columns of numbers whole."""
    for name in names:
        files.check_number(name, "whole numbers: store class indices as int64")
    parts = list(files.numbers(names, "labels"))
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def _texts(files: ColumnFiles, name: str) -> TextLabels:
    labels = TextLabels()
    for (part,) in files.pieces([name]):
        for start in range(0, len(part), _TOGETHER):
            labels.extend(text or "" for text in part.slice(start, _TOGETHER).to_pylist())
    return labels


def _lists(files: ColumnFiles, name: str) -> Labels:
    """Read independent labels that are a list in each row."""
    rows = ColumnRows(files.path, files.column(name), None, None)
    return labels_of_numbers(rows.take(np.arange(len(rows))), files.where(name))
