"""What a report says besides its figures, as labelled lines: verdicts, warnings, circumstances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import UNSET

from cloakify.evaluation import VerdictCode
from cloakify.report import wording
from cloakify.report.comparison import EvaluateReport
from cloakify.report.records import THE_INPUT, DeviceInfo, FileRef, HardenReport, HeadInfo
from cloakify.report.tables import model_names

Fact = tuple[str, str]

# Classes that are named; the JSON report has them all.
_LISTED = 20


def title(report: HardenReport | EvaluateReport) -> str:
    """Return the report's heading."""
    if isinstance(report, HardenReport):
        return f"Hardening {wording.short_names([report.source.path])[report.source.path]}"
    return "Evaluating " + ", ".join(model_names(report).values())


def verdicts(report: HardenReport | EvaluateReport) -> tuple[tuple[VerdictCode, str], ...]:
    """Return code and sentence of every verdict; an evaluation has one per model and budget."""
    if isinstance(report, HardenReport):
        return ((report.verdict.code, report.verdict.sentence),)
    names = model_names(report)
    return tuple(
        (
            entry.verdict.code,
            f"{names[entry.model]} at {wording.budget(entry.eps)}: {entry.verdict.sentence}",
        )
        for entry in report.verdicts
    )


def warnings(report: HardenReport | EvaluateReport) -> tuple[str, ...]:
    """Return every warning as one line with its code and figure."""
    if isinstance(report, HardenReport):
        named = [("", warning) for warning in report.warnings]
    else:
        names = model_names(report)
        named = [
            (f"{names[entry.model.path]}: ", warning)
            for entry in report.models
            for warning in entry.warnings
        ]
    return tuple(
        f"{model}{warning.message} [{warning.code} = {warning.value:.4g}]"
        for model, warning in named
    )


def circumstances(report: HardenReport | EvaluateReport) -> tuple[Fact, ...]:
    """Return what was run, on what, where and how long."""
    own = _of_harden(report) if isinstance(report, HardenReport) else _of_evaluate(report)
    seconds = ", ".join(f"{stage} {time:.1f} s" for stage, time in report.timing.items())
    inside = report.perturbs != THE_INPUT
    return (
        *own,
        *(("Note", note) for note in (() if report.notes is UNSET else report.notes)),
        *([("Attacks perturb", report.perturbs)] if inside else []),
        ("Device", _device(report.device)),
        *([("Time", seconds)] if seconds else []),
        ("Made by", f"cloakify {report.cloakify_version}"),
    )


def _device(device: DeviceInfo) -> str:
    text = device.provider
    if device.gradients is not UNSET:
        text += f", gradients {device.gradients}"
    if device.tf32 is not UNSET:
        text += ", TF32" if device.tf32 else ", no TF32"
    return text


def command(report: HardenReport | EvaluateReport) -> str | None:
    """Return what a shell repeats the run with; reports of 0.1.0 do not say it."""
    return None if report.command is UNSET else report.command


def _of_harden(report: HardenReport) -> Iterable[Fact]:
    head, mask, data = report.head, report.mask, report.data
    yield from _file("Source", report.source)
    if report.output is None:
        yield "Output", "none was written"
    else:
        yield from _file("Output", report.output)
    yield (
        "Head",
        f"{head.op_type} {head.node}: {head.num_features} features, {_answers(head)}",
    )
    score = "" if mask.score is None else f", score {mask.score}"
    share = 100 * mask.removed / mask.total
    what = f"{mask.removed} of {mask.total} features removed ({share:.2f} %)"
    if mask.method == "tuned":
        shifts = f" and {mask.shifts} shifts" if mask.shifts else ""
        zeros = f", {mask.removed} of the gates 0" if mask.removed else ""
        what = f"{mask.total} gates{shifts} through the network{zeros}"
    yield "Mask", f"{mask.method}{score}: {what}"
    yield "Mask sha256", mask.sha256
    if mask.tuning is not UNSET:
        steps = f"{mask.tuning.steps:,} steps of tuning"
        yield "Tuned by", f"{steps}, each under {wording.attack(mask.tuning.attack)}"
    if mask.unlabelled:
        yield "Tuned besides on", f"{mask.unlabelled} samples without labels"
    yield "Calibration attack", wording.attack(report.attack)
    yield "Evaluation attack", wording.attack(report.evaluation_attack)
    yield (
        "Data",
        f"{data.path}: {data.fit} to fit, {data.select} to select, {data.report} to report",
    )
    yield "Data sha256", data.sha256
    yield "Labels", data.labels
    yield from _classes(data.classes)
    yield from _inputs(data.preprocessing, data.preprocessing_source)
    if report.copies is not None:
        (at,) = report.copies.within
        total = data.fit + data.select + data.report
        yield (
            "Given copies",
            f"{report.copies.path}: {at.outside_ball} of {total} outside the budget, "
            f"{at.outside_box} outside the box",
        )
        yield "Given copies sha256", report.copies.sha256


def _of_evaluate(report: EvaluateReport) -> Iterable[Fact]:
    for entry in report.models:
        yield from _file("Model", entry.model)
    yield "Data", f"{report.data.path}: {report.data.samples} samples"
    yield "Data sha256", report.data.sha256
    yield "Labels", report.data.labels
    yield from _classes(report.data.classes)
    yield from _inputs(report.data.preprocessing, report.data.preprocessing_source)
    if report.copies is not None:
        yield "Given copies", report.copies.path
        yield "Given copies sha256", report.copies.sha256


def _file(label: str, file: FileRef) -> Iterable[Fact]:
    yield label, file.path
    yield f"{label} sha256", file.sha256


def _inputs(preprocessing: str | None, source: str | None) -> Iterable[Fact]:
    """Yield how samples became what the models take, where that is known."""
    if preprocessing is not None:
        yield "Inputs", preprocessing + ("" if source is None else f" (as {source} says)")


def _classes(names: Sequence[str] | None) -> Iterable[Fact]:
    """List the first classes by their indices."""
    if names is not None:
        listed = ", ".join(f"{index} {name}" for index, name in enumerate(names[:_LISTED]))
        yield "Classes", listed + f" and {len(names) - _LISTED} more" * (len(names) > _LISTED)


def _answers(head: HeadInfo) -> str:
    """Say what the head's scores choose between."""
    if head.task == "multilabel":
        return f"{head.num_classes} independent labels"
    one = " by one logit" * (head.task == "binary")
    return f"{head.num_classes} classes{one}"
