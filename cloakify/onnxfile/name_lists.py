"""Lists of classes as files have them, each of which may be read in more than one way.

- JSON or Python: a list, a mapping of indices to names or of names to indices, either within a
  mapping (``names``, ``id2label``, …), rows (Keras's ``{"0": ["n01440764", "tench"]}``), or objects
  (``{"id": 0, "name": "cat"}``).
- YAML, as far as lists of names go: ``names:`` with ``- cat`` or ``0: cat`` below, or in brackets.
- A line each, as it stands, or with a number before or behind (``0 cat``, ``0: cat``, ``cat,0``).
- A table with a header (``id,name``).

Numbers of classes count from 0 or from 1. Where several columns could be the names, each is
yielded: folders may be called after any of them.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

KEYS = (
    *("names", "classes", "class_names", "labels", "label_names", "class_labels", "categories"),
    *("id2label", "label_map", "labels_map", "idx_to_class", "label2id", "class_to_idx"),
)
"""What lists of classes are called, those of indices last."""

# What columns of names and of numbers are called, without signs and in small letters.
_NAMES = (
    *("name", "classname", "labelname", "class", "label", "category", "signname", "species"),
    *("displayname", "synset", "wnid", "title"),
)
_NUMBERS = ("id", "index", "idx", "classid", "labelid", "number", "classindex", "target", "label")
# Folders of ImageNet are called so.
_SYNSET = re.compile(r"(n\d{8})[\s,;:]+(.+)")
_BEFORE = re.compile(r"""["']?(\d{1,9})["']?\s*[\s:,;=|]\s*(.+)""")
_BEHIND = re.compile(r"""(.+?)\s*[\s:,;=|]\s*["']?(\d{1,9})["']?""")
# Within brackets of YAML: a name of one word, or in quotes, if it is a mapping; and a text.
_PART = re.compile(
    r"""\s*((?:[^,:'"\s]+|"[^"]*"|'[^']*'):(?=\s))?\s*("[^"]*"|'[^']*'|[^,]*)\s*(?:,|$)"""
)
_COMMENT = re.compile(r"(^|\s)#.*$")


def lists_in(text: str) -> Iterator[list[str]]:
    """Yield the ways to read a list of classes in the model's order, the likeliest first.

    Names may be empty or stand twice.
    """
    text = text.strip()
    bracketed = text[:1] in ("[", "{")
    if bracketed:
        value = _literal(text)
        yield from _of_value(_flow(text) if value is None else value)
        return
    yield from _of_yaml(text)
    if "\n" in text:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        yield from _of_table(lines)
    else:
        lines = [part.strip() for part in text.split(",")]
    yield from _of_numbered(lines)
    yield lines
    words = [_SYNSET.fullmatch(line) for line in lines]
    if all(words):
        yield from ([word[place] for word in words if word] for place in (1, 2))


def _literal(text: str) -> object:
    """Return what stands in JSON or Python; ``None`` where it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            value: object = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        return value
    return None


def _of_value(value: object, depth: int = 2) -> Iterator[list[str]]:
    if isinstance(value, list):
        yield from _of_list(value)
    elif isinstance(value, dict) and value:
        places = _places(value)
        if places is not None:
            yield from _of_list([places[place] for place in sorted(places)])
            yield list(map(str, sorted(places)))
            return
        called = {str(name).casefold(): each for name, each in value.items()}
        for key in KEYS:
            if depth and isinstance(called.get(key), dict | list):
                yield from _of_value(called[key], depth - 1)


def _of_list(values: Sequence[object]) -> Iterator[list[str]]:
    if not any(isinstance(value, dict | list | tuple) for value in values):
        yield [str(value).strip() for value in values]
    elif all(isinstance(value, dict) for value in values):
        objects = [value for value in values if isinstance(value, dict)]
        header = [key for key in objects[0] if all(_is_text(each.get(key)) for each in objects)]
        rows = [[str(each[key]).strip() for key in header] for each in objects]
        yield from _of_columns(rows, list(map(str, header)))
    elif all(isinstance(value, list | tuple) for value in values):
        rows = [
            [str(cell).strip() for cell in value]
            for value in values
            if isinstance(value, list | tuple) and all(map(_is_text, value))
        ]
        if len(rows) == len(values) and len(set(map(len, rows))) == 1 < len(rows[0]):
            yield from _of_columns(rows)


def _is_text(value: object) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _places(value: Mapping[object, object]) -> dict[int, object] | None:
    """Return the names by their numbers of a mapping of either to the other."""
    turned = {place: name for name, place in value.items() if _is_text(place)}
    ways: tuple[Mapping[object, object], ...] = (value,)
    if len(turned) == len(value):
        # Of numbers in text, what they stand for is told by what is not text.
        all_numbers = all(isinstance(place, int) for place in turned)
        ways = (turned, value) if all_numbers else (value, turned)
    for way in ways:
        try:
            numbers = {int(str(place)): name for place, name in way.items()}
        except ValueError:
            continue
        if len(numbers) == len(value) and _counts(numbers):
            return numbers
    return None


def _counts(numbers: Iterable[int]) -> bool:
    """Tell whether numbers are 0, 1, … or 1, 2, …, in any order, none of them twice."""
    ordered = sorted(numbers)
    return (
        bool(ordered)
        and ordered[0] in (0, 1)
        and ordered == list(range(ordered[0], ordered[0] + len(ordered)))
    )


def _of_table(lines: list[str]) -> Iterator[list[str]]:
    """Yield the columns of a table with a header."""
    sign = next((sign for sign in "\t;," if sign in lines[0]), None)
    if sign is None:
        if _plain(lines[0]) in (*_NAMES, *(f"{name}s" for name in _NAMES), "classes"):
            # A column alone is the list where the count says so.
            yield lines
            yield lines[1:]
        return
    try:
        header, *rows = csv.reader(lines, delimiter=sign, skipinitialspace=True, strict=True)
    except csv.Error:
        return
    if not rows or {len(row) for row in rows} != {len(header)}:
        return
    headed = {_plain(cell) for cell in header} & {*_NAMES, *_NUMBERS}
    if headed and not any(cell.strip().isdecimal() for cell in header):
        yield from _of_columns(rows, header)
    elif len(header) > 2 and any(_counts_in(column) for column in zip(header, *rows, strict=True)):
        yield from _of_columns([header, *rows])


def _of_columns(rows: list[list[str]], header: Sequence[str] = ()) -> Iterator[list[str]]:
    """Yield the columns of names, by the numbers of a column of numbers if there is one.

    Those that are called so come first, and else the last, as names to read stand behind others.
    """
    columns = [[row[place].strip() for row in rows] for place in range(len(rows[0]))]
    called = [_plain(cell) for cell in header] or [""] * len(columns)
    numbered = [place for place, cells in enumerate(columns) if _are_numbers(cells)]
    # Numbers of classes may have gaps in a column that is called so.
    counting = [
        place for place in numbered if called[place] in _NUMBERS or _counts_in(columns[place])
    ]
    order = list(range(len(rows)))
    if counting:
        keys = list(map(int, columns[counting[0]]))
        order.sort(key=keys.__getitem__)
    others = [place for place in range(len(columns)) if place not in numbered]
    ranks = {name: rank for rank, name in enumerate(_NAMES)}
    others.sort(key=lambda place: (ranks.get(called[place], len(ranks)), -place))
    for place in (*others, *counting[:1]):
        column = [columns[place][row] for row in order]
        if len(set(column)) == len(column):
            yield column


def _counts_in(cells: Sequence[str]) -> bool:
    return _are_numbers(cells) and _counts(map(int, cells))


def _are_numbers(cells: Sequence[str]) -> bool:
    # More digits than these are no class's number.
    plain = all(re.fullmatch(r"\d{1,9}", cell, re.ASCII) for cell in cells)
    return plain and len(set(map(int, cells))) == len(cells)


def _of_numbered(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield what stands beside the numbers of lines, all of which have one."""
    for pattern, number, name in ((_BEFORE, 1, 2), (_BEHIND, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        parts = {int(each[number]): _bare(each[name]) for each in found if each is not None}
        if len(parts) == len(lines) and _counts(parts):
            names = [parts[place] for place in sorted(parts)]
            if len(set(names)) == len(names):
                yield names
                yield list(map(str, sorted(parts)))


def _of_yaml(text: str) -> Iterator[list[str]]:
    """Yield the list of names in a file of YAML."""
    lines = [_COMMENT.sub("", line).rstrip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    block = lines if all(line.lstrip().startswith("- ") for line in lines) else []
    for place, line in enumerate(lines):
        key = re.fullmatch(r"([A-Za-z_]\w*):\s*(.*)", line)
        if key is None or key[1].casefold() not in KEYS:
            continue
        below = lines[place + 1 :]
        end = next((n for n, each in enumerate(below) if each[0] not in " -\t]}"), len(below))
        if key[2]:
            yield from _of_value(_flow(" ".join([key[2], *below[:end]])))
            return
        block = below[:end]
    items = [line.strip() for line in block]
    if items and all(item.startswith("- ") for item in items):
        yield [_bare(item[2:]) for item in items]
    elif items and block is not lines:
        yield from _of_numbered(items)


def _flow(text: str) -> object:
    """Return a list or a mapping in brackets as YAML has it, whose texts need no quotes."""
    text = text.strip()
    value = _literal(text)
    if value is not None or text[:1] + text[-1:] not in ("[]", "{}"):
        return value
    parts = [part for part in _PART.findall(" ".join(text[1:-1].split())) if any(part)]
    if text[0] == "[":
        return [_bare("".join(part)) for part in parts]
    return {_bare(name.removesuffix(":")): _bare(value) for name, value in parts}


def _bare(word: str) -> str:
    """Return a word without quotes around it."""
    word = word.strip()
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1].strip() if quoted else word


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
