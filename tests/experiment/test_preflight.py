"""What a model answers is looked at before anything is attacked."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.errors import DataError, ModelError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from tests.support.planted import Planted, plant

VERBS = {
    "attack": lambda model, data, out: attack(
        model, data, out / "a.npz", AttackSetting(eps=4 / 255, steps=2, device="cpu")
    ),
    "evaluate": lambda model, data, out: evaluate(
        model, data, EvaluateSetting(eps=(0.05,), attack="fgsm", device="cpu")
    ),
    "harden": lambda model, data, out: harden(
        model,
        data,
        out / "h.onnx",
        HardenSetting(eps=4 / 255, evaluation_steps=2, score="deepcloak", device="cpu"),
    ),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_an_answer_that_is_never_the_heads(planted: Planted, tmp_path: Path, verb: str) -> None:
    """Its data are all right: clean accuracy near chance would be the wrong reason."""
    with pytest.raises(ModelError, match=r"samples it answers with another class than its head"):
        VERBS[verb](planted.model("overruled"), planted.data, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_logits_that_are_no_numbers(planted: Planted, tmp_path: Path, verb: str) -> None:
    model = onnx.load(planted.model())
    (tensor,) = (each for each in model.graph.initializer if each.name == "W")
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, "W"))
    path = tmp_path / "broken.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"no numbers \(NaN\)"):
        VERBS[verb](path, planted.data, tmp_path)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_wrong_labels(planted: Planted, tmp_path: Path, verb: str) -> None:
    with np.load(planted.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    data = tmp_path / "turned.npz"
    np.savez(data, x=x, y=(y + 1) % (y.max() + 1))
    with pytest.raises(DataError, match="near chance"):
        VERBS[verb](planted.model(), data, tmp_path)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_what_is_odd_about_the_data_is_said_with_it(
    samples: Path, tmp_path: Path, verb: str
) -> None:
    """Folders 1 to 10 sort as 1, 10, 2, …: all classes but the first are wrong ones."""
    for index, folder in enumerate(sorted((samples / "calib").iterdir())):
        new = tmp_path / "calib" / str(index + 1)
        new.mkdir(parents=True)
        for image in sorted(folder.iterdir())[:20]:
            shutil.copy(image, new)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match=r"near chance.*folder 1 is class 0"):
        VERBS[verb](samples / "fashion_keras.onnx", tmp_path / "calib", tmp_path / "out")


def test_an_answer_that_is_sometimes_anothers(planted: Planted, tmp_path: Path) -> None:
    result = VERBS["attack"](planted.model("dark"), planted.data, tmp_path)
    (note,) = result.notes
    assert "another answer from the whole model than from its head" in note


def test_a_few_samples_may_all_be_wrong(planted: Planted, tmp_path: Path) -> None:
    with np.load(planted.data) as arrays:
        x, y = arrays["x"][:5], arrays["y"][:5]
    data = tmp_path / "turned.npz"
    np.savez(data, x=x, y=(y + 1) % 3)
    assert VERBS["attack"](planted.model(), data, tmp_path).clean.value < 0.5


def test_small_logits_are_judged_by_their_ratios(planted: Planted, tmp_path: Path) -> None:
    """Scaled down, a model is as robust as before, but the cross-entropy tells of it less."""

    def judged(defence: str | None, **changes: object) -> tuple[str, float]:
        setting = HardenSetting(
            eps=0.04,
            score="deepcloak",
            mask_ratio=0.1,
            evaluation_steps=20,
            device="cpu",
            **changes,
        )
        found = harden(planted.model(defence), planted.data, tmp_path / "h.onnx", setting)
        assert found.report.evaluation_attack.name in ("apgd", "apgd-dlr")
        accuracy = found.report.accuracy.source.adaptive.value
        return found.report.evaluation_attack.name, accuracy

    assert judged(None)[0] == "apgd"
    name, tiny = judged("tiny")
    assert name == "apgd-dlr"
    assert tiny == pytest.approx(judged(None, evaluation_attack="apgd-dlr")[1], abs=0.05)
    # Who asks for the cross-entropy gets it.
    assert judged("tiny", evaluation_attack="apgd")[0] == "apgd"
