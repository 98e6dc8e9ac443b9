"""Data for one model: opened, labelled, limited, and made into what the model takes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from cloakify.data.dataset import Dataset, Feed
from cloakify.data.fitting import ImageFit
from cloakify.data.images import ImageFeed
from cloakify.data.in_memory import is_frame, open_frame
from cloakify.data.joined import JoinedSource
from cloakify.data.label_list import read_label_list
from cloakify.data.naming import shown, some
from cloakify.data.open_source import open_source
from cloakify.data.preprocessing import Preprocessing
from cloakify.data.program import load
from cloakify.data.remembered import remembered
from cloakify.data.request import Request
from cloakify.data.rows import RowFeed
from cloakify.data.source import EncodedSource, RowSource, Source
from cloakify.data.splits import subset
from cloakify.data.text_source import TextSource
from cloakify.data.tokens import Encoder, TokenFeed
from cloakify.data.yielded import Indexed, read_yielded
from cloakify.data.zip_files import file_at, is_file
from cloakify.errors import DataError, UsageError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.settings.forms import TEXT_FILES, TOKENS
from cloakify.settings.programs import split_program

PLAIN_FIT = ImageFit()

# Images whose headers are looked at for what is passed over in them.
_LOOKED_AT = 16

Samples = str | os.PathLike[str] | Iterable[object] | Indexed
"""Where samples are, or what yields them: pairs (x, y), or ONNX Runtime's calibration readers.

Or all of them at once: a pair of arrays (x, y), a mapping of arrays, a DataFrame.
"""


def place_of(data: Samples) -> Path:
    """Return what messages and reports call samples: their path, or what kind of thing they are."""
    if isinstance(data, str | os.PathLike):
        return Path(data)
    return Path(f"<{type(data).__name__}>")


def open_data(
    data: Samples,
    spec: InputSpec,
    preprocessing: Preprocessing,
    *,
    labels: str = "given",
    limit: int | None = None,
    seed: int = 0,
    fit: ImageFit = PLAIN_FIT,
    box: tuple[float, float] | None = (0.0, 1.0),
    others: Sequence[InputSpec] = (),
    bounded: Collection[str] = (),
    ids: bool = False,
    tokenizer: Path | None = None,
    encoding: str | None = None,
) -> Dataset:
    """Open calibration data and check what can be checked without reading all of it.

    Parameters
    ----------
    data
        Folder of class folders with images (or of splits that are such folders), of images with
        ``metadata.csv`` or ``metadata.jsonl``, or with ``x.npy`` and ``y.npy``; ``.npz``, ``.npy``,
        ``.csv``, ``.jsonl``; ``.tar``, ``.parquet`` or ``.arrow``, or a folder of such shards, as
        Hugging Face's ``datasets`` saves them; IDX files, or a folder of such; a ``.zip`` of any of
        these, or a folder in one; a pattern of files; ``script.py:function`` or
        ``module:function``, which is run; or what it would yield.
    spec
        What the model takes.
    preprocessing
        Applied to images. Arrays are taken as the model takes them; for those it only says what
        range to expect.
    labels
        ``given`` reads them from the data; ``model`` leaves them to `Dataset.with_labels`; else a
        file that holds them (or one in a ``.zip``), or the name of the column or array in the
        data that does.
    limit, seed
        Take at most so many samples, chosen by the seed, each class in proportion.
    fit
        How images get the model's size.
    box
        Range of the data, in data units; a value of an array outside it is an error. ``None``
        where there is no such range.
    others
        Further inputs of the model; their arrays or columns go by their names, or they come of
        text.
    bounded
        Which of these hold the same kind of values as the first, preprocessed and bounded alike.
    ids
        Whether the model takes token ids, which text may be turned into.
    tokenizer
        The model's `tokenizer.json`, which does that.
    encoding
        Of files of text that have no byte order mark; UTF-8 where it is left out.

    Raises
    ------
    DataError
        The data can't be read or does not fit the model.
    UsageError
        An option is out of its range.
    """
    path = place_of(data)
    named = None if labels in ("given", "model") else labels
    listed = named is not None and is_file(Path(named))
    request = Request(
        spec.name,
        labels != "model" and not listed,
        None if listed else named,
        tuple(other.name for other in others),
        ids,
        encoding,
        spec.sample_shape[0] if len(spec.sample_shape) == 1 else None,
    )
    source = _open(data, path, request, spec, others)
    if listed:
        with file_at(Path(labels)) as file:
            read_label_list(file, encoding).give(source)
    rows = np.arange(len(source))
    if limit is not None:
        rows = subset(len(source), source.labels, limit, seed)
    feeds: dict[str, Feed]
    notes, forms = source.notes, frozenset({TOKENS})
    if isinstance(source, TextSource):
        feeds = _token_feeds(source, (spec, *others), ids, tokenizer)
    else:
        beside = _other_feeds(source, others, bounded, preprocessing, fit, box)
        feed = _feed(source, spec, preprocessing, fit, box, first=int(rows[0]))
        feeds = {spec.name: feed, **beside}
        forms = forms if ids else feed.forms
        for other in beside.values():
            notes += other.notes
        if isinstance(feed, RowFeed):
            notes += feed.notes
        else:
            notes += feed.notes(rows[:_LOOKED_AT].tolist())
            feeds[spec.name] = remembered(feed, rows, spec.dtype.itemsize)
    return Dataset(
        path=path,
        labels=source.labels if source.labels is None or limit is None else source.labels[rows],
        class_names=source.class_names,
        rows=rows,
        notes=notes,
        forms=forms | {TEXT_FILES} if source.is_text else forms,
        _source=source,
        _feed=feeds[spec.name],
        _inputs=feeds,
    )


def _open(
    data: Samples, path: Path, request: Request, spec: InputSpec, others: Sequence[InputSpec]
) -> Source:
    """Open what lies at a path, or keep what is yielded."""
    is_path = isinstance(data, str | os.PathLike)
    if is_path and split_program(path) is None:
        return open_source(path, request)
    given = load(path) if is_path else data
    if is_frame(given):
        source = open_frame(given, shown(path), lambda file: open_source(file, request))
    else:
        source = read_yielded(given, path, request, spec, others)
    if is_path:
        ran = f"{shown(path)} was run, and yielded {len(source)} samples"
        source.notes = (*source.notes, ran)
    return source


def _other_feeds(
    source: Source,
    others: Sequence[InputSpec],
    bounded: Collection[str],
    preprocessing: Preprocessing,
    fit: ImageFit,
    box: tuple[float, float] | None,
) -> dict[str, RowFeed]:
    """Return what loads a model's further inputs."""
    if not others:
        return {}
    if not isinstance(source, JoinedSource):
        raise DataError(
            f"{shown(source.path)}: the model takes further inputs "
            f"({some([other.name for other in others])}): give a .npz file, or columns of lists, "
            "with an array for each, by the inputs' names"
        )
    return {
        other.name: _row_feed(source.others[other.name], other, preprocessing, fit, box)
        if other.name in bounded
        else RowFeed(source.others[other.name], other, preprocessing, None)
        for other in others
    }


def _token_feeds(
    source: TextSource,
    specs: Sequence[InputSpec],
    ids: bool,
    tokenizer: Path | None,
) -> dict[str, Feed]:
    """Return what turns text into each of a model's inputs."""
    if not ids:
        raise DataError(
            f"{shown(source.path)} holds text, and the model takes {specs[0].dtype}: give arrays "
            "as the model takes them"
        )
    if tokenizer is None:
        raise DataError(
            f"{shown(source.path)} holds text, and the model takes ids: put the model's "
            "tokenizer.json beside it (save_pretrained of its tokenizer writes one), or give "
            "the ids as arrays in a .npz file"
        )
    encoder = Encoder(source, specs[0], specs[1:], tokenizer)
    return {spec.name: TokenFeed(encoder, spec.name) for spec in specs}


def _feed(
    source: Source,
    spec: InputSpec,
    preprocessing: Preprocessing,
    fit: ImageFit,
    box: tuple[float, float] | None,
    first: int,
) -> ImageFeed | RowFeed:
    if isinstance(source, EncodedSource):
        if box is not None and (box[0] > 0 or box[1] < 1):
            raise UsageError(
                f"the range {box[0]:g} to {box[1]:g} (--box) leaves out pixels of images, which go "
                "from 0 to 1: samples outside it would be attacked from where no attacker may be"
            )
        return ImageFeed(source, spec, preprocessing, fit, first)
    assert isinstance(source, RowSource)
    return _row_feed(source, spec, preprocessing, fit, box)


def _row_feed(
    source: RowSource,
    spec: InputSpec,
    preprocessing: Preprocessing,
    fit: ImageFit,
    box: tuple[float, float] | None,
) -> RowFeed:
    # Attacked copies of images have no range, either.
    images = box is not None or fit.as_is
    return RowFeed(source, spec, preprocessing, box, images=images, bgr=fit.channels == "bgr")
