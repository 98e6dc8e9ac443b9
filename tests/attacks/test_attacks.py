"""What every attack promises: ball and box, strength, and the same result in every batch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.attacks import (
    Apgd,
    ApgdDlr,
    ApgdT,
    AutoAttack,
    FabT,
    Fgsm,
    Pgd,
    Square,
    Target,
)
from cloakify.data import Preprocessing
from cloakify.errors import ModelError
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.analysis.scores import Scores
from cloakify.graph.analysis.task import Task
from cloakify.runtime import resolve_device
from tests.support.classifiers import mlp_classifier, target_of, threat_of

ATTACKS = [
    Fgsm(),
    Pgd(steps=5, restarts=2),
    Pgd(steps=5, momentum=0.9, stop_early=False),
    Apgd(steps=8, restarts=2),
    Apgd(steps=8, stop_early=False),
    ApgdDlr(steps=8),
    ApgdT(steps=5, num_targets=3),
    ApgdT(steps=5, num_targets=2, restarts=2, stop_early=False),
    Square(queries=30),
    FabT(steps=5, num_targets=3),
]
EPS = {"linf": 6 / 255, "l2": 0.4}
each_attack = pytest.mark.parametrize("attack", ATTACKS, ids=repr)
each_norm = pytest.mark.parametrize("norm", EPS)


@each_attack
@each_norm
def test_stays_within_ball_and_box(pooled, few, attack, norm):
    x, y, index = few
    threat = threat_of(pooled, norm, EPS[norm])
    found = attack.run(pooled, x, y, index, threat)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    # A pixel near 1 has a rounding error of 6e-8.
    assert threat.distance(found, x).max() <= EPS[norm] * (1 + 1e-5) + 1e-7
    assert found.min() >= 0 and found.max() <= 1


@each_attack
@each_norm
def test_budget_and_box_follow_the_preprocessing(attack, norm):
    target = target_of(mlp_classifier(1, features=10, classes=5))
    preprocessing = Preprocessing(scale=255.0, mean=(100.0,), std=(50.0,))
    rng = np.random.default_rng(0)
    pixels = rng.random((9, 10), np.float32)
    x = preprocessing.to_model(pixels, None)
    y, index = target.logits(x).argmax(axis=1), np.arange(9)
    threat = threat_of(target, norm, 0.1, preprocessing=preprocessing)
    found = attack.run(target, x, y, index, threat)
    back = (found.astype(np.float64) * 50 + 100) / 255
    moved = back - pixels
    length = np.abs(moved).max(axis=1) if norm == "linf" else np.linalg.norm(moved, axis=1)
    assert length.max() <= 0.1 * (1 + 1e-4)
    assert back.min() >= -1e-6 and back.max() <= 1 + 1e-6


@each_attack
def test_same_seed_same_bytes(pooled, few, attack):
    threat = threat_of(pooled, "linf", 4 / 255)
    first, second = (attack.run(pooled, *few, threat) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("norm", EPS)
@pytest.mark.parametrize(
    "attack",
    [
        Pgd(steps=4, restarts=2),
        Apgd(steps=6, restarts=2),
        ApgdT(steps=4, num_targets=3),
        Square(queries=40),
        FabT(steps=4, num_targets=3),
    ],
    ids=repr,
)
def test_neither_batch_nor_order_nor_cores_matter(attack, norm):
    model = mlp_classifier(2, features=12, classes=5)
    rng = np.random.default_rng(1)
    x, index = rng.random((70, 12), np.float32), rng.permutation(1000)[:70]
    y = target_of(model).logits(x).argmax(axis=1)
    y[::9] = (y[::9] + 1) % 5
    verdicts = []
    for batch_size, threads in ((1, 1), (7, 3), (64, 2)):
        target = target_of(model, batch_size, threads)
        order = rng.permutation(70)
        threat = threat_of(target, norm, 0.06)
        found = np.empty_like(x)
        found[order] = attack.run(target, x[order], y[order], index[order], threat)
        verdicts.append(target.correct(found, y))
    assert 0 < verdicts[0].sum() < 70
    assert (verdicts[0] == verdicts[1]).all() and (verdicts[0] == verdicts[2]).all()


@each_norm
def test_the_stronger_attack_reaches_the_higher_loss(pooled, few, norm):
    x, y, index = few
    threat = threat_of(pooled, norm, EPS[norm])

    def loss(attack):
        return pooled.evaluate(attack.run(pooled, x, y, index, threat), y).loss.mean()

    fgsm, pgd = loss(Fgsm()), loss(Pgd(steps=10, stop_early=False))
    apgd = loss(Apgd(steps=20, stop_early=False))
    assert pooled.evaluate(x, y).loss.mean() < fgsm < pgd < apgd * 1.02


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if getattr(a, "stop_early", True) and a.name != "fgsm"], ids=repr
)
def test_misclassified_samples_are_left_alone_or_stay_wrong(pooled, few, attack):
    x, _, index = few
    wrong = (pooled.logits(x).argmax(axis=1) + 1) % 10
    found = attack.run(pooled, x, wrong, index, threat_of(pooled, "linf", 4 / 255))
    assert not pooled.correct(found, wrong).any()
    if attack.name != "pgd":
        assert found.tobytes() == x.tobytes()


@each_norm
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes(classes, norm):
    target = target_of(mlp_classifier(4, features=6, classes=classes))
    x = np.random.default_rng(0).random((20, 6), np.float32)
    y, index = target.logits(x).argmax(axis=1), np.arange(20)
    threat = threat_of(target, norm, 0.3)
    attacks = [Apgd(), ApgdDlr(), ApgdT(), FabT(), Square(queries=200)]
    left = [target.correct(a.run(target, x, y, index, threat), y).mean() for a in attacks]
    assert max(left[:4]) - min(left[:4]) <= 0.1 and left[0] < 1
    assert left[4] >= min(left[:4])


def test_fixed_batch_size(samples, few):
    model = mlp_classifier(5, features=8, classes=4)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    target = target_of(model, batch_size=64)
    assert target.batch_size == 3
    x = np.random.default_rng(0).random((10, 8), np.float32)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, "linf", 0.1)
    for attack in ATTACKS:
        assert attack.run(target, x, y, np.arange(10), threat).shape == x.shape


def test_repr_lists_the_settings():
    assert repr(Pgd(steps=3)).startswith("Pgd(steps=3, step_size=None, restarts=1")
    assert repr(AutoAttack(seed=2)) == "AutoAttack(seed=2)"


@each_attack
@each_norm
def test_gradients_that_are_no_numbers(attack, norm):
    """The slope of a root is infinite at 0, and no number where a ReLU before it is at rest."""
    rng = np.random.default_rng(0)
    weight = onnx.numpy_helper.from_array(rng.standard_normal((8, 4)).astype(np.float32), "w")
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 8] x) => (float[N, 4] z) <float half = {0.5}>
        { d = Sub (x, half)  r = Relu (d)  s = Sqrt (r)  z = MatMul (s, w) }""")
    model.graph.initializer.append(weight)
    target = target_of(model)
    x, index = rng.random((30, 8), np.float32), np.arange(30)
    y = target.logits(x).argmax(axis=1)
    assert np.isfinite(target.evaluate(x, y).gradient).all()
    threat = threat_of(target, norm, EPS[norm])
    found = attack.run(target, x, y, index, threat)
    assert np.isfinite(found).all()
    assert threat.distance(found, x).max() <= EPS[norm] * (1 + 1e-5) + 1e-7


@each_norm
@pytest.mark.parametrize(
    "attack", [Pgd(steps=8), Apgd(steps=20), Apgd(steps=8, restarts=3)], ids=repr
)
def test_a_model_that_is_sure_of_itself_gains_nothing(attack, norm):
    """Logits a hundred thousand times as large, whose cross-entropy is 0 in float32."""
    rng = np.random.default_rng(0)
    model = mlp_classifier(3, features=12, classes=2)
    x, index = rng.random((40, 12), np.float32), np.arange(40)
    y = target_of(model).logits(x).argmax(axis=1)
    found = []
    for factor in (1, 2**17):
        scaled = onnx.ModelProto()
        scaled.CopyFrom(model)
        (last,) = (t for t in scaled.graph.initializer if t.name == "w2")
        values = onnx.numpy_helper.to_array(last) * np.float32(factor)
        last.CopyFrom(onnx.numpy_helper.from_array(values, "w2"))
        target = target_of(scaled)
        found.append(attack.run(target, x, y, index, threat_of(target, norm, 0.2)))
    right = [target.correct(part, y).mean() for part in found]
    assert right[0] < 1
    np.testing.assert_array_equal(found[0], found[1])


@each_norm
@pytest.mark.parametrize("kind", [Pgd, Apgd, ApgdT])
def test_logits_that_are_rounded_are_not_taken_for_fooled_too_early(kind, norm):
    """With logits of a thousand a half-precision model answers in steps of one.

    The gradient graph, which does not round, is fooled by a hair where the model still ties.
    """
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 18]>
        f (float[N, 12] x) => (float16[N, 3] z)
        { h = Cast <to = 10> (x)  z = Gemm (h, w, b) }""")
    weight = (rng.standard_normal((12, 3)) * 3).astype(np.float16)
    for name, values in (("w", weight), ("b", np.full(3, 1030, np.float16))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    target = target_of(model)
    x, index = rng.random((60, 12), np.float32), np.arange(60)
    y = target.logits(x).argmax(axis=1)
    threat = threat_of(target, norm, {"linf": 0.1, "l2": 0.3}[norm])
    left = [
        target.correct(kind(steps=20, stop_early=early).run(target, x, y, index, threat), y)
        for early in (True, False)
    ]
    assert 0 < left[1].sum() < 60
    assert left[0].sum() <= left[1].sum()


def test_scores_at_positions_that_the_file_does_not_tell_of_are_refused():
    rng = np.random.default_rng(0)
    weight = ", ".join(f"{value:.3f}" for value in rng.standard_normal(12))
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, 8] x) => (float[A, B, C] y)
        <float[4, 3] w = {{{weight}}}, int64[3] shape = {{-1, 2, 4}}>
        {{ size = Shape (x)  tokens = Reshape (x, shape)  y = MatMul (tokens, w) }}"""
    )
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    scores = Scores(Task.SINGLE, "y", "y", 3, "tokens", ())
    target = Target(model, find_input(model), scores, resolve_device("cpu"))
    with pytest.raises(ModelError, match="5×2×3, not one for each of 3 classes"):
        target.logits(rng.random((5, 8), dtype=np.float32))
