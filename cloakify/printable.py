"""Text from strangers' files, made safe to print.

Names of nodes, classes and files, a model's producer and its metadata are whatever someone wrote
into a file. Printed raw, an escape sequence in one of them moves the cursor, hides a line or
renames the window, and a bidirectional control turns a sentence around.

>>> printable("conv\\x1b[2K\\r1")
'conv\\\\x1b[2K\\\\r1'
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def printable(text: str) -> str:
    """Return text on one line, with an escape (``\\x1b``) for every character that is not visible.

    Those are, by `str.isprintable`, the control characters (C0, DEL, C1, line ends and tabs among
    them), the invisible format characters (all that turn the direction of text), lone surrogates,
    private and unassigned characters, and every space but the plain one.
    """
    if text.isprintable():
        return text
    return "".join(part if part.isprintable() else _escaped(part) for part in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def one_line(error: BaseException) -> str:
    """Return an error's text with its line breaks and runs of spaces folded."""
    return " ".join(str(error).split())


def in_percent(share: float, decimals: int = 1) -> str:
    """Write a share as people read it everywhere: ``62.3 %``."""
    return f"{100 * share:.{decimals}f} %"


def shape_text(shape: Iterable[int | str | None]) -> str:
    """Write a shape as people read it, ``?`` for a size that is open: ``?×3×224×224``."""
    return "×".join("?" if size is None else str(size) for size in shape)
