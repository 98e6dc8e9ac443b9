"""What a model answers is looked at before anything is attacked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession
from scipy.stats import binomtest

from cloakify.errors import DataError, ModelError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from tests.support.planted import CLASSES, Planted, plant

VERBS = {
    "attack": lambda model, data, out, **more: attack(
        model, data, out / "a.npz", AttackSetting(eps=4 / 255, steps=2, device="cpu", **more)
    ),
    "evaluate": lambda model, data, out, **more: evaluate(
        model, data, EvaluateSetting(eps=(0.05,), attack="fgsm", device="cpu", **more)
    ),
    "harden": lambda model, data, out, **more: harden(
        model,
        data,
        out / "h.onnx",
        HardenSetting(eps=4 / 255, evaluation_steps=2, score="deepcloak", device="cpu", **more),
    ),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_an_answer_that_is_never_the_heads(planted: Planted, tmp_path: Path, verb: str) -> None:
    """Its data are all right: clean accuracy near chance would be the wrong reason."""
    with pytest.raises(ModelError, match=r"samples it answers with another class than its scores"):
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
def test_wrong_order(planted: Planted, tmp_path: Path, verb: str) -> None:
    with np.load(planted.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    data = tmp_path / "turned.npz"
    np.savez(data, x=x, y=(y + 1) % (y.max() + 1))
    with pytest.raises(DataError, match=r"with the classes in another order.*--classes 1,2,3,0;"):
        VERBS[verb](planted.model(), data, tmp_path)
    VERBS[verb](planted.model(), data, tmp_path, classes="1,2,3,0")


def test_columns_in_another_order(planted: Planted, tmp_path: Path) -> None:
    """A table says nothing of which column is which input; low accuracy may well be that."""
    random = np.random.default_rng(0)
    weight, x = random.normal(size=(6, 3)), random.random((300, 6), np.float32)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        rows (float[N, 6] x) => (float[N, 3] logits) { logits = MatMul (x, weight) }"""
    )
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(weight.astype(np.float32), "weight")
    )
    onnx.save(model, tmp_path / "rows.onnx")
    table = np.column_stack([x, random.permutation(np.arange(300) % 3)])
    header = "a,b,c,d,e,f,label"
    np.savetxt(tmp_path / "t.csv", table, "%.6g", delimiter=",", header=header, comments="")
    with pytest.raises(DataError, match=r"--std\), the order of the columns and the labels"):
        VERBS["evaluate"](tmp_path / "rows.onnx", tmp_path / "t.csv", tmp_path)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_low_accuracy(planted: Planted, tmp_path: Path, verb: str) -> None:
    with np.load(planted.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    data = tmp_path / "mixed.npz"
    np.savez(data, x=x, y=np.random.default_rng(0).permutation(y))
    with pytest.raises(DataError, match=r"low for 4 classes.*--accept-accuracy goes on"):
        VERBS[verb](planted.model(), data, tmp_path)
    VERBS[verb](planted.model(), data, tmp_path, accept_accuracy=True)


def folders(samples: Path, tmp_path: Path, name: Callable[[str], str]) -> Path:
    """Link to the bundled class folders by other names."""
    data = tmp_path / "calib"
    data.mkdir()
    for folder in sorted((samples / "calib").iterdir()):
        (data / name(folder.name)).symlink_to(folder)
    return data


def test_plain_folder_names(samples: Path, tmp_path: Path) -> None:
    """A few of ten fall in place: accuracy is above chance, and low."""
    data = folders(samples, tmp_path, lambda name: name[2:])
    model = samples / "fashion_keras.onnx"
    with pytest.raises(DataError, match="in another order") as error:
        VERBS["attack"](model, data, tmp_path)
    (order,) = re.findall(r"--classes (\S+);", str(error.value))
    found = VERBS["attack"](model, data, tmp_path, classes=order)
    assert found.clean.value > 0.85
    assert found.class_names == tuple(order.split(","))


def test_numbered_folders_fit(samples: Path, tmp_path: Path) -> None:
    data = folders(samples, tmp_path, lambda name: str(int(name[0]) + 1))
    result = VERBS["attack"](samples / "fashion_keras.onnx", data, tmp_path)
    assert result.clean.value > 0.85
    assert "folder 2 is class 1" in result.notes[0]


def test_the_model_says_its_order(samples: Path, tmp_path: Path) -> None:
    data = folders(samples, tmp_path, lambda name: name[2:])
    model = onnx.load(samples / "fashion_keras.onnx")
    order = [folder.name[2:] for folder in sorted((samples / "calib").iterdir())]
    onnx.helper.set_model_props(model, {"names": str(dict(enumerate(order)))})
    onnx.save(model, tmp_path / "named.onnx")
    found = VERBS["attack"](tmp_path / "named.onnx", data, tmp_path)
    assert found.clean.value > 0.85


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


@pytest.mark.parametrize(("right", "count"), [(3, 60), (6, 63), (1, 24)])
def test_few_samples_answered_as_a_guess_would(
    planted: Planted, tmp_path: Path, right: int, count: int
) -> None:
    """What was picked for being wrong has no right answers; what a guess gets has some."""
    data = answered(planted, tmp_path, right, count)
    chance = binomtest(right, count, 0.4, alternative="less").pvalue
    assert chance < 0.05
    with pytest.raises(DataError, match=rf"\({right} of {count}\), low for 4 classes.*goes on"):
        VERBS["attack"](planted.model(), data, tmp_path)
    assert not (tmp_path / "a.npz").exists()
    found = VERBS["attack"](planted.model(), data, tmp_path, accept_accuracy=True)
    assert not any("picked" in note for note in found.notes)


@pytest.mark.parametrize(
    ("right", "count", "told"), [(0, 20, True), (0, 5, True), (0, 2, False), (2, 6, False)]
)
def test_few_samples_that_may_have_been_picked(
    planted: Planted, tmp_path: Path, right: int, count: int, told: bool
) -> None:
    found = VERBS["attack"](planted.model(), answered(planted, tmp_path, right, count), tmp_path)
    assert found.clean.value == right / count
    assert told == any("unless these samples were picked for that" in note for note in found.notes)


@pytest.mark.parametrize("verb", sorted(VERBS))
@pytest.mark.parametrize("kind", ["right", "noise", "soft"])
def test_far_surer_than_right(planted: Planted, tmp_path: Path, verb: str, kind: str) -> None:
    """Where half of the labels are drawn anew, and where a model knows that it may be wrong."""
    with np.load(planted.data) as arrays:
        x = arrays["x"]
    random = np.random.default_rng(0)
    y = InferenceSession(planted.model("saturated")).run(None, {"x": x})[0].argmax(axis=1)
    drawn = random.random(len(y)) < (0.0 if kind == "right" else 0.5)
    y = np.where(drawn, random.integers(0, CLASSES, len(y)), y)
    np.savez(tmp_path / "noisy.npz", x=x, y=y)
    model = planted.model("tiny" if kind == "soft" else "saturated")
    more = {"mask_ratio": 0.1} if verb == "harden" else {}
    found = VERBS[verb](model, tmp_path / "noisy.npz", tmp_path, **more)
    surely = [note for note in found.notes if "check the preprocessing" in note]
    assert len(surely) == (kind == "noise")
    if surely:
        share = f"{100 * np.mean(~drawn | (drawn & (y == y_of(planted, x)))):.1f} %"
        assert f"right on {share} of the clean samples" in surely[0]


def y_of(planted: Planted, x: np.ndarray) -> np.ndarray:
    return InferenceSession(planted.model()).run(None, {"x": x})[0].argmax(axis=1)


def answered(planted: Planted, tmp_path: Path, right: int, count: int) -> Path:
    """Write samples of which a model answers so many rightly, by labels in no order."""
    with np.load(planted.data) as arrays:
        x = arrays["x"][:count]
    y = InferenceSession(planted.model()).run(None, {"x": x})[0].argmax(axis=1)
    moves = np.random.default_rng(0).permutation(np.arange(count) % 3 + 1)
    moves[np.random.default_rng(1).permutation(count)[:right]] = 0
    np.savez(tmp_path / "answered.npz", x=x, y=(y + moves) % CLASSES)
    return tmp_path / "answered.npz"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_answers_that_depend_on_the_rest_of_the_batch(
    planted: Planted, tmp_path: Path, verb: str
) -> None:
    """Features are centred over the batch: each sample's answer is one of its company."""
    model = onnx.load(planted.model())
    (place,) = (at for at, node in enumerate(model.graph.node) if "r" in node.output)
    made = onnx.helper.make_node
    model.graph.node[place].output[0] = "bare"
    model.graph.node.insert(place + 1, made("ReduceMean", ["bare", "samples"], ["middle"]))
    model.graph.node.insert(place + 2, made("Sub", ["bare", "middle"], ["r"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0]), "samples"))
    path = tmp_path / "centred.onnx"
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"samples get other scores alone.*--batch-size 1 runs"):
        VERBS[verb](path, planted.data, tmp_path, accept_accuracy=True)


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
