"""Votes among classifiers in one node each, as skl2onnx writes them: against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from cloakify.errors import HeadError
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.mask import insert_mask
from cloakify.masking.linear_head import read_head
from cloakify.settings import AttackSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.harden import harden
from cloakify.workflows.verify import verify

Doubles = NDArray[np.float64]

DEPTH, EPS = 8, 0.1
X = np.random.default_rng(1).random((160, DEPTH)).astype(np.float32)
ENDINGS = {
    # VotingClassifier(voting="soft"), with weights.
    "sum": (
        'p0 = ai.onnx.ml.Normalizer <norm = "L1"> (s0)  a = Mul (p0, share)  '
        'p1 = ai.onnx.ml.Normalizer <norm = "L1"> (s1)  b = Mul (p1, rest)  y = Sum (a, b)'
    ),
    # BaggingClassifier.
    "stack": (
        'p0 = ai.onnx.ml.Normalizer <norm = "L1"> (s0)  a = Reshape (p0, rows)  '
        'p1 = ai.onnx.ml.Normalizer <norm = "L1"> (s1)  b = Reshape (p1, rows)  '
        "c = Concat <axis = 0> (a, b)  y = ReduceMean <axes = [0], keepdims = 0> (c)"
    ),
}
SHARES = {"sum": (0.3, 0.7), "stack": (0.5, 0.5)}


class Vote:
    """Two linear classifiers; with two classes their scores are z and −z, as scikit-learn's."""

    def __init__(self, ending: str, classes: int) -> None:
        rng = np.random.default_rng(classes)
        self.shares, self.classes = SHARES[ending], classes
        self.layers = []
        nodes = []
        for place in range(2):
            weight, bias = 3 * rng.normal(size=(DEPTH, classes)), rng.normal(size=classes)
            transform, scale = "SOFTMAX", 1.0
            if classes == 2:
                weight[:, 0], bias[0] = -weight[:, 1], -bias[1]
                # σ(z) and σ(−z) are a softmax of z/2 and −z/2.
                transform, scale = "LOGISTIC", 0.5
            weight, bias = np.float32(weight), np.float32(bias)
            bias -= np.float32(0.5) * weight.sum(axis=0)
            rows, shifts = (", ".join(map(str, each.T.ravel())) for each in (weight, bias))
            nodes.append(
                f"l{place}, s{place} = ai.onnx.ml.LinearClassifier <coefficients = [{rows}], "
                f"intercepts = [{shifts}], classlabels_ints = {list(range(classes))}, "
                f'multi_class = 1, post_transform = "{transform}"> (x)'
            )
            self.layers.append((scale * weight.astype(float), scale * bias.astype(float)))
        self.model = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
            f"net (float[N, {DEPTH}] x) => (int64[N] label, float[N, {classes}] y) "
            f"<float share = {{0.3}}, float rest = {{0.7}}, int64[3] rows = {{1, -1, {classes}}}> "
            f"{{ {'  '.join(nodes)}  {ENDINGS[ending]}  "
            "label = ArgMax <axis = 1, keepdims = 0> (y) }"
        )

    def answers(self, x: NDArray[np.floating]) -> Doubles:
        parts = [softmax(x.astype(float) @ w + b, axis=1) for w, b in self.layers]
        return np.average(parts, axis=0, weights=self.shares)

    def slope(self, x: Doubles, y: NDArray[np.int64]) -> Doubles:
        """Of −log p, by central differences in double."""
        sides = [
            -np.log(self.answers(x + step))[np.arange(len(y)), y]
            for step in (*(1e-6 * np.eye(DEPTH)), *(-1e-6 * np.eye(DEPTH)))
        ]
        return (np.stack(sides[:DEPTH], 1) - np.stack(sides[DEPTH:], 1)) / 2e-6


@pytest.fixture(params=[(ending, classes) for ending in ENDINGS for classes in (2, 4)])
def vote(request: pytest.FixtureRequest) -> Vote:
    return Vote(*request.param)


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(["y"], {"x": x})[0]
    return found


def test_one_mask_stands_before_all_of_them(vote: Vote) -> None:
    np.testing.assert_allclose(run(vote.model, X), vote.answers(X), atol=1e-5)
    head = find_head(vote.model).head
    assert (head.features, head.num_features, head.num_classes) == ("x", DEPTH, vote.classes)
    shares = [share for _, share in sorted(zip(head.votes, head.shares, strict=True))]
    np.testing.assert_allclose(np.array(shares) / sum(shares), vote.shares, rtol=1e-5)
    mask = (np.arange(DEPTH) % 3 != 0).astype(np.float32)
    expected = vote.answers(X * mask)
    np.testing.assert_allclose(run(insert_mask(vote.model, head, mask, {}), X), expected, atol=1e-5)
    linear = read_head(vote.model, head, 2)
    np.testing.assert_allclose(softmax(linear.logits(X, mask), axis=1), expected, atol=1e-5)


def test_attacked_by_the_logarithm_of_the_vote_hardened_and_proven(
    vote: Vote, tmp_path: Path
) -> None:
    source, data, out = (tmp_path / name for name in ("vote.onnx", "data.npz", "attacked.npz"))
    onnx.save(vote.model, source)
    y = vote.answers(X).argmax(axis=1)
    y[::7] = (y[::7] + 1) % vote.classes
    np.savez(data, x=X, y=y)
    shared = {"device": "cpu", "accept_accuracy": True}
    result = attack(source, data, out, AttackSetting(eps=EPS, attack="fgsm", **shared))
    assert result.clean.value == pytest.approx((vote.answers(X).argmax(axis=1) == y).mean())
    moved = np.load(out)["x"]
    assert result.attacked.value == pytest.approx((vote.answers(moved).argmax(axis=1) == y).mean())
    exact = vote.slope(X.astype(float), y)
    inside = (X > EPS) & (X < 1 - EPS) & (np.abs(exact) > 1e-4)
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(np.sign(moved - X)[inside], np.sign(exact)[inside])
    setting = HardenSetting(eps=EPS, mask_ratio=0.3, evaluation_steps=2, **shared)
    harden(source, data, tmp_path / "hardened.onnx", setting)
    assert verify(tmp_path / "hardened.onnx", source, "cpu").faults == ()


def test_sigmoids_that_do_not_add_up_are_no_softmax() -> None:
    """Of four classes each has its own; of two that are not opposite the sum is not one."""
    four = Vote("sum", 4).model
    two = Vote("sum", 2).model
    for node in four.graph.node:
        for entry in node.attribute:
            if entry.name == "post_transform":
                entry.s = b"LOGISTIC"
    next(each for each in two.graph.node[0].attribute if each.name == "intercepts").floats[0] += 1
    for model in (four, two):
        with pytest.raises(HeadError, match="2 layers could be the head"):
            find_head(model)
