"""What version 0.1.0 (commit 5f377a4) wrote is still read, and still written.

``v0.1.0/`` holds files and reports of that version, and what it made of all cases of
`tests.golden.make`; ``figures.json`` is what the version of today makes of them. Which samples an
attack fools may differ in a few cases from one CPU to the next, and with them what is chosen under
attack; so a run is held to the figures within two samples, and bytes are compared where they follow
from what was chosen. On the machine that a table was made on, ``diff`` of two tables compares all
bytes.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.gates import insert_gates, read_gates
from cloakify.graph.edit.mask import insert_mask
from cloakify.onnxfile import open_model, read_metadata
from cloakify.report import as_document, load_schema
from cloakify.report.facts import verdicts
from cloakify.report.html import render_html
from cloakify.report.json_report import read_json
from cloakify.report.markdown import escape, render_markdown
from cloakify.report.records import SCHEMA_VERSION
from cloakify.verification.gate_edit import gated_sites
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify
from tests.golden.make import CASES, HARDEN, MODELS, TINY, Case, of_file, run

HERE = Path(__file__).parent
KEPT = HERE / "v0.1.0"
HARDENED = [Case("tiny", kind).name for kind in HARDEN]
THEN: dict[str, Any] = json.loads((KEPT / "figures.json").read_text(encoding="utf-8"))
TODAY: dict[str, Any] = json.loads((HERE / "figures.json").read_text(encoding="utf-8"))
# How far a run on another CPU may stray: two samples of the fewest that a case reports on.
SAMPLES = 2 / 40


def kept_report(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    return report


@pytest.mark.parametrize("name", HARDENED)
def test_a_kept_file_is_the_one_of_the_table(name: str) -> None:
    assert of_file(KEPT / f"{name}.onnx").items() <= THEN[name].items()


@pytest.mark.parametrize("name", HARDENED)
def test_a_kept_file_is_verified(name: str) -> None:
    result = verify(KEPT / f"{name}.onnx", TINY, "cpu")
    assert (result.faults, result.remarks) == ((), ())


@pytest.mark.parametrize("name", HARDENED)
def test_a_kept_file_is_inspected(name: str) -> None:
    seen, report = inspect(KEPT / f"{name}.onnx").to_dict(), kept_report(name)
    head = report["head"]
    if report["mask"]["method"] == "deepcloak":
        head |= {"features": "cloakify_masked_features"}
    assert seen["head"] == head
    assert seen["mask"] == {key: report["mask"][key] for key in ("removed", "total")}
    assert seen["sha256"] == report["output"]["sha256"]
    assert seen["gradient"]["missing"] == ()
    said = {f"cloakify.{key}": value for key, value in seen["cloakify"].items()}
    assert said == THEN[name]["metadata"]


@pytest.mark.parametrize("kind", ["auto", "deepcloak", "ratio"])
def test_the_same_mask_makes_the_same_bytes(kind: str) -> None:
    name = Case("tiny", kind).name
    source, then = open_model(TINY), open_model(KEPT / f"{name}.onnx")
    head = find_head(source.model).head
    mask = np.ones(head.num_features)
    mask[kept_report(name)["mask"]["indices"]] = 0
    model = insert_mask(source.model, head, mask, read_metadata(then.model))
    assert model.SerializeToString() == then.path.read_bytes()


@pytest.mark.parametrize("kind", ["channel-mul", "position-mul"])
def test_the_same_gates_make_the_same_bytes(kind: str) -> None:
    source, then = open_model(TINY), open_model(KEPT / f"{Case('tiny', kind).name}.onnx")
    head = find_head(source.model).head
    sites = gated_sites(source.model, head, "all", kind.removesuffix("-mul"), "mul", shifts=False)
    model = insert_gates(source.model, sites, read_gates(then.model), read_metadata(then.model))
    assert model.SerializeToString() == then.path.read_bytes()


@pytest.mark.parametrize("name", [*HARDENED, "tiny-evaluate"])
def test_a_kept_report_fits_the_schema(name: str) -> None:
    """Within a schema version fields are only added, and none that is added is required."""
    jsonschema = pytest.importorskip("jsonschema")
    report = kept_report(name)
    if report["schema_version"] == SCHEMA_VERSION:
        jsonschema.Draft202012Validator(load_schema()).validate(report)


@pytest.mark.parametrize("name", [*HARDENED, "tiny-evaluate"])
def test_a_kept_report_is_read_and_written_again(name: str) -> None:
    text = (KEPT / f"{name}.json").read_text(encoding="utf-8")
    report = read_json(text)
    assert kept_in(json.loads(text), as_document(report))
    for _, sentence in verdicts(report):
        assert escape(sentence) in render_markdown(report)
        assert sentence in html.unescape(render_html(report))


@pytest.mark.parametrize("name", ["tiny-ratio", "tiny-channel-mul"])
def test_a_run_of_today(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_all_runs_of_today(model: str, tmp_path: Path) -> None:
    for case in CASES:
        if case.model == model:
            check(case.name, tmp_path)


def check(name: str, out: Path) -> None:
    """Run a case; hold it to the table, its report to the fields of old, its file to the proof."""
    (case,) = (case for case in CASES if case.name == name)
    row, then = run(case, out), TODAY[name]
    assert row["exit"] == then["exit"]
    if "figures" not in then:
        assert row["error"] == then["error"]
        return
    assert row["figures"].keys() == then["figures"].keys()
    for figure, value in then["figures"].items():
        # The nearest misclassified points are on no scale of samples.
        near = {"rel": 0.1} if "distance" in figure else {"abs": SAMPLES + 1e-9}
        expected = (
            value if isinstance(value, str) or value is None else pytest.approx(value, **near)
        )
        assert row["figures"][figure] == expected, figure
    if case.kind == "evaluate":
        return
    assert row["metadata"].keys() >= then["metadata"].keys()
    source = TINY if case.model == "tiny" else HERE.parents[1] / f"sample_models/{case.model}.onnx"
    assert verify(out / f"{name}.onnx", source, "cpu").faults == ()
    if case.model == "tiny":
        report = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        assert set(fields(kept_report(name))) <= set(fields(report))
        old, new = (set(each["mask"]["indices"]) for each in (kept_report(name), report))
        assert len(old & new) >= 0.9 * len(old | new)


def kept_in(old: object, new: object) -> bool:
    """Tell whether all that an older report holds stands in a newer one, which may hold more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and kept_in(part, new[key]) for key, part in old.items())
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return all(map(kept_in, old, new))
    return type(old) is type(new) and old == new


def fields(report: object, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield where each value of a report is, and of what JSON type; lists count as one value."""
    if isinstance(report, Mapping):
        for key, part in report.items():
            yield from fields(part, f"{where}.{key}")
    else:
        kind = "number" if isinstance(report, int | float) else type(report).__name__
        yield where, kind
