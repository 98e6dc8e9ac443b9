"""JSON in text that a stranger may have written."""

from __future__ import annotations

import json
from typing import Any


def json_value(text: str | bytes) -> Any:
    """Return what stands in a text; ``None`` where it is no JSON, too."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def json_object(text: str | bytes) -> dict[str, Any] | None:
    """Return the object in a text; ``None`` where it holds none."""
    read = json_value(text)
    return read if isinstance(read, dict) else None
