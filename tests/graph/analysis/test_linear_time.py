"""What is read off a graph takes twice as much for one twice as deep, not four times."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from cloakify.graph.analysis.answer import answers_of
from cloakify.graph.analysis.attack_point import find_attack_point
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.gate_sites import find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.fold import fold_gates
from cloakify.graph.gradient.coverage import gradient_coverage

WIDTH = 4


def node(op_type: str, inputs: list[str], output: str) -> NodeProto:
    return helper.make_node(op_type, inputs, [output], output)


def layers(count: int) -> list[NodeProto]:
    """A layer after the other."""
    found = []
    for number in range(count):
        found.append(node("MatMul", [f"t{number - 1}" if number else "x", "w"], f"m{number}"))
        found.append(node("Tanh", [f"m{number}"], f"t{number}"))
    return [*found, node("MatMul", [f"t{count - 1}", "w"], "y")]


def mixed(count: int) -> list[NodeProto]:
    """Many layers' scores in one sum after the other."""
    found = [node("MatMul", ["x", "w"], "s0")]
    for number in range(1, count):
        found.append(node("MatMul", ["x", "w"], f"m{number}"))
        found.append(node("Add", [f"s{number - 1}", f"m{number}"], f"s{number}"))
    return [*found, node("Identity", [f"s{count - 1}"], "y")]


def stored(count: int) -> list[NodeProto]:
    """A weight that is computed by many nodes, and a long way behind the scores."""
    found = [node("Identity", ["w"], "w0")]
    found += [node("Neg", [f"w{n - 1}"], f"w{n}") for n in range(1, count)]
    found += [node("Tanh", ["x"], "t"), node("MatMul", ["t", f"w{count - 1}"], "s0")]
    found += [node("Neg", [f"s{n - 1}"], f"s{n}") for n in range(1, count)]
    return [*found, node("Softmax", [f"s{count - 1}"], "y")]


def doubled(count: int) -> list[NodeProto]:
    """As many ways as there are atoms in the universe."""
    found = [node("Tanh", ["x"], "t0")]
    found += [node("Add", [f"t{n - 1}"] * 2, f"t{n}") for n in range(1, count)]
    return [*found, node("MatMul", [f"t{count - 1}", "w"], "y")]


def model_of(nodes: list[NodeProto]) -> ModelProto:
    declared = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in "xy"
    ]
    weight = np.eye(WIDTH, dtype=np.float32)
    graph = helper.make_graph(
        nodes, "net", declared[:1], declared[1:], [onnx.numpy_helper.from_array(weight, "w")]
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def logits(model: ModelProto) -> str:
    return find_head(model, any_mixed=True).head.logits


QUESTIONS: dict[str, Callable[[ModelProto], object]] = {
    "classifier": lambda model: find_classifier(model, needs_head=False),
    "attack point": find_attack_point,
    "gate sites": lambda model: find_gate_sites(model, find_head(model, any_mixed=True).head),
    "answers": lambda model: answers_of(model, find_classifier(model, needs_head=False).scores),
    "coverage": lambda model: gradient_coverage(model, "x", logits(model)),
}


def calls(function: Callable[[], object]) -> int:
    """Return how many calls, Python's own included, a function takes."""
    count = 0

    def counted(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("net", [layers, mixed, stored, doubled])
@pytest.mark.parametrize("question", QUESTIONS)
def test_twice_as_deep_takes_twice_as_much(net, question) -> None:
    ask = QUESTIONS[question]
    small, large = (model_of(net(count)) for count in (60, 120))
    ask(small)
    few, many = calls(lambda: ask(small)), calls(lambda: ask(large))
    assert many < 2.2 * few, (few, many)


def convolutions(count: int) -> ModelProto:
    """Layers without biases, each with a weight of its own."""
    lines = [f"c{n} = Conv(c{n - 1}, w{n})" for n in range(1, count)]
    weights = ", ".join(f"float[2, 2, 1, 1] w{n} = {{1, 0, 0, 1}}" for n in range(count))
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    net (float[N, 2, 1, 1] x) => (float[N, 2] y) <{weights}, float[2, 2] w = {{1, 0, 0, 1}}> {{
        c0 = Conv(x, w0)
        {chr(10).join(lines)}
        f = Flatten(c{count - 1})
        y = MatMul(f, w)
    }}"""
    return onnx.parser.parse_model(text)


def test_folding_into_twice_as_many_layers_takes_twice_as_much() -> None:
    taken = []
    for count in (60, 120):
        model = convolutions(count)
        sites = find_gate_sites(model, find_head(model).head, shifts=True)
        assert sum(site.free_bias is not None for site in sites) >= count
        gates = [np.full(site.channels, 1.0 - site.adds, np.float32) for site in sites]
        taken.append(calls(partial(fold_gates, model, sites, gates, {})))
    few, many = taken
    assert many < 2.2 * few, (few, many)


@pytest.mark.parametrize("question", QUESTIONS)
def test_networks_are_deeper_than_the_stack(question) -> None:
    QUESTIONS[question](model_of(stored(sys.getrecursionlimit() + 10)))
