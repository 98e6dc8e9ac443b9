"""Samples that are text: a sentence each, or a pair of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cloakify.data.bounds import check_count
from cloakify.data.naming import some
from cloakify.data.source import Source
from cloakify.errors import DataError
from cloakify.numeric.arrays import Indices, Labels

# Columns of pairs, as the tasks of GLUE and others call them.
_PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("text1", "text2"),
    ("text", "text_pair"),
)
_NAMES = ("text", "sentence", "content", "review", "comment", "document", "tweet", "question")


class Texts(Protocol):
    """A column of text."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, row: int, /) -> str:
        """The text of a row."""


class TextSource(Source):
    """Rows of text.

    Parameters
    ----------
    path
        The file.
    columns
        One column, or two whose texts make pairs.
    labels, class_names
        See :class:`~cloakify.data.source.Source`.
    where
        Names a row.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Texts],
        labels: Labels | None,
        class_names: tuple[str, ...] | None,
        where: Callable[[int], str],
    ) -> None:
        check_count(len(columns[0]), str(path))
        super().__init__(path, labels, class_names)
        self._columns = columns
        self._where = where

    def __len__(self) -> int:
        return len(self._columns[0])

    def where(self, row: int) -> str:
        return self._where(row)

    def texts(self, row: int) -> tuple[str, ...]:
        """Return the text of a sample, or the two of a pair."""
        return tuple(column[row] for column in self._columns)

    def payloads(self, rows: Indices) -> Iterator[tuple[str, bytes]]:
        for row in map(int, rows):
            parts = [text.encode("utf-8", "surrogatepass") for text in self.texts(row)]
            yield "", b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def text_columns(names: Sequence[str], of_text: Sequence[str], where: str) -> list[str]:
    """Return which columns hold the samples: one, or two that make pairs.

    Parameters
    ----------
    names
        All columns but the labels'.
    of_text
        Those of them that hold text.
    where
        How messages name the table.

    Raises
    ------
    DataError
        There is none, or several and none that goes by a name of texts.
    """
    lowered = {name.strip().lower(): name for name in of_text}
    for pair in _PAIRS:
        if all(name in lowered for name in pair):
            return [lowered[name] for name in pair]
    column = next((lowered[name] for name in _NAMES if name in lowered), None)
    if column is not None:
        return [column]
    if len(of_text) == 1:
        return list(of_text)
    raise DataError(
        f"{where} has columns {some(list(names))}: call that of the sentences 'text', or two "
        "whose texts make pairs 'sentence1' and 'sentence2'"
    )
