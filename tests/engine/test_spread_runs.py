"""Whole runs in Ray's workers end as those in this process do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloakify.engine.ray_cluster import RayCluster
from tests.engine.runs import (
    EVALUATE,
    HARDEN,
    HARDEN_REPORT,
    MODEL_LABELS,
    Run,
    done,
    name_of,
    new,
    write_inputs,
)

RAY = ("--engine", "ray", "--workers", "2")


@pytest.mark.parametrize("run", [EVALUATE, HARDEN, HARDEN_REPORT, MODEL_LABELS], ids=name_of)
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
