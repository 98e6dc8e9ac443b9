"""Models of several inputs of floats: one is attacked, or several at once by their own budgets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.cli.main import run
from cloakify.errors import DataError, ModelError, UsageError
from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import open_experiment
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting, ModelOptions
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify

SIDE, CLASSES, SAMPLES, EPS = 6, 3, 150, 0.1
IMAGE, TABLE = (1, SIDE, SIDE), (4,)
HARDENED = HardenSetting(
    max_accuracy_drop=0.9,
    evaluation_steps=3,
    device="cpu",
    eps=EPS,
    write_anyway=True,
    effort="quick",
)
BESIDE = f"""<ir_version: 8, opset_import: ["" : 17]>
    f (float[N, 4] table, float[N, 1, {SIDE}, {SIDE}] image) => (float[N, {CLASSES}] y)
    {{ flat = Flatten (image)  h = MatMul (flat, wi)  i = Tanh (h)
       g = MatMul (table, wt)  t = Tanh (g)  f = Concat <axis = 1> (i, t)  y = MatMul (f, v) }}"""
COLUMNS = f"""<ir_version: 8, opset_import: ["" : 17]>
    f (float[N, 1] length, float[N, 1] width, float[N, 1] height) => (float[N, {CLASSES}] y)
    {{ x = Concat <axis = 1> (length, width, height)  h = MatMul (x, w)  f = Tanh (h)
       y = MatMul (f, v) }}"""


def written(folder: Path) -> tuple[Path, Path]:
    """A model of an image and a table, and samples labelled by its own answers."""
    weights = {"wi": (SIDE * SIDE, 8), "wt": (4, 8), "v": (16, CLASSES)}
    rng = np.random.default_rng(4)
    model = onnx.parser.parse_model(BESIDE)
    for name, shape in weights.items():
        values = (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, folder / "model.onnx")
    arrays = {"image": rng.random((SAMPLES, *IMAGE), np.float32)}
    # No pixels: what stands beside an image is in no box.
    arrays["table"] = (3 * rng.normal(size=(SAMPLES, *TABLE))).astype(np.float32)
    np.savez(folder / "data.npz", **arrays, y=answers(folder / "model.onnx", arrays))
    return folder / "model.onnx", folder / "data.npz"


def answers(model: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    feeds = {each.name: arrays[each.name] for each in session.get_inputs()}
    return np.asarray(session.run(None, feeds)[0]).argmax(axis=1)


@pytest.mark.parametrize("name", ["image", "table"])
def test_one_of_two_inputs_is_attacked(tmp_path: Path, name: str) -> None:
    model, data = written(tmp_path)
    arrays = dict(np.load(data))
    box = (0.0, 1.0) if name == "image" else None
    setting = AttackSetting(attack="pgd", eps=EPS, device="cpu", attack_input=name, box=box)
    result = attack(model, data, tmp_path / "adversarial.npz", setting)
    moved = np.load(tmp_path / "adversarial.npz")["x"]
    assert np.abs(moved - arrays[name]).max() == pytest.approx(EPS, rel=1e-3)
    found = answers(model, arrays | {name: moved})
    assert result.attacked.value == pytest.approx((found == arrays["y"]).mean())
    harden(model, data, tmp_path / "hardened.onnx", HARDENED.replace(attack_input=name, box=box))
    assert verify(tmp_path / "hardened.onnx", model, "cpu").faults == ()


@pytest.mark.parametrize("asked", ["table=1/2,image", "all"])
def test_both_are_attacked_at_once_and_judged_so(tmp_path: Path, asked: str) -> None:
    """Each moves as far as its own budget, and the copies fool the model as often as is said."""
    model, data = written(tmp_path)
    arrays = dict(np.load(data))
    unit = 0.5 if "=" in asked else 1.0
    # In the budget of the l∞ ball around a sample both come to their borders.
    setting = AttackSetting(attack="apgd", eps=EPS, device="cpu", attack_input=asked)
    copies = tmp_path / "adversarial.npz"
    result = attack(model, data, copies, setting)
    moved = np.load(copies)
    assert moved["tensor"].tolist() == ["image", "table"]
    moved = {"image": moved["x"], "table": moved["table"]}
    for name, budget in (("image", EPS), ("table", EPS * unit)):
        assert np.abs(moved[name] - arrays[name]).max() == pytest.approx(budget, rel=1e-3)
    assert moved["image"].min() >= 0
    assert moved["image"].max() <= 1
    found = answers(model, moved)
    assert result.attacked.value == pytest.approx((found == arrays["y"]).mean())
    # What was written are samples of the model, of the same classes.
    judged = EvaluateSetting(
        eps=(EPS,), device="cpu", attack_input=asked, effort="quick", accept_accuracy=True
    )
    report = evaluate(model, copies, judged).report
    assert report.models[0].clean.value == pytest.approx(result.attacked.value)
    told = "inputs 'image', 'table'" + " (ε in units of 0.5)" * (unit == 0.5)
    assert report.perturbs == told


def test_the_gradient_of_all_inputs_at_once_is_that_of_each(tmp_path: Path) -> None:
    """NumPy, central differences in double."""
    model, data = written(tmp_path)
    arrays = dict(np.load(data))
    constants = onnx.load(model).graph.initializer
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in constants}
    setting = AttackSetting(device="cpu", eps=EPS, attack_input="all")
    classifier = open_classifier(model, setting.model)
    experiment = open_experiment(classifier, data, setting, lambda experiment: experiment.labels)
    (batch,) = experiment.dataset.batches(np.arange(5), 5)
    assert experiment.latent is not None
    gradient = experiment.target().evaluate(batch.x.astype(np.float32), batch.y).gradient
    own = experiment.latent.packing.parts_of(gradient, 2)

    def loss(image: np.ndarray, table: np.ndarray) -> np.ndarray:
        i, t = np.tanh(image.reshape(5, -1) @ weights["wi"]), np.tanh(table @ weights["wt"])
        z = np.concatenate([i, t], axis=1) @ weights["v"]
        return np.log(np.exp(z).sum(axis=1)) - z[np.arange(5), batch.y]

    clean = [arrays[name][:5].astype(np.float64) for name in ("image", "table")]
    for place, found in enumerate(own):
        for index in np.ndindex(found.shape[1:]):
            sides = []
            for step in (1e-6, -1e-6):
                at = [each.copy() for each in clean]
                at[place][(slice(None), *index)] += step
                sides.append(loss(*at))
            slope = (sides[0] - sides[1]) / 2e-6
            np.testing.assert_allclose(found[(slice(None), *index)], slope, atol=1e-4)


def test_both_budgets_at_once_are_hardened_against(tmp_path: Path) -> None:
    model, data = written(tmp_path)
    report = harden(
        model, data, tmp_path / "hardened.onnx", HARDENED.replace(attack_input="all")
    ).report
    assert report.perturbs == "inputs 'image', 'table'"
    assert verify(tmp_path / "hardened.onnx", model, "cpu").faults == ()


def test_a_table_for_an_input_by_column_is_attacked_whole(tmp_path: Path) -> None:
    """The same network with one input of all columns loses as many samples."""
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32)
    apart = onnx.parser.parse_model(COLUMNS)
    whole = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[N, 3] x) => (float[N, {CLASSES}] y)
        {{ h = MatMul (x, w)  f = Tanh (h)  y = MatMul (f, v) }}"""
    )
    x = rng.random((SAMPLES, 3), np.float32)
    y = (np.tanh(x @ w) @ v).argmax(axis=1)
    left = []
    for name, model in (("apart", apart), ("whole", whole)):
        for key, values in (("w", w), ("v", v)):
            model.graph.initializer.append(onnx.numpy_helper.from_array(values, key))
        onnx.save(model, tmp_path / f"{name}.onnx")
        lines = ["length,width,height,label"]
        lines += [",".join(map(str, (*row, label))) for row, label in zip(x, y, strict=True)]
        (tmp_path / "data.csv").write_text("\n".join(lines))
        setting = AttackSetting(
            attack="fgsm",
            eps=EPS,
            device="cpu",
            attack_input="all" if name == "apart" else None,
        )
        result = attack(
            tmp_path / f"{name}.onnx", tmp_path / "data.csv", tmp_path / f"{name}.npz", setting
        )
        left.append(result.attacked.value)
    assert left[0] == left[1] < 1
    columns = np.load(tmp_path / "apart.npz")
    one = np.concatenate([columns["x"], columns["width"], columns["height"]], axis=1)
    np.testing.assert_array_equal(one, np.load(tmp_path / "whole.npz")["x"])


def test_which_inputs_are_to_be_attacked_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = written(tmp_path)
    with pytest.raises(ModelError, match=r"'table', 'image'.*--attack-input"):
        attack(model, data, tmp_path / "adversarial.npz", AttackSetting(device="cpu"))
    for text, fault in (
        ("picture", "no input 'picture'; it has 'table', 'image'"),
        ("image,picture", "no input 'picture'"),
        ("image,table,image", "names 'image' twice"),
        ("image=0", "a unit is a number above 0, not '0'"),
        ("image=wide", "not 'wide'"),
    ):
        with pytest.raises(UsageError, match=fault):
            inspect(model, ModelOptions(attack_input=text))
    assert inspect(model, ModelOptions(attack_input="table")).entry.tensor == "table"
    both = inspect(model, ModelOptions(attack_input="table,image"))
    # What is known of samples is known of images.
    assert both.entry.perturbed == ("image", "table")
    assert both.coverage is not None
    assert both.coverage.missing == ()
    # What is not attacked yet is told of all the same.
    open_ = inspect(model)
    assert open_.undecided is not None
    assert open_.head is not None
    assert run(["inspect", str(model), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["perturbs"] is None
    assert "--attack-input" in told["undecided"]


def test_pixels_beyond_their_range_are_refused_in_every_image(tmp_path: Path) -> None:
    """Two images: a value outside the box is one in whichever of them it is."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 1, {SIDE}, {SIDE}] a, float[N, 1, {SIDE}, {SIDE}] b) => (float[N, 3] y)
        {{ d = Sub (a, b)  e = Abs (d)  flat = Flatten (e)  y = MatMul (flat, v) }}"""
    )
    rng = np.random.default_rng(0)
    v = rng.normal(size=(SIDE * SIDE, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(v, "v"))
    onnx.save(model, tmp_path / "model.onnx")
    arrays = {name: rng.random((40, *IMAGE), np.float32) for name in "ab"}
    setting = AttackSetting(attack="fgsm", eps=EPS, device="cpu", attack_input="all")
    np.savez(tmp_path / "data.npz", **arrays, y=answers(tmp_path / "model.onnx", arrays))
    attack(tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "adv.npz", setting)
    moved = np.load(tmp_path / "adv.npz")
    assert all(moved[name].min() >= 0 and moved[name].max() <= 1 for name in "xb")
    # Bytes are pixels in both.
    stored = {name: (255 * array).astype(np.uint8) for name, array in arrays.items()}
    as_floats = {name: array.astype(np.float32) / 255 for name, array in stored.items()}
    np.savez(tmp_path / "data.npz", **stored, y=answers(tmp_path / "model.onnx", as_floats))
    result = attack(tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "adv.npz", setting)
    assert result.clean.value == 1
    arrays["b"][3, 0, 0, 0] = 1.5
    np.savez(tmp_path / "data.npz", **arrays, y=answers(tmp_path / "model.onnx", arrays))
    with pytest.raises(DataError, match=r"1\.5"):
        attack(tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "adv.npz", setting)
