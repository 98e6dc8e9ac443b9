"""Models that no mask fits are attacked and judged all the same: by their scores alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper

from cloakify.errors import HeadError, UnsupportedOperatorError
from cloakify.settings import AttackSetting, EvaluateSetting, HardenSetting
from cloakify.workflows.attack import attack
from cloakify.workflows.evaluate import evaluate
from cloakify.workflows.harden import harden
from cloakify.workflows.inspect import inspect

CLASSES, FEATURES, SAMPLES, EPS = 3, 4, 90, 0.2
CENTRES = np.random.default_rng(0).random((CLASSES, FEATURES), np.float32)


def stumps() -> onnx.ModelProto:
    """A tree a class: a point for each feature on the side of its centre's where it is above ½."""
    nodes: dict[str, list[object]] = {key: [] for key in ("tree", "feature", "split")}
    weights: list[tuple[int, int, int, float]] = []
    for place, (label, feature) in enumerate(np.ndindex(CLASSES, FEATURES)):
        nodes["tree"].append(place)
        nodes["feature"].append(feature)
        nodes["split"].append(0.5)
        above = CENTRES[label, feature] > 0.5
        weights += [(place, 1, label, float(not above)), (place, 2, label, float(above))]
    trees = range(len(nodes["tree"]))
    tree = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "scores"],
        "trees",
        domain="ai.onnx.ml",
        nodes_treeids=[tree for tree in trees for _ in range(3)],
        nodes_nodeids=[0, 1, 2] * len(trees),
        nodes_featureids=[value for each in nodes["feature"] for value in (each, 0, 0)],
        nodes_values=[0.5, 0.0, 0.0] * len(trees),
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * len(trees),
        nodes_truenodeids=[1, 0, 0] * len(trees),
        nodes_falsenodeids=[2, 0, 0] * len(trees),
        class_treeids=[tree for tree, *_ in weights],
        class_nodeids=[node for _, node, *_ in weights],
        class_ids=[label for *_, label, _ in weights],
        class_weights=[weight for *_, weight in weights],
        classlabels_int64s=list(range(CLASSES)),
        post_transform="NONE",
    )
    graph = helper.make_graph(
        [tree],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", FEATURES])],
        [
            helper.make_tensor_value_info("label", 7, ["N"]),
            helper.make_tensor_value_info("scores", 1, ["N", CLASSES]),
        ],
    )
    return helper.make_model(
        graph, ir_version=8, opset_imports=[helper.make_opsetid("ai.onnx.ml", 3)]
    )


def nearest() -> onnx.ModelProto:
    """The class of the nearest centre, by minus the squared distance."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, {FEATURES}] x) => (float[N, {CLASSES}] y)
        <int64[1] one = {{1}}, int64[1] two = {{2}}>
        {{ p = Unsqueeze (x, one)  q = Sub (p, c)  r = Mul (q, q)
           d = ReduceSum <keepdims = 0> (r, two)  s = Neg (d)  y = Softmax (s) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(CENTRES[None], "c"))
    return model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    x = np.random.default_rng(1).random((SAMPLES, FEATURES), np.float32)
    np.savez(path, x=x, y=np.argmin(((x[:, None] - CENTRES) ** 2).sum(axis=2), axis=1))
    return path


def answers(path: Path, x: NDArray[np.float32]) -> NDArray[np.int64]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[-1].argmax(axis=1)


@pytest.mark.parametrize(
    ("model", "method"), [(stumps, "square"), (nearest, "square"), (nearest, "apgd")]
)
def test_attacks_and_figures_are_those_of_the_file(model, method, data, tmp_path):
    path, out = tmp_path / "m.onnx", tmp_path / "a.npz"
    onnx.save(model(), path)
    options = {"eps": EPS, "device": "cpu", "accept_accuracy": True}
    result = attack(path, data, out, AttackSetting(attack=method, **options, steps=60))
    with np.load(data) as given, np.load(out) as made:
        before, after = (
            answers(path, given["x"]) == given["y"],
            answers(path, made["x"]) == made["y"],
        )
        assert np.abs(made["x"] - given["x"]).max() <= EPS + 1e-6
    assert (result.clean.value, result.attacked.value) == (before.mean(), after.mean())
    assert after.mean() < before.mean()
    options |= {"eps": (EPS,)}
    more = {"queries": 60} if method == "square" else {"steps": 20}
    report = evaluate(path, data, EvaluateSetting(attack=method, **options, **more)).report
    (entry,) = report.models
    assert entry.clean.value == pytest.approx(before.mean())
    assert entry.robust[0].worst_case.value <= after.mean() + 0.1


def test_trees_have_no_gradient_and_no_place_for_a_mask(data, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(stumps(), path)
    setting = EvaluateSetting(eps=(EPS,), device="cpu", accept_accuracy=True)
    with pytest.raises(UnsupportedOperatorError, match=r"TreeEnsembleClassifier.*--attack square"):
        evaluate(path, data, setting)
    with pytest.raises(HeadError, match="an ensemble of trees"):
        harden(path, data, tmp_path / "h.onnx", HardenSetting(eps=EPS, device="cpu"))
    seen = inspect(path)
    assert seen.head is None
    assert seen.answers == "one of 3 classes (TreeEnsembleClassifier 'trees')"
    # Rows of numbers have neither colours nor a size.
    assert seen.inputs == "scale 1, mean 0, std 1 (nothing says otherwise)"
    assert seen.coverage is not None
    assert seen.coverage.missing == ("TreeEnsembleClassifier (trees)",)


def test_one_distance_behind_a_sigmoid_is_a_logit_of_its_own(tmp_path):
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[N, {FEATURES}] x) => (float[N, 1] y)
        <float[1] half = {{0.5}}, int64[1] one = {{1}}>
        {{ m = ReduceMax <axes = [1]> (x)  n = ReduceMin <axes = [1]> (x)  d = Mul (m, n)
           z = Sub (half, d)  y = Sigmoid (z) }}"""
    )
    path, data = tmp_path / "m.onnx", tmp_path / "d.npz"
    onnx.save(model, path)
    x = np.random.default_rng(2).random((SAMPLES, FEATURES), np.float32)
    y = (x.max(axis=1) * x.min(axis=1) < 0.5).astype(np.int64)
    y[:5] = 1 - y[:5]
    np.savez(data, x=x, y=y)
    setting = AttackSetting(eps=EPS, device="cpu", accept_accuracy=True, steps=20)
    result = attack(path, data, tmp_path / "a.npz", setting)
    assert result.clean.value == (SAMPLES - 5) / SAMPLES
    assert result.attacked.value < result.clean.value


def test_of_distances_the_smallest_wins(data: Path, tmp_path: Path) -> None:
    """As a model answers that takes the largest of minus the distances."""
    found = {}
    for op, sign in (("ArgMin", "Identity"), ("ArgMax", "Neg")):
        model = nearest()
        del model.graph.node[-2:]
        model.graph.node.extend(
            [
                helper.make_node(sign, ["d"], ["s"]),
                helper.make_node(op, ["s"], ["y"], axis=1, keepdims=0),
            ]
        )
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 7, ["N"]))
        path = tmp_path / f"{op}.onnx"
        onnx.save(model, path)
        setting = AttackSetting(eps=EPS, device="cpu", steps=10)
        result = attack(path, data, tmp_path / "a.npz", setting)
        with np.load(tmp_path / "a.npz") as made:
            found[op] = (result.clean.value, result.attacked.value, made["x"].tobytes())
    assert found["ArgMin"] == found["ArgMax"]
    assert found["ArgMin"][0] == 1 > found["ArgMin"][1]


def test_numbers_that_nothing_calls_scores_are_judged_with_a_word_of_it(tmp_path: Path) -> None:
    """An embedding looks the same: with labels that it makes itself nothing would show it."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        f (float[N, {FEATURES}] x) => (float[N, {CLASSES}] y) {{ y = MatMul (x, w) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(CENTRES.T.copy(), "w"))
    path, data = tmp_path / "bare.onnx", tmp_path / "data.npz"
    onnx.save(model, path)
    x = np.random.default_rng(1).random((SAMPLES, FEATURES), np.float32)
    np.savez(data, x=x, y=(x @ CENTRES.T).argmax(axis=1))
    assert inspect(path).answers == "one of 3 classes, as nothing says otherwise"

    def said(**options: str) -> str:
        setting = EvaluateSetting(attack="fgsm", device="cpu", **options)
        return " ".join(evaluate(path, data, setting).notes)

    assert "nothing says that the 3 numbers" in said(labels="model")
    assert "nothing says" not in said(labels="model", task="single") + said()


def test_nothing_is_advised_that_a_model_does_not_allow(data: Path, tmp_path: Path) -> None:
    """Of trees that answer in probabilities: no gradient to follow, and no layer before them."""
    model = stumps()
    (kind,) = (each for each in model.graph.node[0].attribute if each.name == "post_transform")
    kind.s = b"SOFTMAX"
    onnx.save(model, tmp_path / "m.onnx")
    options = {"eps": (EPS,), "device": "cpu", "accept_accuracy": True, "effort": "quick"}
    setting = EvaluateSetting(attack="square", queries=20, **options)
    (judged,) = evaluate([tmp_path / "m.onnx"], data, setting).report.models
    said = {warning.code: warning.message for warning in judged.warnings}
    assert "TreeEnsembleClassifier (trees) has none" in said["no-white-box-attack"]
    assert "loss-on-probabilities" not in said
