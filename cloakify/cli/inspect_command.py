"""`cloakify inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloakify.cli.console import say, say_json
from cloakify.cli.options import MODEL, declared_options, take
from cloakify.cli.verb import Verb
from cloakify.settings import ModelOptions
from cloakify.settings.files import JsonOutput, LookedAtFor

if TYPE_CHECKING:
    from cloakify.workflows.inspect import Inspection

SHOWN_ALTERNATIVES = 5
SHOWN_CLASSES = 10


@click.command(cls=Verb, short_help="Show a model's input, head, gradient coverage and mask.")
@click.argument("model", type=MODEL)
@declared_options("inspect")
def inspect(model: Path, **options: Any) -> None:
    """Show what cloakify sees in MODEL, without running it."""
    from cloakify.workflows.inspect import inspect as run

    inspection = run(model, take(ModelOptions, options), take(LookedAtFor, options).device)
    if take(JsonOutput, options).json:
        say_json(json.dumps(inspection.to_dict(), indent=2))
        return
    width = 12
    for name, value in _lines(inspection):
        say(f"{name:<{width}}{value}".rstrip())


def _lines(inspection: Inspection) -> list[tuple[str, str]]:
    """Return what is shown, line by line, each behind what it is of."""
    lines = [*_input_lines(inspection), *_answer_lines(inspection)]
    if inspection.coverage is not None:
        missing = inspection.coverage.missing
        text = "every operator has a rule" if not missing else f"no rule for {', '.join(missing)}"
        lines.append(("gradient", text))
        if inspection.coverage.blocked:
            lines.append(("", f"none passes {', '.join(inspection.coverage.blocked)}"))
    if inspection.cuda is not None:
        told = inspection.cuda.lines()
        lines += [("cuda" if place == 0 else "", line) for place, line in enumerate(told)]
    return [*lines, *_metadata_lines(inspection)]


def _input_lines(inspection: Inspection) -> list[tuple[str, str]]:
    spec = inspection.spec
    layout = {None: "no image", 1: "NCHW"}.get(spec.channel_axis, "NHWC")
    shape = " × ".join("?" if size is None else str(size) for size in spec.shape)
    producer = f", from {inspection.producer}" if inspection.producer else ""
    lines = [
        ("model", str(inspection.path)),
        ("", f"{inspection.num_nodes} nodes, opset {inspection.opset}{producer}"),
        ("sha256", inspection.sha256),
        ("input", f"{spec.name}: {spec.dtype} {shape} ({layout})"),
        ("", inspection.inputs),
    ]
    if inspection.unrunnable is not None:
        lines.insert(2, ("runs", f"not: {inspection.unrunnable}"))
    if inspection.entry.others:
        lines.append(("", "with " + ", ".join(other.name for other in inspection.entry.others)))
    if inspection.undecided is not None:
        lines.append(("attacks", f"undecided: {inspection.undecided}"))
    elif inspection.entry.kind != "input" or inspection.entry.others:
        lines.append(("attacks", f"perturb {inspection.entry}"))
    return lines


def _answer_lines(inspection: Inspection) -> list[tuple[str, str]]:
    lines = []
    if inspection.search is not None:
        lines.append(("answers", inspection.answers))
        lines += [("", note) for note in inspection.search.outputs.notes]
    if inspection.head is None:
        lines.append(("head", f"none: {inspection.problem}"))
    else:
        lines.append(("head", str(inspection.head)))
        lines.append(("features", inspection.head.features))
    if inspection.search is not None:
        lines.append(("logits", inspection.search.scores.shipped))
    if inspection.class_names is not None:
        from cloakify.data.naming import some

        lines.append(("classes", some([*inspection.class_names], SHOWN_CLASSES)))
    shown = inspection.alternatives[:SHOWN_ALTERNATIVES]
    for place, other in enumerate(shown):
        # No head: what it puts out are channels, whatever they mean.
        lines.append(("not taken" if place == 0 else "", other.described("channels")))
    if len(inspection.alternatives) > len(shown):
        lines.append(("", f"… {len(inspection.alternatives) - len(shown)} more"))
    return lines


def _metadata_lines(inspection: Inspection) -> list[tuple[str, str]]:
    lines = []
    if inspection.masked is None:
        lines.append(("mask", "none"))
    else:
        removed, total = inspection.masked
        tuned = inspection.metadata.get("method") == "tuned"
        what = f"{total} tuned gates, {removed} of them 0"
        lines.append(("mask", what if tuned else f"{removed} of {total} features masked"))
    lines += [
        ("", f"cloakify.{key} = {value}") for key, value in sorted(inspection.metadata.items())
    ]
    for place, (key, value) in enumerate(sorted(inspection.foreign_metadata.items())):
        lines.append(("metadata" if place == 0 else "", f"{key} = {value}"))
    return lines
