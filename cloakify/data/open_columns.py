"""Tables in columns, Parquet or Arrow: images, arrays in lists, or numbers as a DataFrame has them.

Images are in a column ``image`` (or ``img``, or the only one of images) of structs ``{bytes,
path}`` or of plain bytes; arrays in a column named as the model's input, or ``x``, as lists, nested
as the sample's axes are. Labels are class indices or names in ``y``, ``labels`` or ``label``, or in
the only column of classes. Several shards count as one source, in the order of their names.
"""

from __future__ import annotations

from cloakify.data.column_rows import ColumnImages, ColumnRows, ColumnTexts
from cloakify.data.columns import Column, ColumnFiles
from cloakify.data.features import Features
from cloakify.data.joined import with_others
from cloakify.data.labels import labels_of_numbers, labels_of_texts
from cloakify.data.naming import shown, some
from cloakify.data.request import Request
from cloakify.data.source import Source
from cloakify.data.table import TableRows, no_labels, table_of_columns
from cloakify.data.text_source import TextSource, text_columns
from cloakify.errors import DataError
from cloakify.numeric.arrays import Labels

# Bytes of columns of numbers that are held in memory together.
_LARGEST_TABLE = 1 << 32


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
    features = Features(files.schema, request, shown(files.files[0]))
    if request.ids and request.input_name not in features.names:
        return _open_text(files, features, labelled=request.labelled)
    x_name = features.samples()
    if x_name is None and features.numbers:
        return _open_table(files, features, labelled=request.labelled)
    if x_name is None:
        wanted = "'image' or 'x'"
        if request.input_name not in ("image", "x"):
            wanted += f", or {shown(request.input_name)!r} as the model does"
        raise DataError(
            f"{shown(files.files[0])} has columns {some(features.names)}: name the samples {wanted}"
        )
    if features.kind(x_name) == "Audio":
        raise DataError(
            f"{files.where(x_name)} holds audio files, which are not decoded: store the samples as "
            "lists of numbers, as the model takes them"
        )
    samples = files.column(x_name)
    labels, names = _labels(files, features, x_name) if request.labelled else (None, None)
    if features.is_list(x_name):
        length = _padded_length(samples, request)
        return with_others(
            ColumnRows(files.path, samples, labels, names, length),
            request.others,
            [name for name in features.names if features.is_list(name)],
            lambda name: ColumnRows(files.path, files.column(name), None, None, length),
        )
    return ColumnImages(files.path, samples, labels, names)


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


def _labels(
    files: ColumnFiles, features: Features, apart: str | None = None
) -> tuple[Labels, tuple[str, ...] | None]:
    """Read the labels, class indices or names of classes; ``apart`` is the samples' column."""
    name = features.label(apart)
    if name is None:
        raise no_labels(files.files[0], features.names)
    if features.is_text(name):
        return labels_of_texts(files.texts(name), files.where(name))
    labels = labels_of_numbers(files.numbers(name, "labels"), files.where(name))
    return labels, features.class_names(name)


def _open_table(files: ColumnFiles, features: Features, *, labelled: bool) -> TableRows:
    """Open columns of numbers, and one of labels, as a table."""
    count, width = len(files), len(features.numbers)
    if 8 * count * width > _LARGEST_TABLE:
        raise DataError(
            f"{shown(files.path)} holds {count} rows of {width} numbers, more than fit in memory "
            "together: give a part of it"
        )
    labels = _labels(files, features) if labelled else None
    columns = {name: files.numbers(name, "cells") for name in features.numbers}
    return table_of_columns(files.path, columns, labels)


def _open_text(files: ColumnFiles, features: Features, *, labelled: bool) -> TextSource:
    """Open columns of text."""
    label = features.label()
    plain = [name for name in features.names if name != label]
    of_text = [name for name in plain if features.is_text(name)]
    chosen = text_columns(plain, of_text, shown(files.files[0]))
    columns = [files.column(name) for name in chosen]
    labels, names = _labels(files, features) if labelled else (None, None)
    return TextSource(
        files.path, [ColumnTexts(each) for each in columns], labels, names, columns[0].where
    )
