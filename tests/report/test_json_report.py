"""The JSON report against its schema, and back into the types that it is derived from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from cloakify.evaluation import Distance
from cloakify.report import EvaluateReport, HardenReport, as_document, load_schema, render_json
from cloakify.report.json_report import read_json

jsonschema = pytest.importorskip("jsonschema")

MakeHarden = Callable[..., HardenReport]
MakeEvaluate = Callable[..., EvaluateReport]


@pytest.fixture(scope="module")
def check() -> Callable[[object], None]:
    schema = load_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate


def test_reports_are_valid(
    check: Callable[[object], None], make_harden: MakeHarden, make_evaluate: MakeEvaluate
) -> None:
    for report in (
        make_harden(),
        make_harden(written=False, control=False),
        make_evaluate(),
    ):
        text = render_json(report)
        document = json.loads(text)
        assert document == as_document(report)
        check(document)
        assert read_json(text) == report


def test_a_distance_beyond_the_search_is_null(
    check: Callable[[object], None], make_evaluate: MakeEvaluate
) -> None:
    report = make_evaluate()
    robust = replace(report.models[0], median_distance=Distance(None, 0.1, None, 9))
    document = as_document(msgspec.structs.replace(report, models=(robust,)))
    check(document)
    assert document["models"][0]["median_distance"]["value"] is None


@pytest.mark.parametrize("path", [("verdict",), ("accuracy", "gain"), ("mask", "indices")])
def test_a_missing_field_is_refused_an_unknown_one_is_not(
    check: Callable[[object], None], make_harden: MakeHarden, path: tuple[str, ...]
) -> None:
    document = as_document(make_harden())
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent["added in a later version"] = 1
    check(document)
    assert read_json(json.dumps(document)) == make_harden()
    del parent[path[-1]]
    with pytest.raises(jsonschema.ValidationError):
        check(document)
    with pytest.raises(msgspec.ValidationError):
        read_json(json.dumps(document))


def test_design_names_come_first_and_in_order(make_harden: MakeHarden) -> None:
    document = as_document(make_harden())
    assert list(document)[:4] == ["kind", "schema_version", "cloakify_version", "source"]
    assert list(document["accuracy"]) == ["source", "hardened", "gain", "random_mask"]
    assert list(document["accuracy"]["gain"]["adaptive"]) == ["value", "low", "high", "n"]
    assert document["verdict"]["code"] == "transfer-only"


def test_text_is_deterministic_ascii_and_short(make_harden: MakeHarden) -> None:
    text = render_json(make_harden("größe\udcff"))
    assert text == render_json(make_harden("größe\udcff"))
    assert text.isascii() and text.endswith("}\n")
    assert '"indices": [3, 40, 41, 300, 511]' in text
    assert json.loads(text)["data"]["path"] == "data/größe\udcff"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan")])
def test_no_nan(make_harden: MakeHarden, bad: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        render_json(msgspec.structs.replace(make_harden(), timing={"calibrate": bad}))


def test_numpy_scalars_become_plain_numbers(make_harden: MakeHarden) -> None:
    report = make_harden()
    mask = replace(
        report.mask, indices=np.array([1, 2]), ratio=np.float32(0.5), removed=np.int64(2)
    )
    document = as_document(msgspec.structs.replace(report, mask=mask))["mask"]
    assert (document["indices"], document["ratio"], document["removed"]) == ([1, 2], 0.5, 2)
    assert [type(part) for part in (*document["indices"], document["removed"])] == [int] * 3


def test_what_is_no_data_is_refused(make_harden: MakeHarden) -> None:
    with pytest.raises(TypeError, match="cannot hold a object"):
        as_document(msgspec.structs.replace(make_harden(), timing={"calibrate": object()}))
