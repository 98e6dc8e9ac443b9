"""Samples that are yielded: kept in a temporary file, so that they can be read again in any order.

What is yielded is

- ``(x, y)``: a sample with its label, or a batch of both, as PyTorch's loaders have them;
- ``x`` alone, where labels come from elsewhere;
- a mapping of arrays by the inputs' names, and labels under ``y`` or ``label``, or beside it as a
  pair; ONNX Runtime's calibration readers yield such batches, and Hugging Face's data sets mappings
  with an image or text.

``x`` is an array as the model takes it, of anything that NumPy makes an array of, a Pillow image,
the bytes of an image file, or text. The file has no name, and is gone with the process.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from PIL import Image

from cloakify.data.array_files import ArraySource
from cloakify.data.bounds import MOST_SAMPLES, check_count
from cloakify.data.in_memory import items_in
from cloakify.data.joined import JoinedSource
from cloakify.data.kept import KeptImages, KeptRows, KeptTexts
from cloakify.data.labels import LABEL_NAMES, TextLabels, labels_of_numbers
from cloakify.data.naming import shown, some
from cloakify.data.program import own_code
from cloakify.data.request import Request
from cloakify.data.rows import match_layout
from cloakify.data.source import Source
from cloakify.data.text_source import TextSource, text_columns
from cloakify.errors import DataError
from cloakify.graph.analysis.inputs import InputSpec
from cloakify.numeric.arrays import AnyArray, Labels

# Labels that are packed into one array.
_TOGETHER = 1 << 12

# Modes of images that PNG holds; TIFF holds the others, but for those below: what Pillow writes of
# them it can't read again (YCbCr, before Pillow 13), or it writes none.
_IN_PNG = {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"}
_WRITTEN_AS = {
    "YCbCr": "RGB",
    "HSV": "RGB",
    "La": "LA",
    "RGBa": "RGBA",
    "I;16L": "I",
    "I;16N": "I",
}


@runtime_checkable
class Indexed(Protocol):
    """Samples by their numbers, as PyTorch's data sets have them."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> object: ...


def read_yielded(
    data: object, path: Path, request: Request, spec: InputSpec, others: Sequence[InputSpec]
) -> Source:
    """Keep all samples that something yields.

    Parameters
    ----------
    data
        See :func:`~cloakify.data.in_memory.items_in`.
    path
        What messages and reports call it.
    request
        What is asked of it.
    spec, others
        The model's data input, and its further ones.

    Raises
    ------
    DataError
        It yields something else than the above, or nothing, or raises.
    """
    where = shown(path)
    kept = _Kept(where, request, spec, others)
    with own_code(where):
        for number, item in enumerate(items_in(data, where, labelled=request.labelled)):
            kept.add(item, f"{where} item {number}")
            if len(kept) > MOST_SAMPLES:
                check_count(len(kept), where)
    check_count(len(kept), where)
    return kept.source(path)


class _Kept:
    """Samples so far."""

    def __init__(
        self, where: str, request: Request, spec: InputSpec, others: Sequence[InputSpec]
    ) -> None:
        self._where, self._request, self._spec = where, request, spec
        self._others = [other.name for other in others]
        self._arrays: dict[str, KeptRows] = {}
        self._encoded: KeptImages | None = None
        self._texts: tuple[KeptTexts, ...] = ()
        self._labels = _LabelsSoFar(f"{where} labels")

    def __len__(self) -> int:
        if self._encoded is not None:
            return len(self._encoded)
        if self._texts:
            return len(self._texts[0])
        rows = self._arrays.get(self._spec.name)
        return 0 if rows is None else rows.count

    def add(self, item: object, where: str) -> None:
        """Keep what was yielded."""
        x, y = self._split(item, where)
        if isinstance(x, Mapping) and self._spec.name not in x:
            x = self._unwrapped(x, where)
        if isinstance(x, Mapping):
            self._add_arrays(x, y, where)
        elif isinstance(x, Image.Image | bytes):
            self._check_kind(self._encoded is not None, where)
            self._encoded = self._encoded or KeptImages()
            self._encoded.add(_file_of(x) if isinstance(x, Image.Image) else x)
            self._add_labels([y], 1, where)
        elif _is_text(x):
            self._check_kind(bool(self._texts), where)
            self._add_texts((x,) if isinstance(x, str) else cast(Sequence[str], x))
            self._add_labels([y], 1, where)
        else:
            self._add_arrays({self._spec.name: x}, y, where)

    def _split(self, item: object, where: str) -> tuple[object, object]:
        """Return sample and label; ``None`` where there is none."""
        if isinstance(item, Mapping):
            name = self._request.label_of(list(map(str, item)), where)
            if name is None or name in (self._spec.name, *self._others):
                return item, None
            return {key: value for key, value in item.items() if key != name}, item[name]
        if isinstance(item, tuple | list) and len(item) == 2 and not _is_text(item):
            return item[0], item[1]
        return item, None

    def _unwrapped(self, x: Mapping[Any, object], where: str) -> object:
        """Return the image or the text of a mapping, as ``datasets`` yields them; else itself."""
        images = [value for value in x.values() if isinstance(value, Image.Image | bytes)]
        if len(images) == 1:
            return images[0]
        texts = {str(name): value for name, value in x.items() if isinstance(value, str)}
        if not (self._request.ids and texts):
            return x
        chosen = text_columns(list(map(str, x)), list(texts), where)
        return texts[chosen[0]] if len(chosen) == 1 else tuple(texts[name] for name in chosen)

    def _check_kind(self, same: bool, where: str) -> None:
        if len(self) and not same:
            raise DataError(f"{where} is of another kind than those before: yield one kind")

    def _add_texts(self, texts: Sequence[str]) -> None:
        self._texts = self._texts or tuple(KeptTexts() for _ in texts)
        if len(texts) != len(self._texts):
            raise DataError(f"{self._where} yields single texts and pairs: yield one kind")
        for column, text in zip(self._texts, texts, strict=True):
            column.extend([text])

    def _add_arrays(self, given: Mapping[Any, object], y: object, where: str) -> None:
        self._check_kind(bool(self._arrays), where)
        arrays = {
            str(name): _array(value, f"{where}, {shown(str(name))!r},")
            for name, value in given.items()
        }
        name = self._spec.name
        if name not in arrays:
            # The only array is the samples', whatever it is called.
            if self._others or len(arrays) != 1:
                raise DataError(
                    f"{where} holds {some(list(arrays)) or 'nothing'}: name the samples "
                    f"{shown(name)!r}, as the model does"
                )
            arrays = {name: next(iter(arrays.values()))}
        lacking = [each for each in self._others if each not in arrays]
        if lacking:
            raise DataError(f"{where} has no {some(lacking)}, which the model also takes: add it")
        batch = self._is_batch(arrays[name], y, where)
        count = len(arrays[name]) if batch else 1
        for each in (name, *self._others):
            values = arrays[each] if batch else arrays[each][None]
            if len(values) != count:
                raise DataError(
                    f"{where} has {len(values)} rows of {shown(each)} and {count} of "
                    f"{shown(name)}: give as many of all"
                )
            self._arrays.setdefault(each, KeptRows(f"{self._where} array {shown(each)!r}")).add(
                values, where
            )
        alone = not batch or y is None
        self._add_labels([y] * count if alone else _labels_of(y, where), count, where)

    def _is_batch(self, x: AnyArray, y: object, where: str) -> bool:
        """Tell a batch from a sample: by the shape that the model takes, else by the labels."""
        rank = len(self._spec.sample_shape)
        if x.ndim == rank + 1:
            return True
        if _fits(x.shape, self._spec) or x.ndim < 1:
            return False
        if _fits(x.shape[1:], self._spec):
            return True
        match_layout(x.shape if np.ndim(cast(Any, y)) == 0 else x.shape[1:], self._spec, where)
        return False

    def _add_labels(self, labels: Sequence[object], count: int, where: str) -> None:
        if not self._request.labelled:
            return
        if len(labels) != count:
            raise DataError(f"{where} has {len(labels)} labels for {count} samples: give as many")
        if any(label is None for label in labels):
            raise DataError(
                f"{where} has no label: yield (x, y), or a mapping with {LABEL_NAMES[0]!r}; or "
                "pass --labels FILE, or --labels model to take the model's own answers"
            )
        for label in labels:
            self._labels.add(label if isinstance(label, str) else _array(label, where))

    def source(self, path: Path) -> Source:
        """Return all samples."""
        labels, names = self._labels.read() if self._request.labelled else (None, None)
        if self._encoded is not None:
            return self._encoded.source(path, labels, names)
        if self._texts:
            return TextSource(
                path, self._texts, labels, names, lambda row: f"{self._where} sample {row}"
            )
        first, *more = (
            ArraySource(path, self._arrays[name].stored(), labels if not n else None, names)
            for n, name in enumerate((self._spec.name, *self._others))
        )
        if not more:
            return first
        return JoinedSource(first, dict(zip(self._others, more, strict=True)))


class _LabelsSoFar:
    """Labels of samples, as numbers or as text."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._texts = TextLabels()
        # Labels that came last, one by one, and those before them, many in an array.
        self._last: list[AnyArray] = []
        self._before: list[AnyArray] = []

    def add(self, label: str | AnyArray) -> None:
        """Take one more."""
        if isinstance(label, str) or len(self._texts):
            self._as_texts()
            self._texts.extend([str(label)])
            return
        self._last.append(label)
        if len(self._last) == _TOGETHER:
            self._pack()

    def read(self) -> tuple[Labels, tuple[str, ...] | None]:
        """Return all of them, and the names of their classes where they are text."""
        if len(self._texts):
            return self._texts.read(self._where)
        self._pack()
        return labels_of_numbers(np.concatenate(self._before), self._where), None

    def _as_texts(self) -> None:
        """Where one is text, numbers are as well."""
        self._pack()
        for packed in self._before:
            self._texts.extend(map(str, packed))
        self._before = []

    def _pack(self) -> None:
        if not self._last:
            return
        if len({each.shape for each in (*self._last, *(a[0] for a in self._before[:1]))}) > 1:
            raise DataError(f"{self._where} differ in shape: yield a class index for each sample")
        self._before.append(np.stack(self._last))
        self._last = []


def _file_of(image: Image.Image) -> bytes:
    file = io.BytesIO()
    if image.mode in _WRITTEN_AS:
        image = image.convert(_WRITTEN_AS[image.mode])
    image.save(file, "PNG" if image.mode in _IN_PNG else "TIFF")
    return file.getvalue()


def _is_text(x: object) -> bool:
    """Whether it is text, or a pair of texts."""
    return isinstance(x, str) or (
        isinstance(x, tuple | list) and len(x) == 2 and all(isinstance(each, str) for each in x)
    )


def _array(value: object, where: str) -> AnyArray:
    """Return an array of what NumPy makes one of, and of tensors that gradients are kept for."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{where} is a {type(value).__name__}, no array of numbers of one shape: yield arrays "
            "as the model takes them, Pillow images, or text where it takes ids"
        )
    return array


def _labels_of(y: object, where: str) -> list[object]:
    """Return the labels of a batch, one by one."""
    if not isinstance(y, list | tuple) and not hasattr(y, "detach"):
        column = np.asarray(y)
        # A column of text; texts of NumPy's own type become Python's.
        y = y if column.dtype.kind in "biuf" else column.tolist()
    if isinstance(y, list | tuple) and all(isinstance(each, str) for each in y):
        return list(y)
    return list(_array(y, f"{where}, labels"))


def _fits(shape: tuple[int, ...], spec: InputSpec) -> bool:
    try:
        match_layout(shape, spec, "")
    except DataError:
        return False
    return True
