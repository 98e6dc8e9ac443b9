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
from cloakify.settings.files import JsonOutput

if TYPE_CHECKING:
    from cloakify.workflows.inspect import Inspection

SHOWN_ALTERNATIVES = 5


@click.command(cls=Verb, short_help="Show a model's input, head, gradient coverage and mask.")
@click.argument("model", type=MODEL)
@declared_options("inspect")
def inspect(model: Path, **options: Any) -> None:
    """Show what cloakify sees in MODEL, without running it."""
    from cloakify.workflows.inspect import inspect as run

    found = run(model, take(ModelOptions, options))
    if take(JsonOutput, options).json:
        say_json(json.dumps(found.to_dict(), indent=2))
        return
    width = 12
    for name, value in _lines(found):
        say(f"{name:<{width}}{value}".rstrip())


def _lines(found: Inspection) -> list[tuple[str, str]]:
    spec = found.spec
    layout = {None: "no image", 1: "NCHW"}.get(spec.channel_axis, "NHWC")
    shape = " × ".join("?" if size is None else str(size) for size in spec.shape)
    producer = f", from {found.producer}" if found.producer else ""
    lines = [
        ("model", str(found.path)),
        ("", f"{found.num_nodes} nodes, opset {found.opset}{producer}"),
        ("sha256", found.sha256),
        ("input", f"{spec.name}: {spec.dtype} {shape} ({layout})"),
    ]
    if found.entry.others:
        lines.append(("", "with " + ", ".join(other.name for other in found.entry.others)))
    if found.entry.kind != "input":
        lines.append(("attacks", f"perturb {found.entry}"))
    if found.head is None:
        lines.append(("head", f"none: {found.problem}"))
    else:
        lines += [("answers", found.answers), ("head", str(found.head))]
        lines.append(("features", found.head.features))
        lines.append(("logits", found.head.logits))
    shown = found.alternatives[:SHOWN_ALTERNATIVES]
    for place, other in enumerate(shown):
        lines.append(("not taken" if place == 0 else "", str(other)))
    if len(found.alternatives) > len(shown):
        lines.append(("", f"… {len(found.alternatives) - len(shown)} more"))
    if found.coverage is not None:
        missing = found.coverage.missing
        text = "every operator has a rule" if not missing else f"no rule for {', '.join(missing)}"
        lines.append(("gradient", text))
        if found.coverage.blocked:
            lines.append(("", f"none passes {', '.join(found.coverage.blocked)}"))
    if found.masked is None:
        lines.append(("mask", "none"))
    else:
        removed, total = found.masked
        tuned = found.metadata.get("method") == "tuned"
        what = f"{total} tuned gates, {removed} of them 0"
        lines.append(("mask", what if tuned else f"{removed} of {total} features masked"))
    lines += [("", f"cloakify.{key} = {value}") for key, value in sorted(found.metadata.items())]
    for place, (key, value) in enumerate(sorted(found.foreign_metadata.items())):
        lines.append(("metadata" if place == 0 else "", f"{key} = {value}"))
    return lines
