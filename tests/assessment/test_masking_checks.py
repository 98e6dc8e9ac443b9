"""`harden` on models that hide their gradients, or have none: it says so, and claims nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cloakify.assessment.masking_checks import codes_in_doubt, over_budget
from cloakify.errors import ModelError
from cloakify.evaluation import (
    Difference,
    EvaluationWarning,
    VerdictCode,
    WarningCode,
    judge,
)
from cloakify.settings import HardenSetting, MaskingOptions
from cloakify.workflows.harden import HardenResult, harden
from tests.support.planted import Planted, plant


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


def run(planted: Planted, defence: str | None, output: Path, **changes: object) -> HardenResult:
    settings = {"mask_ratio": 0.1, "score": "deepcloak", "evaluation_steps": 3, "eps": 0.1}
    setting = HardenSetting(**{**settings, "device": "cpu", **changes})  # type: ignore[arg-type]
    return harden(planted.model(defence), planted.data, output, setting)


def codes(result: HardenResult) -> set[str]:
    return {warning.code for warning in result.report.warnings}


def test_an_ordinary_model_raises_no_doubt(planted: Planted, tmp_path: Path) -> None:
    assert codes(run(planted, None, tmp_path / "h.onnx")) == set()


@pytest.mark.parametrize(
    ("defence", "wanted"),
    [
        ("softmax-inside", {"loss-on-probabilities", "zero-gradients"}),
        ("random-layer", {"randomised-outputs"}),
        ("shattered", {"shattered-gradients"}),
        ("largest", {"shattered-gradients"}),
    ],
)
def test_masked_gradients_are_seen(
    planted: Planted, tmp_path: Path, defence: str, wanted: set[str]
) -> None:
    result = run(planted, defence, tmp_path / "h.onnx")
    assert wanted <= codes(result)
    assert result.report.verdict.code != "hardened"


def test_no_gradient_at_all(planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no gradient reaches the input"):
        run(planted, "quantised-input", tmp_path / "h.onnx")
    result = run(planted, "quantised-input", tmp_path / "h.onnx", attack="square", steps=20)
    assert "no-white-box-attack" in codes(result)
    assert result.report.evaluation_attack.gradient == "gradient-free"
    assert result.report.verdict.code != "hardened"


def test_near_copies_of_what_chose_the_mask(planted: Planted, tmp_path: Path) -> None:
    """What was fitted to a sample holds for its like, and on others it may not."""
    with np.load(planted.data) as arrays:
        x, y = arrays["x"][:24], arrays["y"][:24]
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, (4, *x.shape)).astype(np.float32)
    copied = np.clip(x + noise, 0, 1).reshape(-1, *x.shape[1:])
    np.savez(tmp_path / "copied.npz", x=copied, y=np.tile(y, 4))
    near = replace(planted, data=tmp_path / "copied.npz")
    result = run(near, None, tmp_path / "h.onnx", eps=0.02)
    (warning,) = result.report.warnings
    assert warning.code == "near-copies" and warning.value > 0.9
    assert result.report.verdict.code != "hardened"
    # They are that at this budget only.
    assert codes(run(near, None, tmp_path / "h.onnx", eps=0.002)) == set()


@pytest.mark.parametrize("code", WarningCode)
def test_warnings_that_put_accuracies_in_doubt_forbid_to_claim_a_gain(code: WarningCode) -> None:
    gain = Difference(0.2, 0.1, 0.3, 100)
    doubts = codes_in_doubt([EvaluationWarning(code, "seen", 0.5)])
    hardened = judge(gain, doubts=doubts).code is VerdictCode.HARDENED
    harmless = {"saturated-outputs", "distance-is-a-budget", "attacks-untested", "sums-cut-off"}
    assert hardened == (code in harmless)


@pytest.mark.parametrize(
    ("value", "high", "ratio", "told"),
    [
        (-0.08, -0.03, None, True),
        # Luck explains it, nothing was lost, or the user said how much to mask.
        (-0.04, -0.01, None, False),
        (0.02, 0.05, None, False),
        (-0.08, -0.03, 0.1, False),
    ],
)
def test_no_gain_is_claimed_at_a_price_above_the_budget(
    value: float, high: float, ratio: float | None, told: bool
) -> None:
    masking = MaskingOptions(max_accuracy_drop=0.02, ratio=ratio)
    warning = over_budget(Difference(value, 2 * value - high, high, 250), masking)
    assert (warning is not None) == told
    if warning is not None:
        assert (
            "falls by 8.0 points (95 % interval 3.0 to 13.0), and by 2 at most" in warning.message
        )
        assert codes_in_doubt([warning]) == ["accuracy-drop-exceeded"]
