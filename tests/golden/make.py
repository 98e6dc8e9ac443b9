"""Golden outputs: small runs of `harden` and `evaluate`, and what came out of them, as a table.

Run it from a repository's root; ``--root`` takes another checkout, of another version::

    python tests/golden/make.py OUT                        every case, three minutes on two cores
    python tests/golden/make.py OUT --only tiny            cases whose name starts with tiny
    python tests/golden/make.py OLD --root ../cloakify-0.1.0 && diff OLD/table.json OUT/table.json

OUT gets the hardened files, the reports and ``table.json``. ``figures.json`` beside this script is
the table of today; a change that means to move a figure copies the new table there and says why.
What is in ``v0.1.0/`` is never made again: it is what users of that version have, and its table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

ROOT = Path(__file__).parents[2]
TINY = Path(__file__).with_name("tiny.onnx")
MODELS = ("tiny", "fashion_keras", "fashion_pooled", "fashion_wide", "fashion_robust")

_BUDGET = "--eps 4/255"
_SMALL = f"--data sample_models/calib --limit 300 --report-limit 40 --evaluation-steps 10 {_BUDGET}"
_TUNED = f"{_SMALL} --method tuned --steps-tune 20 --max-accuracy-drop 0.02"
HARDEN = {
    "auto": f"{_SMALL} --score auto --rounds 1 --max-accuracy-drop 0.02",
    "deepcloak": f"{_SMALL} --score deepcloak --max-accuracy-drop 0.02",
    "ratio": f"{_SMALL} --score deepcloak --mask-ratio 0.05",
    "channel-mul": f"{_TUNED} --gates channel",
    "channel-fold": f"{_TUNED} --emit fold",
    "position-mul": f"{_TUNED} --gates position",
}
"""Options of `harden` by the case's name; every model is hardened with each."""

EVALUATE = (
    "--data sample_models/test.npz --limit 60 --attack apgd,square --steps 10 --queries 40 "
    f"{_BUDGET}"
)
"""Of each source, with what ``ratio`` and ``channel-mul`` made of it."""


@dataclass(frozen=True)
class Case:
    """One command: `harden` with the options called ``kind``, or ``evaluate``."""

    model: str
    kind: str

    @property
    def name(self) -> str:
        return f"{self.model.removeprefix('fashion_')}-{self.kind}"

    def arguments(self, out: Path, root: Path = ROOT) -> list[str]:
        """Return the command line, for the repository's root as working folder."""
        source = str(TINY if self.model == "tiny" else f"sample_models/{self.model}.onnx")
        report = ["--report", str(out / f"{self.name}.json"), "--quiet"]
        if self.kind == "evaluate":
            stem = self.name.removesuffix("evaluate")
            others = [out / f"{stem}{kind}.onnx" for kind in ("ratio", "channel-mul")]
            models = [source, *(str(path) for path in others if path.exists())]
            return ["evaluate", *models, *EVALUATE.split(), *report]
        hardened = ["-o", str(out / f"{self.name}.onnx")]
        options = HARDEN[self.kind].split()
        # Version 0.1.0 wrote a file whatever its verdict, and so is a mask of a given size.
        chosen = "--mask-ratio" not in options and "write_anyway" in _options_of(root)
        return ["harden", source, *options, *["--write-anyway"] * chosen, *hardened, *report]


CASES = tuple(Case(model, kind) for model in MODELS for kind in (*HARDEN, "evaluate"))


def run(case: Case, out: Path, root: Path = ROOT) -> dict[str, Any]:
    """Run a case with the version in ``root``, and return its row of the table.

    An evaluation wants the files of its model's ``ratio`` and ``channel-mul`` in ``out``.
    """
    done = subprocess.run(
        [sys.executable, "-m", "cloakify", *case.arguments(out, root)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"{case.name} exited with {done.returncode}: {done.stderr.strip()}")
    written = out / f"{case.name}.json"
    if not written.exists():  # No gates helped.
        return {"exit": done.returncode, "error": done.stderr.strip()}
    report = json.loads(written.read_text(encoding="utf-8"))
    row: dict[str, Any] = {
        "exit": done.returncode,
        "figures": dict(figures(report)),
    }
    hardened = out / f"{case.name}.onnx"
    if hardened.exists():
        row |= of_file(hardened)
    return row


def _options_of(root: Path) -> str:
    """Return what declares the options of the version in a folder, or nothing."""
    declared = root / "cloakify" / "settings" / "groups.py"
    return declared.read_text(encoding="utf-8") if declared.exists() else ""


def of_file(hardened: Path) -> dict[str, Any]:
    """Return the digests of a hardened file, as it is and without what cloakify says in it."""
    content = hardened.read_bytes()
    model = onnx.ModelProto.FromString(content)
    own = {e.key: e.value for e in model.metadata_props if e.key.startswith("cloakify.")}
    others = [entry for entry in model.metadata_props if entry.key not in own]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    graph = model.SerializeToString(deterministic=True)
    return {"sha256": _sha256(content), "graph_sha256": _sha256(graph), "metadata": own}


def figures(report: Any, where: str = "") -> Iterator[tuple[str, float | str]]:
    """Yield name and value of every measured figure, and the code of every verdict."""
    if isinstance(report, list):
        for place, part in enumerate(report):
            yield from figures(part, f"{where}[{place}]")
    if not isinstance(report, dict):
        return
    if {"value", "low", "high"} <= report.keys():
        yield where, report["value"]
    if {"code", "sentence"} <= report.keys():
        yield f"{where}.code", report["code"]
    for key, part in report.items():
        yield from figures(part, f"{where}.{key}" if where else key)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the golden cases and write their table.")
    parser.add_argument("out", type=Path, help="folder for files, reports and table.json")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to run; default: this")
    parser.add_argument("--only", default="", metavar="START", help="start of the cases' names")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out, table = options.out.resolve(), {}
    for case in CASES:
        if case.name.startswith(options.only):
            print(case.name, flush=True)
            table[case.name] = run(case, out, options.root.resolve())
    (out / "table.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
