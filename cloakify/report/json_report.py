"""The report as JSON: deterministic, strict (no NaN, no infinity) and described by a schema.

JSON and schema are derived from the report's types. The schema (JSON Schema 2020-12) ships in the
package as ``cloakify/report/schema/report.schema.json``, for those who have no Python; to write it
anew after a change of the types::

    python tests/report/write_schema.py
"""

from __future__ import annotations

import inspect
import json
from typing import Any

import msgspec
import numpy as np

from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import SCHEMA_VERSION, HardenReport

_LINE = 100


def as_document(report: HardenReport | EvaluateReport) -> dict[str, Any]:
    """Return the report as dicts, lists, strings and plain numbers, keys in schema order.

    Raises
    ------
    ValueError
        If a number is NaN or infinite: no figure of a report may be.
    """
    parts = msgspec.to_builtins(report, enc_hook=_plain)
    document: dict[str, Any] = json.loads(json.dumps(parts, allow_nan=False))
    return document


def render_json(report: HardenReport | EvaluateReport) -> str:
    """Return the report as JSON text, ASCII, small objects on one line, ending in a newline."""
    return _render(as_document(report), "") + "\n"


def read_json(text: str | bytes) -> HardenReport | EvaluateReport:
    """Read a report of this schema version, also one that an older cloakify has written.

    Raises
    ------
    msgspec.ValidationError
        If the text is no such report; it says where.
    """
    return msgspec.json.decode(text, type=HardenReport | EvaluateReport)


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of both kinds of report."""
    schema = msgspec.json.schema(HardenReport | EvaluateReport)
    for part in schema["$defs"].values():
        # Earlier releases of msgspec leave docstrings indented as they stand in the source.
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"cloakify report, schema_version {SCHEMA_VERSION}",
        **schema,
    }


def render_schema() -> str:
    """Return the schema as the package ships it."""
    return _render(load_schema(), "") + "\n"


def _plain(value: object) -> object:
    """Take what NumPy calculated for the numbers that it holds."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a report cannot hold a {type(value).__name__}")


def _render(value: Any, indent: str) -> str:
    """Like json.dumps with an indent of 2, but a figure or a list of indices stays on one line."""
    line = json.dumps(value)
    flat = isinstance(value, list) and all(isinstance(part, int | float) for part in value)
    if not isinstance(value, dict | list) or flat or len(indent) + len(line) <= _LINE:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_render(part, inner)}" for key, part in value.items()]
        return "{\n" + inner + f",\n{inner}".join(parts) + f"\n{indent}}}"
    parts = [_render(part, inner) for part in value]
    return "[\n" + inner + f",\n{inner}".join(parts) + f"\n{indent}]"
