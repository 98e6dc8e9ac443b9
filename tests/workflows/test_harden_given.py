"""`harden --attacked`: a user's own attacked copies calibrate in the attack's place."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cloakify.cli.main import run
from cloakify.report import as_document, load_schema
from cloakify.settings import HardenSetting
from cloakify.workflows.harden import harden

EPS = ["--eps", "4/255"]
QUICK = ["--limit", "120", "--device", "cpu", "--score", "deepcloak", "--evaluation-steps", "3"]
QUICK += ["--write-anyway"]


@pytest.fixture(scope="module")
def copies(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What FGSM makes of the 120 images, by `cloakify attack`."""
    path = tmp_path_factory.mktemp("given") / "copies.npz"
    model = str(samples / "fashion_pooled.onnx")
    arguments = ["attack", model, "--data", str(samples / "calib"), "--attack", "fgsm", *EPS]
    assert run([*arguments, "--limit", "120", "--device", "cpu", "-o", str(path)]) == 0
    return path


def arguments(samples: Path, output: Path, *more: str) -> list[str]:
    model = str(samples / "fashion_pooled.onnx")
    data = ["--data", str(samples / "calib")]
    return ["harden", model, *data, "-o", str(output), *EPS, *QUICK, *more]


def test_copies_made_by_the_attack_make_its_mask(
    samples: Path, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = []
    for number, more in enumerate(([], ["--attacked", str(copies)])):
        assert run(arguments(samples, tmp_path / f"{number}.onnx", "--json", *more)) == 0
        documents.append(json.loads(capsys.readouterr().out))
    plain, given = documents
    assert given["mask"] == plain["mask"] and given["accuracy"] == plain["accuracy"]
    assert (plain["attack"]["name"], given["attack"]["name"]) == ("fgsm", "given")
    assert plain["copies"] is None
    assert given["copies"]["path"] == str(copies)
    assert [{**at, "eps": None} for at in given["copies"]["within"]] == [
        {"eps": None, "counted": 120, "outside_ball": 0, "outside_box": 0}
    ]


def test_copies_beyond_the_budget_are_told_of(samples: Path, copies: Path, tmp_path: Path) -> None:
    with np.load(copies) as arrays:
        far = dict(arrays)
    far["x"][:7] = np.where(far["x"][:7] > 0.5, 0.0, 1.2)
    np.savez(tmp_path / "far.npz", **far)
    setting = HardenSetting(eps=4 / 255, limit=120, score="auto", evaluation_steps=3, device="cpu")
    result = harden(
        samples / "fashion_pooled.onnx",
        samples / "calib",
        tmp_path / "h.onnx",
        setting,
        attacked=tmp_path / "far.npz",
    )
    assert "7 lie outside the budget and 7 outside the box" in " ".join(result.notes)
    assert not (result.report.mask.score or "").endswith("round 2")
    jsonschema = pytest.importorskip("jsonschema", reason="validates the report")
    jsonschema.validate(as_document(result.report), load_schema())


def test_what_cannot_be(
    samples: Path, copies: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "h.onnx"
    given = ["--attacked", str(copies)]
    score = ["--score", "auto"]
    assert run(arguments(samples, output, *given, *score, "--method", "tuned")) == 2
    assert run([*arguments(samples, output, *given), "--limit", "130"]) == 4
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert "--method tuned" in errors[0] and "no attacked copy of sample" in errors[1]
    assert not output.exists()
