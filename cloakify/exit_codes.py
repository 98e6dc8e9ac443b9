"""What the command line ends with: each code once, with what help says of it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """An exit code.

    Attributes
    ----------
    meaning
        As `cloakify --help` lists it.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """Make a code of its number and its meaning."""
        member = int.__new__(cls, code)
        member._value_, member.meaning = code, meaning
        return member

    DONE = 0, "done"
    REFUSED = 1, "not hardened, a gate was not met, or a file could not be written"
    USAGE = 2, "wrong usage"
    MODEL = 3, "the model can't be used"
    DATA = 4, "the data can't be used"
    DEVICE = 5, "the device can't be had, or an extra is missing"
    TRANSFORMED = 6, "verify found mask or gates in force in a file that was transformed since"
    INTERRUPTED = 130, "interrupted"
