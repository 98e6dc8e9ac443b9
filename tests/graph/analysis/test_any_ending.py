"""Whatever a model makes of its layers' scores: what it is judged by orders as its answers do."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.taps import tap

DEPTH, CLASSES = 5, 4
X = np.random.default_rng(0).normal(size=(60, DEPTH)).astype(np.float32)


class Net:
    """Statements and constants."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.body: list[str] = ["f = Relu (x)"]
        self.tensors: dict[str, NDArray[np.generic]] = {}

    def say(self, call: str) -> str:
        self.body.append(f"v{len(self.body)} = {call}")
        return f"v{len(self.body) - 1}"

    def normal(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def constant(self, values: NDArray[np.generic]) -> str:
        self.tensors[f"c{len(self.tensors)}"] = values
        return f"c{len(self.tensors) - 1}"

    def model(self, ending: str) -> onnx.ModelProto:
        built = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> '
            f"net (float[N, {DEPTH}] x) => (float[N, {CLASSES}] y) "
            f"{{ {'  '.join([*self.body, ending])} }}"
        )
        built.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in self.tensors.items()
        )
        return built


# A number for each class: by a layer more often than not.
LEAVES = [
    lambda net: net.say(f"Gemm (f, {net.normal(DEPTH, CLASSES)}, {net.normal(CLASSES)})"),
    lambda net: net.say(f"MatMul (x, {net.normal(DEPTH, CLASSES)})"),
    lambda net: net.say(f"Gather <axis = 1> (x, {order(net)})"),
]
# A number for all classes.
ONES = [
    lambda net: net.say(f"Gemm (f, {net.normal(DEPTH, 1)})"),
    lambda net: net.say("ReduceMax <axes = [1]> (x)"),
    lambda net: net.say(f"Exp ({net.say('ReduceMax <axes = [1]> (x)')})"),
]


def order(net: Net) -> str:
    return net.constant(net.rng.permutation(CLASSES))


def halves(net: Net, value: str) -> str:
    number = len(net.body)
    net.body.append(f"a{number}, b{number} = Split <axis = 1> ({value})")
    return net.say(f"Concat <axis = 1> (b{number}, a{number})")


def positive(net: Net) -> str:
    return net.constant(net.rng.uniform(0.2, 3, CLASSES).astype(np.float32))


CHANGES = {
    "softmax": lambda net, v: net.say(f"Softmax <axis = 1> ({v})"),
    "log-softmax": lambda net, v: net.say(f"LogSoftmax <axis = 1> ({v})"),
    "sigmoid": lambda net, v: net.say(f"Sigmoid ({v})"),
    "bend": lambda net, v: net.say(f"Tanh ({v})"),
    "power": lambda net, v: net.say(f"Exp ({v})"),
    "minus": lambda net, v: net.say(f"Neg ({v})"),
    "one minus": lambda net, v: net.say(f"Sub ({net.constant(np.float32(1))}, {v})"),
    "one over": lambda net, v: net.say(
        f"Div ({net.constant(np.float32(1))}, {net.say(f'Softplus ({v})')})"
    ),
    "prior": lambda net, v: net.say(f"Mul ({v}, {positive(net)})"),
    "order": lambda net, v: net.say(f"Gather <axis = 1> ({v}, {order(net)})"),
    "halves": halves,
    "centred": lambda net, v: net.say(f"Sub ({v}, {net.say(f'ReduceMean <axes = [1]> ({v})')})"),
}
JOINTS = ["Add", "Mul", "Max", "Mean", "Sub"]


@st.composite
def nets(draw: st.DrawFn) -> onnx.ModelProto:
    net = Net(draw(st.integers(0, 2**32)))

    def value(depth: int) -> str:
        kind = draw(st.sampled_from(["change", "change", "joint", "one", "leaf"]))
        if kind == "leaf" or not depth:
            return draw(st.sampled_from(LEAVES))(net)
        if kind == "change":
            return CHANGES[draw(st.sampled_from([*CHANGES]))](net, value(depth - 1))
        first = value(depth - 1)
        if kind == "joint":
            return net.say(f"{draw(st.sampled_from(JOINTS))} ({first}, {value(depth - 1)})")
        other = draw(st.sampled_from(ONES))(net)
        return net.say(f"{draw(st.sampled_from(['Add', 'Mul', 'Div']))} ({first}, {other})")

    last = value(draw(st.integers(1, 4)))
    ending = draw(st.sampled_from(["Identity", "Identity", "Softmax <axis = 1>"]))
    return net.model(f"y = {ending} ({last})")


def run(model: onnx.ModelProto, name: str) -> NDArray[np.float64]:
    content = tap(model, [name]).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0], np.float64)


@settings(max_examples=150, deadline=None)
@given(nets(), st.booleans())
def test_the_largest_logit_is_that_of_the_answer(model: onnx.ModelProto, needs_head: bool) -> None:
    y = run(model, "y")
    try:
        found = find_classifier(model, needs_head=needs_head)
    except HeadError:
        return
    if found.scores.task is not Task.SINGLE:
        return
    logits = run(with_class_scores(model, found), found.scores.logits)
    # What is as good as equal, or no number, tells nothing.
    known = np.isfinite(y).all(axis=1) & np.isfinite(logits).all(axis=1)
    with np.errstate(invalid="ignore"):
        gaps = [np.diff(np.sort(each, axis=1)[:, -2:])[:, 0] for each in (y, logits)]
    sizes = [np.abs(each).max(axis=1) for each in (y, logits)]
    for gap, size in zip(gaps, sizes, strict=True):
        known &= gap > 1e-4 * size + 1e-6
    np.testing.assert_array_equal(logits.argmax(axis=1)[known], y.argmax(axis=1)[known])
