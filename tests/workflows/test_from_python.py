"""What Python hands over goes through each verb to the report, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cloakify.errors import UsageError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.settings.settings import Settings
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify

SAMPLES = 120

FORMS: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {
    "tuple": lambda x, y: (x, y),
    "list": lambda x, y: list(zip(x, y, strict=True)),
    "dict": lambda x, y: {"x": x, "y": y},
    "generator": lambda x, y: (pair for pair in zip(x, y, strict=True)),
}


@pytest.fixture(scope="module")
def arrays(samples: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(samples / "test.npz") as data:
        step = len(data["x"]) // SAMPLES
        return data["x"][::step][:SAMPLES], data["y"][::step][:SAMPLES]


@pytest.mark.parametrize("form", FORMS)
def test_each_verb_takes_it_and_reports_name_it(
    form: str, arrays: tuple[np.ndarray, np.ndarray], samples: Path, tmp_path: Path
) -> None:
    model, make = samples / "fashion_pooled.onnx", FORMS[form]
    options = {"device": "cpu", "eps": 2 / 255}
    made = attack(model, make(*arrays), tmp_path / "a.npz", AttackSetting(attack="fgsm", **options))
    setting = EvaluateSetting(effort="quick", attack="fgsm", **options | {"eps": (2 / 255,)})
    judged = evaluate([model], make(*arrays), setting).report
    chosen = HardenSetting(effort="quick", score="deepcloak", mask_ratio=0.1, **options)
    hardened = harden(model, make(*arrays), tmp_path / "h.onnx", chosen).report
    assert made.clean.value == judged.models[0].clean.value
    for report in (judged, hardened):
        assert report.data.path == f"<{form}>"
        assert f"--data '<{form}>'" in report.command


@pytest.mark.parametrize("setting", [{"eps": 0.1}, "quick", EvaluateSetting()])
def test_settings_of_another_kind_are_refused(setting: Any, samples: Path, tmp_path: Path) -> None:
    model, data = samples / "fashion_pooled.onnx", samples / "test.npz"
    told = rf"setting takes \w+\(…\), made of options by their names, not {type(setting).__name__}"
    with pytest.raises(UsageError, match=told):
        attack(model, data, tmp_path / "a.npz", setting)
    with pytest.raises(UsageError, match=told):
        harden(model, data, tmp_path / "h.onnx", setting)
    if not isinstance(setting, EvaluateSetting):
        with pytest.raises(UsageError, match=told):
            evaluate([model], data, setting)
    assert Settings.of(None) is not None and not list(tmp_path.iterdir())


def test_a_model_in_memory_is_told_to_be_saved(samples: Path, tmp_path: Path) -> None:
    path, data = samples / "fashion_pooled.onnx", samples / "test.npz"
    model: Any = onnx.load(path)
    runs: list[Callable[[], object]] = [
        lambda: attack(model, data, tmp_path / "a.npz"),
        lambda: evaluate(model, data),
        lambda: evaluate([path, model], data),
        lambda: harden(model, data, tmp_path / "h.onnx"),
        lambda: inspect(model),
        lambda: verify(path, model),
        lambda: verify(model, path),
    ]
    for run in runs:
        with pytest.raises(UsageError, match=r"path of its .onnx file, not ModelProto: export or"):
            run()
    assert not list(tmp_path.iterdir())
