"""The report as JSON: deterministic, strict (no NaN, no infinity) and described by a schema.

The schema ships in the package as ``cloakify/report/schema/report.schema.json`` (JSON Schema
2020-12). Within one `schema_version` fields are only added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import resources
from math import isfinite
from typing import Any

import numpy as np

from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import HardenReport

_LINE = 100


def as_document(report: HardenReport | EvaluateReport) -> dict[str, Any]:
    """Return the report as dicts, lists, strings and plain numbers, keys in schema order.

    Raises
    ------
    ValueError
        If a number is NaN or infinite: no figure of a report may be.
    """
    document: dict[str, Any] = _plain(report, "report")
    return document


def render_json(report: HardenReport | EvaluateReport) -> str:
    """Return the report as JSON text, ASCII, small objects on one line, ending in a newline."""
    return _render(as_document(report), "") + "\n"


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema of both kinds of report."""
    file = resources.files("cloakify.report") / "schema" / "report.schema.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return schema


def _plain(value: object, where: str) -> Any:
    if is_dataclass(value):
        return {
            field.name: _plain(getattr(value, field.name), f"{where}.{field.name}")
            for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        if not isfinite(value):
            raise ValueError(f"{where} is {value}: a report holds finite numbers only")
        return float(value)
    raise TypeError(f"{where} is of type {type(value).__name__}, which a report cannot hold")


def _render(value: Any, indent: str) -> str:
    """Like json.dumps with an indent of 2, but a figure or a list of indices stays on one line."""
    line = json.dumps(value, allow_nan=False)
    flat = isinstance(value, list) and all(isinstance(part, int | float) for part in value)
    if not isinstance(value, dict | list) or flat or len(indent) + len(line) <= _LINE:
        return line
    inner = indent + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_render(part, inner)}" for key, part in value.items()]
        return "{\n" + inner + f",\n{inner}".join(parts) + f"\n{indent}}}"
    parts = [_render(part, inner) for part in value]
    return "[\n" + inner + f",\n{inner}".join(parts) + f"\n{indent}]"
