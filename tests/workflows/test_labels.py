"""Independent labels go through every verb: exact matches, and how each label fares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.data import split
from cloakify.errors import DataError
from cloakify.report import render_json
from cloakify.report.tables import tables
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import HardenResult, harden
from cloakify.workflows.inspect import inspect
from cloakify.workflows.verify import verify
from tests.support.fragile import EPS as FRAGILE
from tests.support.labelled import FEATURES, LABELS, Labelled, write_labelled_fragile

EPS = 0.03
SAMPLES = 160


@pytest.fixture(scope="module")
def network() -> Labelled:
    return Labelled()


@pytest.fixture(scope="module")
def folder(network: Labelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models by their ending, and labels of which one in twenty is wrong."""
    folder = tmp_path_factory.mktemp("labels")
    for ending in ("sigmoid", "logits", "answers"):
        onnx.save(network.model(ending), folder / f"{ending}.onnx")
    rng = np.random.default_rng(5)
    x = rng.random((SAMPLES, FEATURES), np.float32)
    y = network.labels(x) ^ (rng.random((SAMPLES, LABELS)) < 0.05)
    np.savez(folder / "data.npz", x=x, y=y)
    np.savez(folder / "bool.npz", x=x, y=y.astype(bool))
    np.savez(folder / "classes.npz", x=x, y=np.arange(SAMPLES) % LABELS)
    np.savez(folder / "one_hot.npz", x=x, y=np.eye(LABELS, dtype=np.int64)[np.arange(SAMPLES) % 4])
    np.savez(folder / "three.npz", x=x, y=y[:, :3])
    np.savez(folder / "guess.npz", x=x, y=rng.integers(0, 2, y.shape))
    return folder


@pytest.mark.parametrize(
    ("model", "data"), [("sigmoid", "data"), ("answers", "bool"), ("logits", "data")]
)
def test_attack(network: Labelled, folder: Path, tmp_path: Path, model: str, data: str) -> None:
    output = tmp_path / "adv.npz"
    setting = AttackSetting(eps=EPS, steps=5, device="cpu")
    found = attack(folder / f"{model}.onnx", folder / f"{data}.npz", output, setting)
    with np.load(output) as file, np.load(folder / "data.npz") as given:
        np.testing.assert_array_equal(file["y"], given["y"])
        for figure, x, side in ((found.clean, given["x"], 0), (found.attacked, file["x"], 1)):
            match = network.labels(x) == given["y"]
            assert figure.value == match.all(axis=1).mean()
            assert found.labels is not None
            assert found.labels[side].by_label == pytest.approx(match.mean(axis=0))
            assert found.labels[side].accuracy.value == pytest.approx(match.mean())
    assert found.attacked.value < found.clean.value
    assert any(f"any of {LABELS} independent labels" in note for note in found.notes)
    assert "labels" in found.to_dict()


@pytest.mark.parametrize(("first", "count", "told"), [(0, 1, False), (0, 40, False), (1, 40, True)])
def test_attack_on_few_samples(
    folder: Path, tmp_path: Path, first: int, count: int, told: bool
) -> None:
    """A single one has each label or has it not; labels of other samples fit no better than any."""
    with np.load(folder / "data.npz") as given:
        x, y = given["x"][:count], given["y"]
    # Of samples far from these.
    np.savez(tmp_path / "few.npz", x=x, y=y[first * 80 :][:count])
    setting = AttackSetting(eps=EPS, steps=2, device="cpu")
    found = attack(folder / "sigmoid.onnx", tmp_path / "few.npz", tmp_path / "a.npz", setting)
    assert len(np.load(tmp_path / "a.npz")["x"]) == count
    assert told == any("unless these 40 samples were picked" in note for note in found.notes)


def test_evaluate(folder: Path) -> None:
    paths = [folder / "sigmoid.onnx", folder / "logits.onnx"]
    setting = EvaluateSetting(eps=(EPS,), steps=5, queries=30, limit=60, device="cpu")
    report = evaluate(paths, folder / "data.npz", setting).report
    first, second = report.models
    assert first.clean == second.clean
    assert first.robust == second.robust
    assert (report.data.num_classes, report.data.task) == (LABELS, "multilabel")
    assert report.data.chance == 0.5**LABELS
    assert first.labels is not None
    assert first.labels.attacked.accuracy.value < first.labels.clean.accuracy.value
    # An exact match needs every label.
    assert first.clean.value <= first.labels.clean.accuracy.value
    assert min(figures.value for figures in (first.robust[0].worst_case,)) < first.clean.value
    table = next(table for table in tables(report) if table.title == "Labels")
    assert [row[:2] for row in table.rows][:2] == [
        ("sigmoid.onnx", "clean"),
        ("sigmoid.onnx", "attacked"),
    ]
    assert '"mean_average_precision"' in render_json(report)


def test_the_models_own_labels(folder: Path, tmp_path: Path) -> None:
    setting = AttackSetting(eps=EPS, steps=2, device="cpu", labels="model")
    found = attack(folder / "sigmoid.onnx", folder / "classes.npz", tmp_path / "a.npz", setting)
    assert found.clean.value == 1
    with np.load(tmp_path / "a.npz") as file:
        assert file["y"].shape == (SAMPLES, LABELS)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("sigmoid", "classes", r"4 independent labels \(Sigmoid 'y'\): give 0 or 1 for each"),
        ("sigmoid", "three", r"has 3 labels a sample, the model 4"),
        ("logits", "three", r"has 3 labels a sample, the model 4"),
        ("logits", "one_hot", r"single 1.*--task single if .*one-hot.*--task multilabel"),
        ("sigmoid", "guess", r"ranks samples with a label above those without in \d\d\.\d % of"),
    ],
)
def test_data_that_does_not_fit(
    folder: Path, tmp_path: Path, model: str, data: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        attack(
            folder / f"{model}.onnx",
            folder / f"{data}.npz",
            tmp_path / "a.npz",
            AttackSetting(device="cpu"),
        )


def test_what_was_meant_can_be_said(folder: Path, tmp_path: Path) -> None:
    options = {"eps": EPS, "steps": 1, "device": "cpu", "accept_accuracy": True}
    single = AttackSetting(**options, task="single")
    found = attack(folder / "sigmoid.onnx", folder / "classes.npz", tmp_path / "a.npz", single)
    assert found.labels is None
    labelled = AttackSetting(**options, task="multilabel")
    found = attack(folder / "logits.onnx", folder / "one_hot.npz", tmp_path / "b.npz", labelled)
    assert found.labels is not None
    assert any("--task single" in note for note in found.notes)


def test_inspect_says_so(folder: Path) -> None:
    found = inspect(folder / "answers.onnx")
    assert found.answers == (
        f"any of {LABELS} independent labels (Sigmoid 'p'), each from a probability of 0.5"
    )


def hardened(folder: Path, output: Path, **more: object) -> HardenResult:
    # A mask whose size is given is written anyway.
    options = {"write_anyway": "mask_ratio" not in more, **more}
    options |= {"eps": EPS, "device": "cpu", "evaluation_steps": 3}
    return harden(folder / "sigmoid.onnx", folder / "data.npz", output, HardenSetting(**options))


@pytest.mark.parametrize("score", ["deepcloak", "margin"])
def test_mask_equals_an_independent_recomputation(
    network: Labelled, folder: Path, tmp_path: Path, score: str
) -> None:
    """FGSM by the network's own derivative in double; rankings by a plain sum."""
    result = hardened(folder, tmp_path / "h.onnx", score=score, mask_ratio=0.25, rounds=1)
    with np.load(folder / "data.npz") as file:
        x, y = file["x"].astype(np.float64), file["y"]
    fit = split(SAMPLES, y, 0).fit
    clean, labels = x[fit], y[fit]
    slope = network.pulled_back(clean, 1 / (1 + np.exp(-network.logits(clean))) - labels)
    attacked = np.clip(clean + EPS * np.sign(slope), 0, 1)
    features = network.features(attacked)
    scores = np.abs(features - network.features(clean)).sum(axis=0)
    if score == "margin":
        against = (1 - 2 * labels) * network.logits(attacked)
        nearest = against.argmax(axis=1)
        rows = np.arange(len(fit))
        weight = network.second.T[nearest] * (1 - 2 * labels)[rows, nearest][:, None]
        scores = (features * weight).sum(axis=0)
    expected = sorted(np.argsort(-scores, kind="stable")[: len(scores) // 4].tolist())
    assert list(result.report.mask.indices) == expected
    assert verify(tmp_path / "h.onnx", folder / "sigmoid.onnx", "cpu").faults == ()


def test_harden_reports_exact_matches_and_labels(
    network: Labelled, folder: Path, tmp_path: Path
) -> None:
    result = hardened(folder, tmp_path / "h.onnx", score="auto", max_accuracy_drop=0.3)
    report = result.report
    assert (report.head.task, report.head.num_classes) == ("multilabel", LABELS)
    with np.load(folder / "data.npz") as file:
        x, y = file["x"], file["y"]
    rows = split(SAMPLES, y, 0).report
    mask = np.ones(len(network.second), np.float32)
    mask[list(report.mask.indices)] = 0
    masked = network.features(x[rows]) * mask @ network.second + network.bias
    match = (masked > 0) == y[rows]
    assert report.accuracy.hardened.clean.value == match.all(axis=1).mean()
    assert report.labels is not None
    fared = report.labels.hardened
    assert fared.clean.by_label == pytest.approx(match.mean(axis=0))
    assert fared.attacked.accuracy.value <= fared.clean.accuracy.value
    assert [table.title for table in tables(report)] == ["Accuracy", "Labels"]


@pytest.mark.parametrize("emit", ["mul", "fold"])
def test_tuned_gates(tmp_path: Path, emit: str) -> None:
    """Of two labels each has a fragile sign and firmer ones; tuning turns to those."""
    source, data = write_labelled_fragile(tmp_path)
    setting = HardenSetting(
        method="tuned", tune_steps=60, emit=emit, eps=FRAGILE, device="cpu", max_accuracy_drop=0.2
    )
    result = harden(source, data, tmp_path / "h.onnx", setting)
    accuracy = result.report.accuracy
    assert accuracy.hardened.adaptive.value > accuracy.source.adaptive.value + 0.2
    assert result.report.verdict.code == "hardened"
    assert result.report.evaluation_attack.name == "apgd-dlr"
    assert result.report.labels is not None
    fared = result.report.labels
    assert fared.hardened.attacked.accuracy.value > fared.source.attacked.accuracy.value
    assert verify(tmp_path / "h.onnx", source, "cpu").faults == ()
