"""Configuration files: JSON objects, bounded in size, whose values have the form they should."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cloakify.data.naming import shown
from cloakify.errors import ModelError

# A configuration with a name for each of 20,000 classes takes a megabyte.
_LONGEST = 1 << 24


class Config:
    """A JSON object that was read from a file.

    Raises
    ------
    ModelError
        The file can't be read, or is no JSON object.
    """

    def __init__(self, path: Path, values: dict[str, Any] | None = None, within: str = "") -> None:
        self.path = path
        self._within = within
        self._values = _read(path) if values is None else values

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def raw(self, key: str) -> Any:
        """Return a value of any form, or ``None``."""
        return self._values.get(key)

    def part(self, key: str) -> Config:
        """Return an object within this one; an empty one where there is none."""
        value = self._values.get(key) or {}
        if not isinstance(value, dict):
            raise self.fault(key, "an object")
        return Config(self.path, value, f"{self._within}{key}.")

    def number(self, key: str) -> float | None:
        """Return a finite number, or ``None`` where there is none."""
        value = self._values.get(key)
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise self.fault(key, "a number")
        return float(value)

    def whole(self, key: str) -> int | None:
        """Return a whole number above 0, or ``None`` where there is none."""
        value = self.number(key)
        if value is None:
            return None
        if value != int(value) or value < 1:
            raise self.fault(key, "a whole number above 0")
        return int(value)

    def numbers(self, key: str) -> tuple[float, ...] | None:
        """Return numbers, one for each channel, or ``None``."""
        value = self._values.get(key)
        if value is None:
            return None
        listed = value if isinstance(value, list) else [value]
        plain = all(isinstance(each, int | float) and math.isfinite(each) for each in listed)
        if not listed or not plain:
            raise self.fault(key, "numbers")
        return tuple(float(each) for each in listed)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fault(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        """Return text, or ``None``."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.fault(key, "text")
        return value

    def fault(self, key: str, wanted: str) -> ModelError:
        """Return the error that a value has not the form it should have."""
        return ModelError(f"{shown(self.path)}: {self._within}{key} is not {wanted}: mend the file")


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LONGEST:
            raise ModelError(f"{shown(path)} is too large for a configuration: is it one?")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{shown(path)} can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"{shown(path)} is no JSON ({shown(' '.join(str(error).split()))}): mend the file"
        ) from None
    if not isinstance(values, dict):
        raise ModelError(f"{shown(path)} is no JSON object: mend the file")
    return values
