"""The ML-BOM against CycloneDX's own schema, and what it says against the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from cloakify.report import EvaluateReport, HardenReport, write_report
from cloakify.report.cyclonedx import render_cyclonedx

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")
# Holds the official schemas.
pytest.importorskip("cyclonedx")

MakeHarden = Callable[..., HardenReport]
MakeEvaluate = Callable[..., EvaluateReport]
HOSTILE = 'a"\x1b\n</script>\udcff'


@pytest.fixture(scope="module")
def check() -> Callable[[Any], None]:
    folder = resources.files("cyclonedx.schema") / "_res"
    names = ("bom-1.6", "spdx", "jsf-0.82")
    bom, *others = (
        json.loads((folder / f"{name}.SNAPSHOT.schema.json").read_text(encoding="utf-8"))
        for name in names
    )
    registry = referencing.Registry().with_resources(
        (schema["$id"], referencing.Resource.from_contents(schema)) for schema in (bom, *others)
    )
    validator = jsonschema.Draft7Validator(bom, registry=registry)
    return lambda document: validator.validate(document)


@pytest.mark.parametrize("name", ["resnet", HOSTILE])
def test_documents_are_valid(
    check: Callable[[Any], None], make_harden: MakeHarden, make_evaluate: MakeEvaluate, name: str
) -> None:
    for report in (
        make_harden(name),
        make_harden(name, control=False),
        make_harden(name, written=False),
        make_evaluate(f"a/{name}", f"b/{name}.2"),
    ):
        text = render_cyclonedx(report)
        assert text.isascii()
        check(json.loads(text))


def test_the_schema_refuses_what_is_no_model_card(
    check: Callable[[Any], None], make_harden: MakeHarden
) -> None:
    document = json.loads(render_cyclonedx(make_harden()))
    document["components"][0]["modelCard"]["accuracy"] = 1
    with pytest.raises(jsonschema.ValidationError):
        check(document)


def test_a_hardened_model_has_its_figures_and_its_source(make_harden: MakeHarden) -> None:
    report = make_harden()
    (model,) = json.loads(render_cyclonedx(report))["components"]
    assert report.output is not None
    assert model["type"] == "machine-learning-model"
    assert model["name"] == "resnet.hardened.onnx"
    assert model["hashes"] == [{"alg": "SHA-256", "content": report.output.sha256}]
    (source,) = model["pedigree"]["ancestors"]
    assert source["hashes"][0]["content"] == report.source.sha256
    for component, figures in ((model, report.accuracy.hardened), (source, report.accuracy.source)):
        metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        told = [metric for metric in metrics if metric["type"] == "accuracy"]
        for metric, name in zip(told, ("clean", "static", "transfer", "adaptive"), strict=True):
            figure = getattr(figures, name)
            interval = metric["confidenceInterval"]
            numbers = (metric["value"], interval["lowerBound"], interval["upperBound"])
            assert tuple(map(float, numbers)) == (figure.value, figure.low, figure.high)
            assert metric["slice"].startswith(name) and f"{figure.n} samples" in metric["slice"]
    gains = [m for m in metrics_of(model) if m["type"] != "accuracy"]
    assert float(gains[-1]["value"]) == report.accuracy.gain.adaptive.value
    limits = model["modelCard"]["considerations"]["technicalLimitations"]
    assert limits[0] == report.verdict.sentence and "near-copies" in limits[1]


def metrics_of(component: dict[str, Any]) -> list[dict[str, Any]]:
    metrics: list[dict[str, Any]] = component["modelCard"]["quantitativeAnalysis"][
        "performanceMetrics"
    ]
    return metrics


def test_without_an_output_the_source_is_all_there_is(make_harden: MakeHarden) -> None:
    (model,) = json.loads(render_cyclonedx(make_harden(written=False)))["components"]
    assert model["name"] == "resnet.onnx" and "pedigree" not in model


def test_every_evaluated_model_has_its_worst_cases(make_evaluate: MakeEvaluate) -> None:
    report = make_evaluate()
    models = json.loads(render_cyclonedx(report))["components"]
    for model, entry in zip(models, report.models, strict=True):
        clean, *worst = metrics_of(model)
        assert float(clean["value"]) == entry.clean.value
        assert [float(metric["value"]) for metric in worst] == [
            robust.worst_case.value for robust in entry.robust
        ]
        assert "worst case, linf 8/255" in worst[-1]["slice"]
    refs = [model["bom-ref"] for model in models]
    assert len(set(refs)) == len(refs)


def test_the_same_report_gives_the_same_bytes(make_harden: MakeHarden, tmp_path: Path) -> None:
    for name in ("a.cdx.json", "b.CDX.JSON"):
        write_report(make_harden(), tmp_path / name)
    assert (tmp_path / "a.cdx.json").read_bytes() == (tmp_path / "b.CDX.JSON").read_bytes()
    serials = {json.loads(render_cyclonedx(make_harden(name)))["serialNumber"] for name in "ab"}
    assert len(serials) == 2
