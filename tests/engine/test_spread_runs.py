"""Whole runs in Ray's workers end as those in this process do."""

from __future__ import annotations

import gzip
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloakify.engine.ray_cluster import RayCluster
from cloakify.errors import UsageError
from cloakify.settings import AttackSetting
from cloakify.workflows.attack import attack
from tests.data.test_idx import idx
from tests.engine.runs import (
    ATTACK,
    EVALUATE,
    HARDEN,
    HARDEN_REPORT,
    MODEL_LABELS,
    TUNED_FURTHER,
    TUNED_IMAGES,
    Run,
    done,
    name_of,
    new,
    write_inputs,
)
from tests.support.fragile import write_fragile
from tests.support.labelled import write_labelled_fragile
from tests.support.text_models import TextModel

SAMPLES = Path(__file__).parents[2] / "sample_models"

RAY = ("--engine", "ray", "--workers", "2")


@pytest.mark.parametrize(
    "run", [EVALUATE, HARDEN, HARDEN_REPORT, MODEL_LABELS, TUNED_IMAGES, TUNED_FURTHER], ids=name_of
)
def test_the_same_bytes(cluster: RayCluster, tmp_path: Path, run: Run) -> None:
    write_inputs(tmp_path, 60)
    here, there = new(tmp_path, "here"), new(tmp_path, "there")
    for out, more in ((here, ()), (there, RAY)):
        ended = done(run.command(out, *more))
        assert (ended.code, ended.err) == (0, "")
    assert run.result(there) == run.result(here)


def test_chunks_that_are_kept_count_for_either_engine(cluster: RayCluster, tmp_path: Path) -> None:
    write_inputs(tmp_path, 60)
    out, kept = new(tmp_path, "out"), ("--resume", str(tmp_path / "kept"))
    for more in (("--shard", "1/2"), ()):
        ended = done(EVALUATE.command(out, *kept, *RAY, *more))
        assert (ended.code, ended.err) == (0, "")
    spread = EVALUATE.result(out)
    chunks = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert done(EVALUATE.command(out, *kept)).code == 0
    assert EVALUATE.result(out) == spread
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == chunks


def test_the_report_says_who_took_part(cluster: RayCluster, tmp_path: Path) -> None:
    write_inputs(tmp_path, 60)
    out = new(tmp_path, "out")
    assert done(EVALUATE.command(out, *RAY)).code == 0
    report = json.loads((out / EVALUATE.output).read_text())
    (kind,) = report["engine"]["workers"]
    assert 1 <= kind["count"] <= 2 and kind["provider"] == "CPUExecutionProvider"
    assert report["engine"]["seconds"] > 0 and report["timing"]["attack"] > 0
    assert "ray" not in report["command"]


def write_unpacked(folder: Path, kind: str) -> tuple[Path, Path]:
    """Write data that each process unpacks for itself; return a model and where they are."""
    model = SAMPLES / "fashion_pooled.onnx"
    if kind == "csv.gz":
        model, stored = write_fragile(folder, 60)
        with np.load(stored) as arrays:
            table = np.column_stack([arrays["x"], arrays["y"]])
        header = ",".join([*"abcdefgh", "label"])
        # By its ending NumPy compresses it.
        path = folder / f"data.{kind}"
        np.savetxt(path, table, "%.9g", delimiter=",", header=header, comments="")
        return model, path
    if kind == "idx.gz":
        with np.load(SAMPLES / "test.npz") as arrays:
            x, y = np.rint(arrays["x"][:60, 0] * 255).astype(np.uint8), arrays["y"][:60]
        for name, values in (("images-idx3", x), ("labels-idx1", y.astype(np.uint8))):
            (folder / f"test-{name}-ubyte.gz").write_bytes(gzip.compress(idx(values)))
        return model, folder / "test-images-idx3-ubyte.gz"
    for number, file in enumerate(sorted((SAMPLES / "calib").rglob("*.png"))[::20]):
        with zipfile.ZipFile(folder / f"{number % 2}.zip", "a") as archive:
            archive.write(file, file.relative_to(SAMPLES / "calib"))
    return model, folder / "*.zip"


@pytest.mark.parametrize("kind", ["ids", "labels", "images", "zip", "idx.gz", "csv.gz"])
def test_the_same_bytes_of_other_kinds(cluster: RayCluster, tmp_path: Path, kind: str) -> None:
    """Attacks inside the graph, independent labels, images that are decoded, data to unpack."""
    options: dict[str, Any] = {"device": "cpu", "batch_size": 2, "steps": 3, "eps": 0.06}
    if kind == "ids":
        model, data = TextModel().save(tmp_path, samples=60)
    elif kind == "labels":
        model, data = write_labelled_fragile(tmp_path)
        options["limit"] = 60
    elif kind != "images":
        model, data = write_unpacked(tmp_path, kind)
    else:
        model, data = SAMPLES / "fashion_pooled.onnx", SAMPLES / "calib"
        options["limit"] = 60
    results = []
    for number, more in enumerate(({}, {"engine": "ray", "workers": 2})):
        out = tmp_path / f"{number}.npz"
        found = attack(model, data, out, AttackSetting(**options, **more))
        results.append((out.read_bytes(), found.clean, found.attacked, found.labels))
    assert results[0] == results[1]


@pytest.mark.parametrize("verb", ["evaluate", "harden"])
def test_given_copies_are_opened_by_the_workers(
    cluster: RayCluster, tmp_path: Path, verb: str
) -> None:
    write_inputs(tmp_path, 60)
    copies = new(tmp_path, "copies")
    assert done(ATTACK.command(copies)).code == 0
    run = EVALUATE if verb == "evaluate" else replace(HARDEN_REPORT, options=HARDEN.options[:2])
    here, there = new(tmp_path, "here"), new(tmp_path, "there")
    given = ("--attacked", str(copies / ATTACK.output))
    for out, more in ((here, ()), (there, RAY)):
        ended = done(run.command(out, *given, *more))
        assert ended.code in (0, 1) and "Error" not in ended.err, ended.err
    assert run.result(there) == run.result(here)


def test_samples_of_this_process_alone_are_refused(cluster: RayCluster, tmp_path: Path) -> None:
    write_inputs(tmp_path, 60)
    arrays = np.load(tmp_path / "in" / "data.npz")
    setting = AttackSetting(device="cpu", engine="ray", workers=2)
    with pytest.raises(UsageError, match="workers can't open <list>"):
        attack(
            tmp_path / "in" / "fragile.onnx",
            list(zip(arrays["x"], arrays["y"], strict=True)),
            tmp_path / "a.npz",
            setting,
        )
