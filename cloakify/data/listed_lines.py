"""Lines of a list of labels: an image's name, and what it is labelled with."""

from __future__ import annotations

import re

from cloakify.settings.endings import is_image

_FLAGS = ("0", "1", "0.0", "1.0")


def name_and_label(line: str) -> tuple[str | None, str]:
    """Split ``cat/1.png 3`` at what parts them behind the image's name, or ``3 cat/1.png``."""
    name, flags = _flags_behind(line)
    if len(flags) > 1 and is_image(_bare(name)):
        return _bare(name), " ".join(flags)
    for split in (line.rsplit, line.split):
        for sign in (None, ",", ";", "|"):
            name, *label = split(sign, 1)
            name = _bare(name)
            if label and is_image(name):
                return name, _bare(label[0])
    number, *rest = re.split(r"[\s,;|]+", line, maxsplit=1)
    if rest and number.isdecimal() and is_image(_bare(rest[0])):
        return _bare(rest[0]), number
    return None, line


def _flags_behind(line: str) -> tuple[str, list[str]]:
    """Part a line from the words 0 and 1 that it ends in."""
    parts = re.split(r"([\s,;|]+)", line)
    end = len(parts)
    while end > 2 and parts[end - 1] in _FLAGS:
        end -= 2
    return "".join(parts[:end]), parts[end + 1 :: 2]


def _bare(word: str) -> str:
    """Return a word of a line without quotes around it, or a colon behind it."""
    word = word.strip().removesuffix(":").rstrip()
    quoted = len(word) > 1 and word[0] == word[-1] and word[0] in "\"'"
    return word[1:-1] if quoted else word
