"""What can go wrong with a text file, as the line that a user is told."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cloakify.data.naming import shown
from cloakify.errors import DataError


@contextmanager
def text_errors(path: Path) -> Iterator[None]:
    """Raise DataError for what reading a file of text, or a CSV in it, raises."""
    try:
        yield
    except UnicodeDecodeError:
        raise DataError(f"{shown(path)} is no text in UTF-8: save it so") from None
    except csv.Error as error:
        raise DataError(f"{shown(path)} is no CSV ({error}): mend it") from None
    except OSError as error:
        raise DataError(f"{shown(path)} can't be read ({error.strerror})") from None
