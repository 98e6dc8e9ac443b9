"""Every verb takes a model with one logit for one of two classes, and its file keeps its form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.data import split
from cloakify.errors import ModelError
from cloakify.onnxfile import open_model
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import HardenResult, harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify
from tests.support.one_logit import FEATURES, OneLogit

EPS = 0.03
SAMPLES = 240


@pytest.fixture(scope="module")
def network() -> OneLogit:
    return OneLogit()


@pytest.fixture(scope="module")
def data(network: OneLogit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("one-logit") / "data.npz"
    x = np.random.default_rng(5).random((SAMPLES, FEATURES), np.float32)
    np.savez(path, x=x, y=(network.logit(x) > 0).astype(np.int64))
    return path


def hardened(model: onnx.ModelProto, data: Path, path: Path, **more: object) -> HardenResult:
    onnx.save(model, path)
    options = {"eps": EPS, "device": "cpu", "mask_ratio": 0.25, "evaluation_steps": 3, "rounds": 1}
    setting = HardenSetting(**{**options, **more})  # type: ignore[arg-type]
    return harden(path, data, path.with_suffix(".out.onnx"), setting)


@pytest.mark.parametrize(
    ("ending", "score"), [("squeezed sigmoid", "margin"), ("both", "auto"), ("answer", "relaxed")]
)
def test_harden_does_what_it_does_to_two_logits(
    network: OneLogit, data: Path, tmp_path: Path, ending: str, score: str
) -> None:
    one = hardened(network.model(ending), data, tmp_path / "one.onnx", score=score)
    two = hardened(network.twin(), data, tmp_path / "two.onnx", score=score)
    assert one.report.mask == two.report.mask
    assert one.report.accuracy == two.report.accuracy
    assert one.report.verdict == two.report.verdict
    assert one.report.head.num_classes == 2
    assert one.path is not None
    assert verify(one.path, tmp_path / "one.onnx", "cpu").faults == ()
    before, after = onnx.load(tmp_path / "one.onnx"), onnx.load(one.path)
    assert after.graph.output == before.graph.output
    assert len(after.graph.node) == len(before.graph.node) + 1


def test_mask_equals_an_independent_recomputation(
    network: OneLogit, data: Path, tmp_path: Path
) -> None:
    """FGSM by the network's own derivative in double, the paper's ranking by a plain sum."""
    result = hardened(network.model(), data, tmp_path / "m.onnx", score="deepcloak")
    with np.load(data) as file:
        x, y = file["x"].astype(np.float64), file["y"]
    fit = split(SAMPLES, y, 0).fit
    uphill = np.sign(network.slope(x[fit])) * np.where(y[fit] == 0, 1, -1)[:, None]
    moved = network.features(np.clip(x[fit] + EPS * uphill, 0, 1)) - network.features(x[fit])
    shift = np.abs(moved).sum(axis=0)
    expected = sorted(np.argsort(-shift, kind="stable")[: len(shift) // 4].tolist())
    assert list(result.report.mask.indices) == expected


def test_tuned_gates(network: OneLogit, data: Path, tmp_path: Path) -> None:
    options = {"method": "tuned", "mask_ratio": None, "rounds": None, "tune_steps": 60}
    more = {**options, "max_accuracy_drop": 0.5, "emit": "fold", "write_anyway": True}
    one = hardened(network.model(), data, tmp_path / "one.onnx", **more)
    two = hardened(network.twin(), data, tmp_path / "two.onnx", **more)
    np.testing.assert_allclose(
        one.report.accuracy.hardened.adaptive.value, two.report.accuracy.hardened.adaptive.value
    )
    assert one.path is not None
    assert verify(one.path, tmp_path / "one.onnx", "cpu").faults == ()


def test_evaluate_and_attack(network: OneLogit, data: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    onnx.save(network.model("answer"), paths[0])
    onnx.save(network.twin(), paths[1])
    report = evaluate(
        paths, data, EvaluateSetting(eps=(EPS,), steps=5, queries=20, limit=60, device="cpu")
    ).report
    one, two = report.models
    assert one.clean == two.clean
    assert one.robust == two.robust
    assert report.data.num_classes == 2
    output = tmp_path / "adv.npz"
    found = attack(paths[0], data, output, AttackSetting(eps=EPS, steps=5, device="cpu"))
    with np.load(output) as file:
        answers = ort.InferenceSession(paths[0]).run(["y"], {"x": file["x"]})[0][:, 0]
        assert found.attacked.value == pytest.approx((answers == file["y"]).mean())


def test_its_own_answers_are_labels_where_it_surely_has_some(
    network: OneLogit, data: Path, tmp_path: Path
) -> None:
    sure, bare = tmp_path / "sure.onnx", tmp_path / "bare.onnx"
    onnx.save(network.model("sigmoid"), sure)
    onnx.save(network.model("logit"), bare)
    options = {"labels": "model", "eps": EPS, "steps": 1, "device": "cpu"}
    found = attack(sure, data, tmp_path / "a.npz", AttackSetting(**options))
    assert found.clean.value == 1
    with pytest.raises(ModelError, match="a regression's or the logit of two classes"):
        attack(bare, data, tmp_path / "b.npz", AttackSetting(**options))
    said = AttackSetting(**options, task="binary")
    assert attack(bare, data, tmp_path / "b.npz", said).clean.value == 1


def test_a_threshold_is_given(network: OneLogit, data: Path, tmp_path: Path) -> None:
    path, other = tmp_path / "m.onnx", tmp_path / "other.npz"
    onnx.save(network.model("both"), path)
    with np.load(data) as file:
        probability = 1 / (1 + np.exp(-network.logit(file["x"])))
        np.savez(other, x=file["x"], y=(probability > 0.9).astype(np.int64))
    setting = AttackSetting(threshold=0.9, eps=EPS, steps=1, device="cpu")
    assert attack(path, other, tmp_path / "a.npz", setting).clean.value == 1
    assert attack(path, other, tmp_path / "b.npz", setting.replace(threshold=0.5)).clean.value < 1


def test_inspect_says_so(network: OneLogit, tmp_path: Path) -> None:
    onnx.save(network.model("answer", 0.3), tmp_path / "m.onnx")
    found = inspect(tmp_path / "m.onnx")
    assert found.answers == (
        "one of two classes by a single logit (Sigmoid 'p'), class 1 from a probability of 0.3"
    )
    task = found.to_dict()["task"]
    assert isinstance(task, dict)
    assert (task["name"], task["num_classes"]) == ("binary", 2)
    assert open_model(tmp_path / "m.onnx").model.graph.output[0].name == "y"


def test_the_sample_model_of_one_logit_is_hardened_and_proven(tmp_path: Path) -> None:
    """A Keras export, whose classes its metadata name."""
    root = Path(__file__).parents[2] / "sample_models"
    source, path = root / "fashion_shirt.onnx", tmp_path / "hardened.onnx"
    setting = HardenSetting(eps=4 / 255, device="cpu", mask_ratio=0.25, evaluation_steps=2)
    result = harden(source, root / "shirts.npz", path, setting)
    assert result.report.head.num_classes == 2
    assert result.report.mask.removed == 16
    assert result.class_names == ("other", "shirt")
    proof = verify(path, source, "cpu")
    assert proof.faults == ()
    assert "16 of 64 features" in proof.summary
