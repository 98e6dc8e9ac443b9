"""Two runs at once never write the same file; whichever began first ends as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.cli.main import run
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from tests.support.classifiers import mlp_classifier

Progress = Callable[[str, int, int], None]
COMMON = {"device": "cpu", "eps": 0.06, "labels": "model"}
TYPED = ["--device", "cpu", "--eps", "0.06", "--labels", "model", "--quiet"]


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    model, data = tmp_path / "m.onnx", tmp_path / "x.npz"
    onnx.save(mlp_classifier(0, 8, 3), model)
    x = np.random.default_rng(0).random((60, 8), np.float32)
    np.savez(data, x=x, y=np.arange(60) % 3)
    return model, data


def started(verb: str, model: Path, data: Path, out: Path, progress: Progress) -> None:
    """Run a verb that writes `out`, whatever it is to it."""
    if verb == "harden":
        quick = {"mask_ratio": 0.1, "score": "deepcloak", "evaluation_steps": 1}
        harden(model, data, out, HardenSetting(**COMMON, **quick), progress)
    elif verb == "tune":
        quick = {"method": "tuned", "tune_steps": 4, "evaluation_steps": 1, "write_anyway": True}
        state = HardenSetting(**COMMON, **quick, max_accuracy_drop=0.5, tune_state=out)
        harden(model, data, out.with_suffix(".other.onnx"), state, progress)
    elif verb == "evaluate":
        setting = EvaluateSetting(**{**COMMON, "eps": (0.06,)}, attack="fgsm", queries=2)
        evaluate(model, data, setting, progress, reports=[out])
    else:
        attack(model, data, out, AttackSetting(**COMMON, steps=1), progress)


@pytest.mark.parametrize(
    ("verb", "name"),
    [("harden", "h.onnx"), ("tune", "s.npz"), ("evaluate", "r.json"), ("attack", "a.npz")],
)
def test_the_later_run_is_refused(
    case: tuple[Path, Path], capsys: pytest.CaptureFixture[str], verb: str, name: str
) -> None:
    model, data = case
    out = model.parent / "out" / name
    out.parent.mkdir()
    said: list[str] = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if not said:
            line = ["harden", str(model), "--data", str(data), *TYPED]
            if out.suffix == ".onnx":
                line += ["-o", str(out)]
            elif out.suffix == ".json":
                line += ["-o", str(out.with_suffix(".onnx")), "--report", str(out)]
            elif verb == "tune":
                line += ["-o", str(out.with_suffix(".onnx")), "--method", "tuned"]
                line += ["--tune-state", str(out)]
            else:
                line = ["attack", str(model), "--data", str(data), *TYPED, "-o", str(out)]
            assert run(line) == 2
            said.extend(capsys.readouterr().err.splitlines())

    started(verb, model, data, out, meanwhile)
    (line,) = said
    assert f"{out}: another run of cloakify is about to write it" in line
    # Nothing is left of the claims, and the next run is not kept from anything.
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]
    started(verb, model, data, out, lambda stage, done, total: None)


def test_parts_of_one_run_share_their_command(case: tuple[Path, Path]) -> None:
    model, data = case
    out, kept = model.parent / "out", model.parent / "kept"
    out.mkdir()
    codes: list[int] = []

    def meanwhile(stage: str, done: int, total: int) -> None:
        if not codes:
            line = ["attack", str(model), "--data", str(data), *TYPED, "--steps", "1"]
            line += ["-o", str(out / "a.npz"), "--resume", str(kept), "--shard", "2/2"]
            codes.append(run(line))

    setting = AttackSetting(**COMMON, steps=1, resume=kept)
    attack(model, data, out / "a.npz", setting, meanwhile)
    assert codes == [0]
