"""Models with the samples on the second axis, [time, samples, features], as torch's LSTM has them.

What is right is the same model with a `Transpose` in front, which takes the samples first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cloakify.experiment.classifier import open_classifier
from cloakify.experiment.experiment import Experiment, open_experiment
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

STEPS, WIDTH, HIDDEN, CLASSES, EPS = 5, 3, 8, 3, 0.3
RNG = np.random.default_rng(4)
WEIGHTS = {
    "w": RNG.normal(size=(1, 3 * HIDDEN, WIDTH)),
    "r": RNG.normal(size=(1, 3 * HIDDEN, HIDDEN)) / 3,
    "a": RNG.normal(size=(WIDTH, HIDDEN)),
    "v": RNG.normal(size=(HIDDEN, CLASSES)),
}
BODIES = {
    "last state": (
        f"hs, s = GRU <hidden_size = {HIDDEN}> (x, w, r)  h = Squeeze (s, zero)  y = MatMul (h, v)"
    ),
    "a layer at every step, pooled": (
        f"hs, s = GRU <hidden_size = {HIDDEN}> (x, w, r)  h = Squeeze (hs, one) "
        "z = MatMul (h, v)  y = ReduceMean <axes = [0], keepdims = 0> (z)"
    ),
    "pooled features": (
        "p = MatMul (x, a)  t = Tanh (p)  h = ReduceMax <axes = [0], keepdims = 0> (t) "
        "y = MatMul (h, v)"
    ),
}
TAKEN = ["5, N, 3", "T, N, 3", "5, 4, 3", "5, 1, 3"]


def model_of(body: str, taken: str, *, first: bool = False) -> onnx.ModelProto:
    """Return a model that takes samples second, or first."""
    steps, samples, width = taken.split(",")
    if first:
        taken = f"{samples}, {steps}, {width}"
    start = "Transpose <perm = [1, 0, 2]> (given)" if first else "Identity (given)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> net (float[{taken}] given) => '
        f"(float[{samples}, {CLASSES}] y) "
        f"<int64[1] zero = {{0}}, int64[1] one = {{1}}> {{ x = {start}  {body} }}"
    )
    for name, values in WEIGHTS.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    onnx.checker.check_model(model)
    return model


def files(folder: Path, body: str, taken: str, samples: int = 96) -> tuple[Path, Path, Path]:
    """Save both models, and data with the labels that these answer with."""
    both = {"second": model_of(body, taken), "first": model_of(body, taken, first=True)}
    x = RNG.normal(size=(samples, STEPS, WIDTH)).astype(np.float32)
    for name, model in both.items():
        onnx.save(model, folder / f"{name}.onnx")
    session = ort.InferenceSession(both["first"].SerializeToString())
    size = 1 if taken == TAKEN[-1] else 4
    parts = [session.run(None, {"given": x[i : i + size]})[0] for i in range(0, samples, size)]
    np.savez(folder / "data.npz", x=x, y=np.concatenate(parts).argmax(axis=1))
    return folder / "second.onnx", folder / "first.onnx", folder / "data.npz"


def opened(model: Path, data: Path) -> Experiment:
    setting = AttackSetting(device="cpu", eps=EPS, box=None, batch_size=8)
    return open_experiment(open_classifier(model), data, setting, lambda stage, done, total: None)


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("body", BODIES)
def test_logits_features_and_gradients(tmp_path: Path, body: str, taken: str) -> None:
    *models, data = files(tmp_path, BODIES[body], taken)
    second, first = (opened(model, data) for model in models)
    batch = second.dataset.batch(np.arange(24))
    assert batch.x.shape == (24, STEPS, WIDTH)
    for found, wanted in zip(
        second.target().evaluate(batch.x, batch.y).__dict__.values(),
        first.target().evaluate(batch.x, batch.y).__dict__.values(),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    features, logits = second.target().features_and_logits(batch.x)
    assert features.shape[0] == len(logits) == 24
    weighed = (features @ WEIGHTS["v"]).reshape(24, -1, CLASSES).mean(axis=1)
    np.testing.assert_allclose(weighed, logits, atol=1e-4)


@pytest.mark.parametrize("body", BODIES)
def test_all_verbs_do_as_with_the_samples_first(tmp_path: Path, body: str) -> None:
    *models, data = files(tmp_path, BODIES[body], "5, N, 3", samples=40)
    setting = EvaluateSetting(eps=(EPS,), box=None, effort="quick", device="cpu")
    figures, copies = [], []
    for model in models:
        report = evaluate([model], data, setting=setting).report
        figures.append(report.models[0].robust[0].worst_case.value)
        made = tmp_path / f"{model.stem}.npz"
        found = attack(model, data, made, setting=AttackSetting(eps=EPS, box=None, device="cpu"))
        copies.append(np.load(made)["x"])
        given = evaluate([model], data, setting, attacked=made).report.models[0].copies[0]
        assert given.accuracy.value == found.attacked.value < 1
    assert figures[0] == figures[1] < 1
    assert copies[0].shape == (40, STEPS, WIDTH)
    assert np.abs(copies[0] - copies[1]).max() < 1e-3
    hardened = tmp_path / "hardened.onnx"
    harden(
        models[0],
        data,
        hardened,
        setting=HardenSetting(eps=EPS, box=None, effort="quick", mask_ratio=0.25, device="cpu"),
    )
    assert not verify(hardened, models[0]).faults
