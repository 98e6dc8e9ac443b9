"""What is killed: runs of the verbs that write, over old outputs and among strangers' files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from cloakify.errors import CloakifyError
from cloakify.onnxfile import open_model
from tests.support.fragile import fragile_model, write_fragile

QUICK = ["--device", "cpu", "--threads", "1", "--eps", "0.06", "--quiet", "--limit", "120"]
MASK = ["--mask-ratio", "0.2", "--score", "deepcloak", "--evaluation-steps", "2"]
TUNE = ["--method", "tuned", "--tune-steps", "60", "--max-accuracy-drop", "0.3"]
TUNE += ["--evaluation-steps", "2", "--write-anyway"]
ATTACKS = ["--attack", "pgd", "--steps", "2"]

# Called as cloakify, or somebody, might call a file; none is a run's.
STRANGERS = {
    "w.bin": b"another model's weights",
    "h.onnx.0123456789abcdef.data": b"no such content",
    ".h.onnx.abcdefgh.part": b"half of something",
    ".cloakify-x.part": b"too short a name",
}


@dataclass(frozen=True)
class Scenario:
    """A run of a verb.

    Attributes
    ----------
    name
        How it is called.
    command
        The command line, for a folder with ``in/m.onnx`` and ``in/x.npz``; it writes to ``out/``.
    outputs
        Names in ``out/``, each with what tells a whole file of no fixed content from half a one;
        ``None`` where the same run gives the same bytes.
    goes_on
        Whether it keeps what is done in ``in/chunks``, and the same command goes on from there.
    """

    name: str
    command: Callable[[Path], list[str]]
    outputs: dict[str, Callable[[Path], object] | None]
    goes_on: bool = False


def scenarios() -> list[Scenario]:
    """Return all of them."""
    return [
        Scenario("harden", lambda f: _verb(f, "harden", *MASK, "-o", "h.onnx"), {"h.onnx": None}),
        Scenario(
            "harden, report",
            lambda f: _verb(f, "harden", *MASK, "-o", "h.onnx", "--report", "r.json"),
            {"h.onnx": None, "r.json": _is_report},
        ),
        Scenario(
            "harden, folded, state",
            lambda f: _verb(
                f, "harden", *TUNE, "--emit", "fold", "-o", "h.onnx", "--tune-state", "s.npz"
            ),
            # An interrupted tuning ends with what it has found.
            {"h.onnx": _is_model, "s.npz": _is_archive},
        ),
        Scenario(
            "harden, tuned, reports",
            lambda f: _verb(
                f, "harden", *TUNE, "-o", "h.onnx", "--report", "r.html", "--report", "r.cdx.json"
            ),
            {"h.onnx": _is_model, "r.html": _is_page, "r.cdx.json": _is_json},
        ),
        Scenario("attack", lambda f: _verb(f, "attack", *ATTACKS, "-o", "a.npz"), {"a.npz": None}),
        Scenario(
            "evaluate, reports",
            lambda f: _verb(
                f, "evaluate", *ATTACKS, "--queries", "2", "--report", "r.json", "--report", "r.md"
            ),
            {"r.json": _is_report, "r.md": Path.read_text},
        ),
        Scenario(
            "evaluate, resumed",
            lambda f: [
                *_verb(f, "evaluate", *ATTACKS, "--queries", "2", "--report", "r.json"),
                "--resume",
                str(f / "in" / "chunks"),
            ],
            {"r.json": _is_report},
            goes_on=True,
        ),
    ]


def write_inputs(folder: Path, seed: int) -> None:
    """Write a model whose weights lie in a sidecar, and its data; others for every seed."""
    folder.mkdir(parents=True, exist_ok=True)
    write_fragile(folder, 120, seed)
    (folder / "data.npz").replace(folder / "x.npz")
    (folder / "fragile.onnx").unlink()
    message = fragile_model()
    _scale(message, 1 + seed / 2)
    onnx.save_model(
        message, folder / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )


def whole(out: Path, name: str) -> set[str]:
    """Return the files that an output consists of.

    Raises
    ------
    CloakifyError
        It is none.
    """
    if not name.endswith(".onnx"):
        return {name}
    file = open_model(out / name)
    for sidecar, digest in file.digests.items():
        if digest.hex()[:16] not in sidecar:
            raise CloakifyError(f"{sidecar} has another content than its name says")
    file.load_weights()
    return {name, *file.sidecars}


def _verb(folder: Path, verb: str, *options: str) -> list[str]:
    words = [verb, str(folder / "in" / "m.onnx"), "--data", str(folder / "in" / "x.npz"), *QUICK]
    names = (".onnx", ".npz", ".json", ".md", ".html")
    return words + [str(folder / "out" / o) if o.endswith(names) else o for o in options]


def _scale(message: ModelProto, scale: float) -> None:
    head = next(tensor for tensor in message.graph.initializer if tensor.name == "w2")
    values = onnx.numpy_helper.to_array(head) * np.float32(scale)
    head.CopyFrom(onnx.numpy_helper.from_array(values, head.name))


def _is_report(path: Path) -> object:
    return json.loads(path.read_text())["cloakify_version"]


def _is_json(path: Path) -> object:
    return json.loads(path.read_text())


def _is_page(path: Path) -> object:
    text = path.read_text()
    if not text.rstrip().endswith("</html>"):
        raise ValueError("its end is missing")
    return text


def _is_archive(path: Path) -> object:
    with np.load(path, allow_pickle=False) as file:
        return [file[name] for name in file.files]


def _is_model(path: Path) -> object:
    return whole(path.parent, path.name)
