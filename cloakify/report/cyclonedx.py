"""The report as a CycloneDX 1.6 ML-BOM, for tools that keep an inventory of software and models.

Each model is a component with its digest and a model card, whose metrics are the report's
accuracies with their 95 % intervals; a hardened model's pedigree names its source. The document
holds no time, and its serial number follows from its content: the same report gives the same bytes.

CycloneDX v1.6 (ECMA-424), https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from cloakify.evaluation import Difference, EvaluationWarning, Figure
from cloakify.report import wording
from cloakify.report.comparison import EvaluateReport, ModelEvaluation
from cloakify.report.records import FileRef, HardenReport

_NAMESPACE = uuid.UUID("8a0e29a0-94a5-5d1b-9c3a-6f5c9d1f4a6e")
"""Of serial numbers: any fixed one will do."""

Json = dict[str, Any]


def render_cyclonedx(report: HardenReport | EvaluateReport) -> str:
    """Return the report as CycloneDX JSON, ASCII, ending in a newline.

    Where `harden` wrote no file, the one component is the source.
    """
    if isinstance(report, HardenReport):
        models = [_hardened(report, report.output) if report.output else _source(report)]
    else:
        models = [
            _evaluated(report, entry, f"model-{number}")
            for number, entry in enumerate(report.models, 1)
        ]
    tool = {"type": "application", "name": "cloakify", "version": report.cloakify_version}
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}},
        "components": models,
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body))
    return json.dumps(body | {"serialNumber": f"urn:uuid:{serial}"}, indent=2) + "\n"


def _hardened(report: HardenReport, output: FileRef) -> Json:
    accuracy, mask = report.accuracy, report.mask
    metrics = [
        *_accuracies(report, accuracy.hardened),
        *(
            _metric("accuracy gained over the source", name, getattr(accuracy.gain, name))
            for name in ("clean", "static", "transfer", "adaptive")
        ),
    ]
    properties = {
        "verdict": report.verdict.code.value,
        "mask:method": mask.method,
        "mask:removed": str(mask.removed),
        "mask:total": str(mask.total),
        "mask:sha256": mask.sha256,
    }
    limits = [report.verdict.sentence, *_messages(report.warnings)]
    model = _component("hardened", output, metrics, _datasets(report), limits)
    return model | {
        "pedigree": {
            "ancestors": [_source(report)],
            "notes": "Constant factors were put in or multiplied into weights, to resist "
            "adversarial samples; nothing else was changed.",
        },
        "properties": [_property(*pair) for pair in properties.items()],
    }


def _source(report: HardenReport) -> Json:
    metrics = [*_accuracies(report, report.accuracy.source)]
    return _component("source", report.source, metrics, _datasets(report), [])


def _accuracies(report: HardenReport, figures: object) -> Iterator[Json]:
    """Yield a model's accuracies, each saying what it was measured under."""
    judge = wording.attack(report.evaluation_attack)
    under = {
        "clean": "clean",
        "static": f"static: crafted on the source, {wording.attack(report.attack)}",
        "transfer": f"transfer: crafted on the source, {judge}",
        "adaptive": f"adaptive: crafted on the model itself, {judge}",
    }
    for name, words in under.items():
        yield _metric("accuracy", words, getattr(figures, name))


def _evaluated(report: EvaluateReport, entry: ModelEvaluation, reference: str) -> Json:
    norm = report.threat.norm
    metrics = [_metric("accuracy", "clean", entry.clean)]
    for robust in entry.robust:
        within = f"worst case, {norm} {wording.budget(robust.eps)}"
        metrics.append(_metric("accuracy", within, robust.worst_case))
    sentences = [
        each.verdict.sentence for each in report.verdicts if each.model == entry.model.path
    ]
    limits = [*sentences, *_messages(entry.warnings)]
    return _component(reference, entry.model, metrics, _datasets(report), limits)


def _component(
    reference: str,
    file: FileRef,
    metrics: Sequence[Json],
    datasets: Sequence[Json],
    limits: Sequence[str],
) -> Json:
    card: Json = {
        "modelParameters": {"task": "classification", "datasets": list(datasets)},
        "quantitativeAnalysis": {"performanceMetrics": list(metrics)},
    }
    if limits:
        card["considerations"] = {"technicalLimitations": list(limits)}
    return {
        "type": "machine-learning-model",
        "bom-ref": reference,
        "name": os.path.basename(file.path),
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        "modelCard": card,
    }


def _metric(kind: str, words: str, figure: Figure | Difference) -> Json:
    return {
        "type": kind,
        "value": repr(figure.value),
        "slice": f"{words} ({figure.n} samples)",
        "confidenceInterval": {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)},
    }


def _datasets(report: HardenReport | EvaluateReport) -> list[Json]:
    """Return the data that the figures come from."""
    data = report.data
    digest = _property("data:sha256", data.sha256)
    name = os.path.basename(data.path.rstrip("/")) or data.path
    return [{"type": "dataset", "name": name, "contents": {"properties": [digest]}}]


def _property(name: str, value: str) -> Json:
    return {"name": f"cloakify:{name}", "value": value}


def _messages(warnings: Sequence[EvaluationWarning]) -> list[str]:
    return [f"{warning.message} [{warning.code}]" for warning in warnings]
