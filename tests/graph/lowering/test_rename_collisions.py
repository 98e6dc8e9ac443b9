"""A model may hold values with cloakify's own names; attacks and gates are not confused by them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloakify.attacks import Pgd
from cloakify.errors import ModelError
from cloakify.graph.analysis.classifier_search import Wanted
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.task import Task
from cloakify.graph.attack_steps.gate_gradient import build_gate_gradient
from cloakify.graph.edit.gates import insert_gates
from cloakify.graph.lowering.pass_list import Pass
from cloakify.graph.lowering.rename_collisions import free_names
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import lower, specialise
from tests.support.classifiers import mlp_classifier, target_of, threat_of

NAMES = ("a", "h", "logits", "w1", "b1", "w2")
OWN = (
    "cloakify_labels",
    "cloakify_logits",
    "cloakify_loss",
    "cloakify_gradient",
    "cloakify_clean",
    "cloakify_grad_Mul_1",
    "cloakify_next",
    "cloakify_features",
    "cloakify_distribution",
)


def renamed(shift: int) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a classifier, and the same with names of cloakify's."""
    plain = mlp_classifier(0, 5, 3)
    text = onnx.printer.to_text(plain)
    hostile = onnx.ModelProto()
    hostile.CopyFrom(plain)
    mapping = {name: OWN[(place + shift) % len(OWN)] for place, name in enumerate(NAMES)}
    graph = hostile.graph
    for node in graph.node:
        node.name = mapping.get(node.output[0], "")
        node.input[:] = [mapping.get(name, name) for name in node.input]
        node.output[:] = [mapping.get(name, name) for name in node.output]
    for value in (*graph.initializer, *graph.output):
        value.name = mapping[value.name]
    assert onnx.printer.to_text(plain) == text
    return plain, hostile


@pytest.mark.parametrize("shift", range(len(OWN)))
def test_attacks_do_not_depend_on_names(shift: int):
    # Or an answer that is called features would be an embedding.
    wanted = Wanted(task=Task.SINGLE)
    targets = [target_of(model, wanted=wanted) for model in renamed(shift)]
    random = np.random.default_rng(0)
    x = random.random((6, 5)).astype(np.float32)
    y = targets[0].logits(x).argmax(axis=1)
    first, second = (target.evaluate(x, y) for target in targets)
    np.testing.assert_array_equal(first.gradient, second.gradient)
    np.testing.assert_array_equal(first.loss, second.loss)
    threat = threat_of(targets[0], "linf", 0.1)
    attacked = [Pgd(steps=3).run(target, x, y, np.arange(6), threat) for target in targets]
    np.testing.assert_array_equal(*attacked)
    steps = [target.step(x, y, x, threat, 0.1) for target in targets]
    np.testing.assert_array_equal(steps[0].features, steps[1].features)


def test_gates_do_not_depend_on_names():
    for model in renamed(3):
        head = find_head(model).head
        sites = find_gate_sites(model, head)
        gated = insert_gates(model, sites, [np.ones(site.channels) for site in sites], {})
        found = build_gate_gradient(gated, {"x": (2, 5)}, head.logits, [])
        onnx.checker.check_model(found)


def test_an_input_of_such_a_name_is_refused():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> f (float[N, 2] cloakify_labels) => '
        "(float[N, 2] y) { y = Relu(cloakify_labels) }"
    )
    with pytest.raises(ModelError, match=r"input is called 'cloakify_labels'.*rename it"):
        specialise(model, {"cloakify_labels": (1, 2)}, outputs=["y"])


def test_gates_of_the_models_own_are_no_gates():
    model = mlp_classifier(0, 5, 3)
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "cloakify_ungated_0"
    head = find_head(model).head
    sites = find_gate_sites(model, head)
    with pytest.raises(ModelError, match="a value called 'cloakify_ungated_0' of its own"):
        insert_gates(model, sites, [np.ones(site.channels) for site in sites], {})


def test_names_inside_subgraphs_follow():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[N, 2] x, bool c) => (float[N, 2] y)
        {
            cloakify_loss = Relu(x)
            y = If (c) <
                then_branch = g1 () => (float[N, 2] t) { t = Neg(cloakify_loss) },
                else_branch = g2 () => (float[N, 2] e) { e = Identity(cloakify_loss) }
            >
        }"""
    )
    changed = lower(model, {}, None, ["cloakify_loss", "y"], [Pass("free names", free_names)])
    assert changed.outputs == ["model_cloakify_loss", "y"]
    onnx.checker.check_model(changed.model)
    assert "cloakify_loss" in onnx.printer.to_text(model)
    inner = changed.model.graph.node[1].attribute[0].g.node[0]
    assert inner.input[0] == "model_cloakify_loss"


def test_weights_follow_and_go_by_their_old_names_outside():
    weight = np.random.default_rng(0).random((64, 64), np.float32)
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]> f (float[N, 64] x) => (float[N, 64] y)
        { cloakify_logits = MatMul (x, cloakify_gradient)  y = Relu (cloakify_logits) }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "cloakify_gradient"))
    working = specialise(model, {"x": (2, 64)}, outputs=["cloakify_logits"])
    assert working.tensor("cloakify_logits").name == "model_cloakify_logits"
    (product,) = working.graph.nodes
    np.testing.assert_array_equal(product.inputs[1].values, weight)
    x = np.ones((2, 64), np.float32)
    np.testing.assert_allclose(run_once(working.export(), {"x": x})[0], x @ weight, rtol=1e-5)
    assert model.graph.initializer[0].name == "cloakify_gradient"
