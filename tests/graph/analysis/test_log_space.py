"""Mixed probabilities are attacked by their logarithms: against NumPy in double, and autograd."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import Wanted, find_classifier
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.runtime import resolve_device
from cloakify.runtime.session import Session

DEPTH, CLASSES = 5, 3
Doubles = NDArray[np.float64]
X = np.random.default_rng(1).normal(size=(12, DEPTH)).astype(np.float32)


@dataclass
class Votes:
    """Statements and constants, and the probabilities that each value is, in double."""

    rng: np.random.Generator
    opset: int = 17
    scale: float = 1.0
    body: list[str] = field(default_factory=list)
    tensors: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    held: dict[str, Doubles] = field(default_factory=dict)

    def constant(self, values: object) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = np.asarray(values)
        return name

    def say(self, call: str, value: Doubles) -> str:
        name = f"v{len(self.body)}"
        self.body.append(f"{name} = {call}")
        self.held[name] = value
        return name

    def scores(self, width: int) -> tuple[str, Doubles]:
        """A member of features of its own."""
        inner = self.rng.normal(size=(DEPTH, 4)).astype(np.float32)
        outer = (self.rng.normal(size=(4, width)) * self.scale).astype(np.float32)
        hidden = self.say(f"MatMul (x, {self.constant(inner)})", X.astype(np.float64) @ inner)
        bent = self.say(f"Tanh ({hidden})", np.tanh(self.held[hidden]))
        name = self.say(f"MatMul ({bent}, {self.constant(outer)})", self.held[bent] @ outer)
        return name, self.held[name]

    def member(self, width: int = CLASSES) -> str:
        name, z = self.scores(width)
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        return self.say(f"Softmax <axis = 1> ({name})", powers / powers.sum(axis=1, keepdims=True))

    def sigmoid(self, width: int) -> str:
        name, z = self.scores(width)
        return self.say(f"Sigmoid ({name})", 1 / (1 + np.exp(-z)))

    def model(self, ending: str, outputs: str) -> onnx.ModelProto:
        built = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : {self.opset}]> '
            f"votes (float[N, {DEPTH}] x) => ({outputs}) {{ {'  '.join([*self.body, ending])} }}"
        )
        built.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in self.tensors.items()
        )
        return built

    # Each takes values and returns another.
    def mean(self, parts: list[str]) -> str:
        value = np.mean([self.held[part] for part in parts], axis=0)
        return self.say(f"Mean ({', '.join(parts)})", value)

    def weighed(self, parts: list[str]) -> str:
        shares = self.rng.dirichlet(np.ones(len(parts))).astype(np.float32)
        terms = []
        for part, share in zip(parts, shares, strict=True):
            turned = bool(self.rng.integers(2))
            by = self.constant(np.float32(1 / share if turned else share))
            call = f"Div ({part}, {by})" if turned else f"Mul ({by}, {part})"
            terms.append(self.say(call, self.held[part] * share))
        total = terms[0]
        for term in terms[1:]:
            total = self.say(f"Add ({total}, {term})", self.held[total] + self.held[term])
        return total

    def stacked(self, parts: list[str]) -> str:
        value = np.mean([self.held[part] for part in parts], axis=0)
        if self.opset < 13:
            rows = [self.say(f"Unsqueeze <axes = [1]> ({part})", value) for part in parts]
            joined = self.say(f"Concat <axis = 1> ({', '.join(rows)})", value)
            return self.say(f"ReduceMean <axes = [1], keepdims = 0> ({joined})", value)
        one = self.constant(np.array([1]))
        rows = [self.say(f"Unsqueeze ({part}, {one})", value) for part in parts]
        joined = self.say(f"Concat <axis = 1> ({', '.join(rows)})", value)
        if self.opset < 18:
            return self.say(f"ReduceMean <axes = [1], keepdims = 0> ({joined})", value)
        return self.say(f"ReduceMean <keepdims = 0> ({joined}, {one})", value)

    def adjusted(self, part: str) -> str:
        prior = self.rng.uniform(0.5, 2, CLASSES).astype(np.float32)
        return self.say(f"Mul ({part}, {self.constant(prior)})", self.held[part] * prior)

    def gated(self, parts: list[str]) -> str:
        gate = self.member(len(parts))
        total = ""
        for place, part in enumerate(parts):
            at = self.constant(np.array([place]))
            share = self.say(
                f"Gather <axis = 1> ({gate}, {at})", self.held[gate][:, place : place + 1]
            )
            term = self.say(f"Mul ({share}, {part})", self.held[share] * self.held[part])
            if total:
                term = self.say(f"Add ({total}, {term})", self.held[total] + self.held[term])
            total = term
        return total


def logits_of(model: onnx.ModelProto, wanted: Wanted | None = None) -> tuple[Doubles, Task]:
    found = find_classifier(model, wanted, needs_head=False)
    assert found.scores.probabilities
    edited = with_class_scores(model, found)
    edited.graph.output.append(onnx.ValueInfoProto(name=found.scores.logits))
    session = Session(edited, resolve_device("cpu"))
    logits = session.run({"x": X}, [found.scores.logits])[found.scores.logits]
    return logits.astype(np.float64), found.scores.task


def shares_of(logits: Doubles) -> Doubles:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


@st.composite
def votes(draw: st.DrawFn) -> tuple[Votes, str]:
    net = Votes(np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.sampled_from([9, 17])))
    net.opset = draw(st.sampled_from([9, 13, 17, 18]))

    def value(depth: int) -> str:
        kind = draw(st.sampled_from(["member", "mean", "weighed", "adjusted", "gated"]))
        if kind == "member" or depth == 0:
            return net.member()
        if kind == "adjusted":
            return net.adjusted(value(depth - 1))
        parts = [value(depth - 1) for _ in range(draw(st.integers(2, 3)))]
        return {"mean": net.mean, "weighed": net.weighed, "gated": net.gated}[kind](parts)

    parts = [value(1) for _ in range(draw(st.integers(2, 3)))]
    last = draw(st.sampled_from([net.mean, net.weighed, net.stacked, net.gated]))
    return net, last(parts)


@settings(max_examples=60, deadline=None)
@given(votes())
def test_the_logits_are_the_logarithms_of_the_mixture(drawn: tuple[Votes, str]) -> None:
    net, name = drawn
    logits, task = logits_of(net.model(f"y = Identity ({name})", f"float[N, {CLASSES}] y"))
    assert task is Task.SINGLE
    p = net.held[name]
    expected = np.log(p) - np.log(p.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(shares_of(logits), expected, atol=1e-4)


def test_probabilities_that_round_to_nothing_have_logarithms() -> None:
    net = Votes(np.random.default_rng(3), scale=300.0)
    members = [net.scores(CLASSES) for _ in range(2)]
    parts = [net.say(f"Softmax <axis = 1> ({name})", z) for name, z in members]
    model = net.model(f"y = Mean ({', '.join(parts)})", f"float[N, {CLASSES}] y")
    logits, _ = logits_of(model)
    expected = np.logaddexp(*(shares_of(z) for _, z in members))
    assert expected.min() < -200
    np.testing.assert_allclose(shares_of(logits), shares_of(expected), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("kind", ["mean", "weighed", "stacked"])
@pytest.mark.parametrize("turned", [False, True])
def test_mixed_sigmoids_are_log_odds(width: int, kind: str, turned: bool) -> None:
    net = Votes(np.random.default_rng(width))
    name = getattr(net, kind)([net.sigmoid(width) for _ in range(3)])
    if turned and kind != "stacked":
        one = net.constant(np.float32(1))
        name = net.say(f"Sub ({one}, {name})", 1 - net.held[name])
    logits, task = logits_of(net.model(f"y = Identity ({name})", f"float[N, {width}] y"))
    p = net.held[name]
    assert task is (Task.BINARY if width == 1 else Task.MULTILABEL)
    np.testing.assert_allclose(logits[:, -width:], np.log(p / (1 - p)), atol=1e-4)


def missing(log: Doubles) -> Doubles:
    """Return log(1 − p) of log p."""
    return np.log(-np.expm1(log))


@pytest.mark.parametrize("scale", [1.0, 12.0])
@pytest.mark.parametrize(("opset", "parts"), [(11, 3), (13, 3), (18, 3), (17, 2)])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("is_or", [True, False])
def test_a_noisy_or_and_a_product_of_sigmoids_are_log_odds(
    is_or: bool, width: int, opset: int, parts: int, scale: float
) -> None:
    """1 − Π (1 − p), and Π p: by a reduction, or one by one where there are two."""
    net = Votes(np.random.default_rng(width), opset=opset, scale=scale)
    scores = [net.scores(width) for _ in range(parts)]
    one = net.constant(np.float32(1))
    parts_of = []
    for name, _ in scores:
        net.body.append(f"s_{name} = Sigmoid ({name})")
        net.body.append(
            f"t_{name} = {f'Sub ({one}, s_{name})' if is_or else f'Identity (s_{name})'}"
        )
        parts_of.append(f"t_{name}")
    if parts == 2:
        net.body.append(f"m = Mul ({', '.join(parts_of)})")
    else:
        if opset < 13:
            ups = [f"u_{part} = Unsqueeze <axes = [2]> ({part})" for part in parts_of]
        else:
            axis = net.constant(np.array([2]))
            ups = [f"u_{part} = Unsqueeze ({part}, {axis})" for part in parts_of]
        net.body += ups
        net.body.append(f"all = Concat <axis = 2> ({', '.join(f'u_{part}' for part in parts_of)})")
        given = (
            "<axes = [2], keepdims = 0> (all)" if opset < 18 else f"<keepdims = 0> (all, {axis})"
        )
        net.body.append(f"m = ReduceProd {given}")
    ending = f"y = Sub ({one}, m)" if is_or else "y = Identity (m)"
    logits, task = logits_of(net.model(ending, f"float[N, {width}] y"))
    assert task is (Task.BINARY if width == 1 else Task.MULTILABEL)
    # log Π, of 1 − p or of p.
    turn = -1 if is_or else 1
    log = sum(-np.logaddexp(0, -turn * z) for _, z in scores)
    expected = turn * (log - missing(log))
    np.testing.assert_allclose(logits[:, -width:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pooling", ["ReduceProd", "ReduceMax", "ReduceMean", "ReduceMin"])
def test_one_number_of_several_sigmoids_is_one_answer(pooling: str) -> None:
    net = Votes(np.random.default_rng(2))
    name, z = net.scores(4)
    model = net.model(
        f"s = Sigmoid ({name})  y = {pooling} <axes = [1], keepdims = 1> (s)", "float[N, 1] y"
    )
    found = find_classifier(model, needs_head=False)
    assert found.scores.task is Task.BINARY
    p = 1 / (1 + np.exp(-z))
    rule = {"ReduceProd": np.prod, "ReduceMax": np.max, "ReduceMean": np.mean}
    p = rule.get(pooling, np.min)(p, axis=1)
    logits, _ = logits_of(model)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], np.log(p / (1 - p)), atol=1e-4)
    # No mask stands before what is pooled so.
    with pytest.raises(HeadError, match="a mask can't be chosen by these"):
        find_classifier(model)


@pytest.mark.parametrize(
    ("ending", "outputs"),
    [
        # What a softmax follows are logits.
        ("q = Add (a, b)  y = Softmax <axis = 1> (q)", "float[N, 3] y"),
        # Weights that are not above 0, and one that nothing is known of.
        ("q = Mul (a, minus)  y = Add (q, b)", "float[N, 3] y"),
        ("q = Sub (a, b)  y = Identity (q)", "float[N, 3] y"),
        ("q = Mul (a, x3)  y = Add (q, b)", "float[N, 3] y"),
        # Bounds that cut off more than infinities.
        ("q = Add (a, b)  y = Clip (q, half, one)", "float[N, 3] y"),
    ],
)
def test_what_is_no_mixture_is_taken_as_it_is(ending: str, outputs: str) -> None:
    net = Votes(np.random.default_rng(0))
    pair = [net.member(), net.member()]
    net.body += [f"{name} = Identity ({part})" for name, part in zip("ab", pair, strict=True)]
    net.tensors |= {"half": np.float32(0.5), "one": np.float32(1), "minus": np.float32(-1)}
    net.tensors |= {"places": np.array([0, 1, 2])}
    net.body.append("x3 = Gather <axis = 1> (x, places)")
    found = find_classifier(net.model(ending, outputs), needs_head=False)
    assert found.scores.logs is None and not found.scores.probabilities


def test_gradients_are_those_of_autograd() -> None:
    torch = pytest.importorskip("torch")
    from cloakify.runtime.bridge import OnnxModule

    net = Votes(np.random.default_rng(7), scale=4.0)
    name = net.weighed([net.member(), net.stacked([net.member(), net.member()])])
    module = OnnxModule(net.model(f"y = Identity ({name})", f"float[N, {CLASSES}] y"))
    y = torch.arange(len(X)) % CLASSES
    given_x = torch.from_numpy(X).requires_grad_()
    torch.nn.functional.cross_entropy(module(given_x), y, reduction="sum").backward()

    values = {"x": torch.from_numpy(X).double().requires_grad_()}
    values |= {key: torch.from_numpy(np.array(value)) for key, value in net.tensors.items()}
    rules = {
        "Add": lambda a, b: a + b,
        "Concat": lambda *parts: torch.cat(parts, 1),
        "Div": lambda a, b: a / b,
        "MatMul": lambda a, b: a @ b.double(),
        "Mul": lambda a, b: a * b,
        "ReduceMean": lambda a: a.mean(1),
        "Softmax": lambda a: a.softmax(1),
        "Tanh": torch.tanh,
        "Unsqueeze": lambda a, _: a.unsqueeze(1),
    }
    for line in net.body:
        made, call = line.split(" = ", 1)
        op, read = call.split(" ", 1)[0], call[call.rindex("(") + 1 : -1]
        values[made] = rules[op](*(values[each] for each in read.split(", ")))
    torch.nn.functional.nll_loss(values[name].log(), y, reduction="sum").backward()
    expected = values["x"].grad.numpy()
    np.testing.assert_allclose(given_x.grad.numpy(), expected, rtol=1e-3, atol=1e-4)
