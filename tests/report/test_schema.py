"""The schema is that of the types, and within one version it takes what was ever written."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloakify.report import load_schema
from cloakify.report.json_report import render_schema
from cloakify.report.records import SCHEMA_VERSION

KEPT = Path(__file__).parents[1] / "golden"
Schema = dict[str, Any]


def kept_schemas() -> Iterator[Schema]:
    """Yield the schemas of earlier versions of cloakify with the schema version of today."""
    for path in sorted(KEPT.glob("v*/report.schema.json")):
        schema = json.loads(path.read_text(encoding="utf-8"))
        if schema["title"] == f"cloakify report, schema_version {SCHEMA_VERSION}":
            yield schema


class Change(Exception):
    """A reader of the older documents could not read the newer ones."""


def alternatives(schema: Schema, whole: Schema) -> list[Schema]:
    """Return what a schema allows, one by one, references followed."""
    if "$ref" in schema:
        return alternatives(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole)
    parts = schema.get("anyOf", schema.get("oneOf"))
    if parts is not None:
        return [found for part in parts for found in alternatives(part, whole)]
    return [schema]


def kinds(schema: Schema) -> set[str]:
    """Return the JSON types of one alternative."""
    names = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    return {names[type(value)] for value in schema.get("enum", [schema.get("const")])}


def check(old: Schema, new: Schema, whole_old: Schema, whole_new: Schema, where: str) -> None:
    """Raise Change unless fields were only added, none of them required, and no type is new."""
    before, after = alternatives(old, whole_old), alternatives(new, whole_new)
    known = set().union(*map(kinds, before))
    if added := set().union(*map(kinds, after)) - known:
        raise Change(f"{where} may be {added}")
    for part in before:
        if "properties" in part:
            same = [other for other in after if kind_of(other) == kind_of(part)]
            if not same:
                raise Change(f"{where} of kind {kind_of(part)} is gone")
            check_fields(part, same[0], whole_old, whole_new, where)
        if "items" in part:
            items = next(other["items"] for other in after if "items" in other)
            check(part["items"], items, whole_old, whole_new, f"{where}[]")


def kind_of(schema: Schema) -> object:
    """Tell the two reports apart, and what is no object from other objects."""
    if "properties" not in schema:
        return schema.get("type")
    kind = schema["properties"].get("kind", {})
    return kind.get("const", *kind.get("enum", [None]))


def check_fields(
    old: Schema, new: Schema, whole_old: Schema, whole_new: Schema, where: str
) -> None:
    if added := set(new["required"]) - set(old["required"]):
        raise Change(f"{where} now requires {added}")
    for name, part in old["properties"].items():
        if name not in new["properties"]:
            raise Change(f"{where}.{name} is gone")
        check(part, new["properties"][name], whole_old, whole_new, f"{where}.{name}")


def test_the_shipped_schema_is_that_of_the_types() -> None:
    shipped = Path(__file__).parents[2] / "cloakify/report/schema/report.schema.json"
    assert shipped.read_text(encoding="utf-8") == render_schema(), (
        "the report's types have changed: run tests/report/write_schema.py; where a reader of "
        "older reports could not read the new ones, raise SCHEMA_VERSION"
    )


def test_within_a_schema_version_fields_are_only_added() -> None:
    schemas = list(kept_schemas())
    assert schemas or SCHEMA_VERSION != 1
    for old in schemas:
        check(old, load_schema(), old, load_schema(), "report")


def dropped(schema: Schema) -> None:
    del schema["$defs"]["MaskInfo"]["properties"]["sha256"]


def renamed_deep_inside(schema: Schema) -> None:
    fields = schema["$defs"]["Figure"]["properties"]
    fields["lower"] = fields.pop("low")


def another_type(schema: Schema) -> None:
    schema["$defs"]["Distance"]["properties"]["n"] = {"type": "string"}


def may_be_null(schema: Schema) -> None:
    fields = schema["$defs"]["ModelEvaluation"]["properties"]
    fields["clean"] = {"anyOf": [fields["clean"], {"type": "null"}]}


def a_kind_gone(schema: Schema) -> None:
    schema["anyOf"].pop()


def a_new_one_required(schema: Schema) -> None:
    schema["$defs"]["CurvePoint"]["properties"]["new"] = {"type": "string"}
    schema["$defs"]["CurvePoint"]["required"].append("new")


@pytest.mark.parametrize(
    "change",
    [dropped, renamed_deep_inside, another_type, may_be_null, a_kind_gone, a_new_one_required],
)
def test_a_change_that_breaks_readers_is_noticed(change: Callable[[Schema], None]) -> None:
    new = copy.deepcopy(load_schema())
    change(new)
    (old, *_) = kept_schemas()
    with pytest.raises(Change):
        check(old, new, old, new, "report")


def test_an_optional_field_may_be_added() -> None:
    new = copy.deepcopy(load_schema())
    new["$defs"]["CurvePoint"]["properties"]["new"] = {"type": "string"}
    (old, *_) = kept_schemas()
    check(old, new, old, new, "report")
