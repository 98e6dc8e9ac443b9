"""Several layers of the same features as one head: against the map that they are together."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cloakify.errors import HeadError
from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.task import Task
from cloakify.graph.edit.mask import insert_mask, strip_mask
from cloakify.masking.linear_head import read_head
from cloakify.masking.voted_curve import right_of_votes

DEPTH = 5
MASK = np.array([1, 0, 1, 1, 0], np.float32)
X = np.random.default_rng(1).normal(size=(12, DEPTH)).astype(np.float32)
Doubles = NDArray[np.float64]


@dataclass
class Net:
    """Statements and constants, and of each value the linear map of the features that it is."""

    rng: np.random.Generator
    body: list[str] = field(default_factory=lambda: ["f = Relu (x)"])
    tensors: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    maps: dict[str, tuple[Doubles, Doubles]] = field(default_factory=dict)

    def constant(self, values: NDArray[np.generic]) -> str:
        name = f"c{len(self.tensors)}"
        self.tensors[name] = values
        return name

    def say(self, call: str, weight: Doubles, bias: Doubles) -> str:
        name = f"v{len(self.body)}"
        self.body.append(f"{name} = {call}")
        self.maps[name] = weight, bias
        return name

    def model(self, ending: str, outputs: str = "float[N, C] y") -> onnx.ModelProto:
        body = "  ".join([*self.body, ending])
        built = onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]> '
            f"net (float[N, {DEPTH}] x) => ({outputs}) {{ {body} }}"
        )
        built.graph.initializer.extend(
            onnx.numpy_helper.from_array(values, name) for name, values in self.tensors.items()
        )
        return built


def a_layer(net: Net, width: int) -> str:
    weight = net.rng.normal(size=(DEPTH, width)).astype(np.float32)
    bias = net.rng.normal(size=width).astype(np.float32)
    w, b = net.constant(weight), net.constant(bias)
    if net.rng.integers(2):
        return net.say(f"Gemm (f, {w}, {b})", weight, bias)
    product = net.say(f"MatMul (f, {w})", weight, np.zeros(width))
    return net.say(f"Add ({b}, {product})", weight, bias)


def a_chain(net: Net, width: int) -> str:
    """A layer that reads another of fewer numbers (LoRA)."""
    inner = a_layer(net, int(net.rng.integers(1, 4)))
    before, shift = net.maps[inner]
    weight = net.rng.normal(size=(len(shift), width)).astype(np.float32)
    call = f"MatMul ({inner}, {net.constant(weight)})"
    return net.say(call, before @ weight, shift @ weight)


def a_centred(net: Net, value: str) -> str:
    """Scores less their own mean (dueling)."""
    weight, bias = net.maps[value]
    around = weight.mean(axis=1, keepdims=True), bias.mean(keepdims=True)
    mean = net.say(f"ReduceMean <axes = [{net.rng.choice([1, -1])}]> ({value})", *around)
    return net.say(f"Sub ({value}, {mean})", weight - around[0], bias - around[1])


def a_concat(net: Net, parts: list[str]) -> str:
    weights, biases = zip(*(net.maps[part] for part in parts), strict=True)
    call = f"Concat <axis = {net.rng.choice([1, -1])}> ({', '.join(parts)})"
    return net.say(call, np.concatenate(weights, axis=1), np.concatenate(biases))


def a_sum(net: Net, parts: list[str], op: str) -> str:
    if op == "stack":
        one = net.constant(np.array([0]))
        rows = [net.say(f"Unsqueeze ({part}, {one})", *net.maps[part]) for part in parts]
        stacked = net.say(f"Concat <axis = 0> ({', '.join(rows)})", *net.maps[parts[0]])
        op, call = "Mean", f"ReduceMean <axes = [0], keepdims = 0> ({stacked})"
    else:
        call = f"{op} ({', '.join(parts)})"
    signs = np.array([1.0, *[-1.0 if op == "Sub" else 1.0] * (len(parts) - 1)])
    signs /= len(parts) if op == "Mean" else 1
    weight = sum(sign * net.maps[part][0] for sign, part in zip(signs, parts, strict=True))
    bias = sum(sign * net.maps[part][1] for sign, part in zip(signs, parts, strict=True))
    return net.say(call, np.asarray(weight), np.asarray(bias))


def a_change(net: Net, value: str, kind: int) -> str:
    weight, bias = net.maps[value]
    size = len(bias)
    numbers = net.rng.normal(size=size).astype(np.float32)
    if kind == 0:
        return net.say(f"Mul ({net.constant(numbers)}, {value})", weight * numbers, bias * numbers)
    if kind == 1:
        return net.say(f"Sub ({net.constant(numbers)}, {value})", -weight, numbers - bias)
    if kind == 2:
        return net.say(f"Neg ({value})", -weight, -bias)
    places = net.rng.permutation(size)
    call = f"Gather <axis = 1> ({value}, {net.constant(places)})"
    return net.say(call, weight[:, places], bias[places])


@st.composite
def joined(draw: st.DrawFn) -> tuple[Net, str]:
    """A tree of layers, the root of which is where all of them meet."""
    net = Net(np.random.default_rng(draw(st.integers(0, 2**32))))

    def value(width: int, depth: int) -> str:
        kind = draw(
            st.sampled_from(["layer", "layer", "change", "concat", "sum", "chain", "centred"])
        )
        if kind == "chain":
            return a_chain(net, width)
        if kind == "centred":
            return a_centred(net, value(width, max(depth - 1, 0)))
        if kind == "layer" or depth == 0 or (kind == "concat" and width < 2):
            return a_layer(net, width)
        if kind == "change":
            return a_change(net, value(width, depth - 1), draw(st.integers(0, 3)))
        return meeting(kind, width, depth)

    def meeting(kind: str, width: int, depth: int) -> str:
        if kind == "concat":
            first = draw(st.integers(1, width - 1))
            return a_concat(net, [value(first, depth - 1), value(width - first, depth - 1)])
        op = draw(st.sampled_from(["Add", "Sub", "Sum", "Mean", "stack"]))
        # One of them may be one number for all classes.
        others = st.just(width) if op == "stack" else st.sampled_from([width, width, 1])
        # All that are drawn are added, so that it comes out as wide as is asked for.
        most = 1 if op in ("Add", "Sub") else 2
        widths = [width, *draw(st.lists(others, min_size=1, max_size=most))]
        return a_sum(net, [value(each, depth - 1) for each in draw(st.permutations(widths))], op)

    width = draw(st.integers(2, 5))
    return net, meeting(draw(st.sampled_from(["concat", "sum"])), width, 2)


def run(model: onnx.ModelProto, x: NDArray[np.float32] = X) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": x})[0]
    return found


def softmax(scores: Doubles) -> Doubles:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@settings(max_examples=80, deadline=None)
@given(joined())
def test_layers_that_meet_are_one_map_and_one_mask_is_before_it(drawn: tuple[Net, str]) -> None:
    net, scores = drawn
    model = net.model(f"y = Softmax ({scores})")
    weight, bias = net.maps[scores]
    head = find_head(model).head
    assert (head.features, head.num_features, head.num_classes) == ("f", DEPTH, len(bias))
    assert find_head(model, head.node).head == head
    hardened = insert_mask(model, head, MASK, {})
    onnx.checker.check_model(hardened)
    expected = softmax((np.maximum(X, 0) * MASK).astype(np.float64) @ weight + bias)
    np.testing.assert_allclose(run(hardened), expected, atol=1e-5)
    assert strip_mask(hardened).SerializeToString() == model.SerializeToString()
    linear = read_head(model, head, 2)
    np.testing.assert_allclose(linear.weight, weight, atol=1e-4)
    np.testing.assert_allclose(linear.bias, bias, atol=1e-4)


@st.composite
def voted(draw: st.DrawFn) -> tuple[Net, str, list[tuple[str, float]]]:
    """A vote among layers, or what is made of several, and the share of each."""
    net = Net(np.random.default_rng(draw(st.integers(0, 2**32))))
    width = draw(st.integers(2, 4))
    makes = {
        "layer": lambda: a_layer(net, width),
        "chain": lambda: a_chain(net, width),
        "sum": lambda: a_sum(net, [a_layer(net, width), a_layer(net, 1)], "Add"),
        "scaled": lambda: a_change(net, a_layer(net, width), 0),
    }
    kinds = draw(st.lists(st.sampled_from([*makes]), min_size=2, max_size=4))
    parts = [makes[kind]() for kind in kinds]
    bent = []
    for place, part in enumerate(parts):
        axis = draw(st.sampled_from([1, -1]))
        bent.append(f"s{place}")
        net.body.append(f"s{place} = Softmax <axis = {axis}> ({part})")
    shares = np.ones(len(parts))
    op = draw(st.sampled_from(["Sum", "Mean", "stack", "weighed", "halved"]))
    if op == "stack":
        zero = net.constant(np.array([0]))
        net.body += [f"u{place} = Unsqueeze ({name}, {zero})" for place, name in enumerate(bent)]
        rows = ", ".join(f"u{place}" for place in range(len(bent)))
        net.body.append(f"k = Concat <axis = 0> ({rows})")
        net.body.append("v = ReduceMean <axes = [0], keepdims = 0> (k)")
        shares /= len(parts)
    elif op in ("Sum", "Mean"):
        net.body.append(f"v = {op} ({', '.join(bent)})")
        shares /= len(parts) if op == "Mean" else 1
    else:
        # One after the other, each with a weight; or all that came before halved again.
        total = bent[0]
        for place, name in enumerate(bent[1:], start=1):
            factor = np.float32(net.rng.uniform(0.2, 3))
            held = net.constant(factor)
            net.body.append(f"m{place} = {'Mul' if op == 'weighed' else 'Div'} ({name}, {held})")
            shares[place] = factor if op == "weighed" else 1 / factor
            net.body.append(f"t{place} = Add ({total}, m{place})")
            total = f"t{place}"
        net.body.append(f"v = Identity ({total})")
    return net, "v", [*zip(parts, shares.tolist(), strict=True)]


@settings(max_examples=60, deadline=None)
@given(voted())
def test_one_mask_stands_before_a_vote(drawn: tuple[Net, str, list[tuple[str, float]]]) -> None:
    net, value, votes = drawn
    model = net.model(f"y = Identity ({value})")
    found = find_classifier(model)
    assert found.head is not None
    assert (found.head.features, found.head.num_features) == ("f", DEPTH)
    assert found.scores.logs is not None

    def answers(features: Doubles) -> Doubles:
        terms = [
            share * softmax(features @ net.maps[name][0] + net.maps[name][1])
            for name, share in votes
        ]
        return np.asarray(sum(terms))

    features = np.maximum(X, 0).astype(np.float64)
    hardened = insert_mask(model, found.head, MASK, {})
    onnx.checker.check_model(hardened)
    np.testing.assert_allclose(run(hardened), answers(features * MASK), rtol=1e-3, atol=1e-5)
    assert strip_mask(hardened).SerializeToString() == model.SerializeToString()
    linear = read_head(model, found.head, 2)
    shifted = linear.logits(np.maximum(X, 0), MASK) - np.log(answers(features * MASK))
    np.testing.assert_allclose(shifted, 0, atol=1e-3)
    ranking = net.rng.permutation(DEPTH)
    y = net.rng.integers(0, len(linear.bias), len(X))
    right = right_of_votes(linear, np.maximum(X, 0), y, ranking)
    for size in range(DEPTH + 1):
        kept = np.ones(DEPTH)
        kept[ranking[:size]] = 0
        told = np.sort(answers(features * kept), axis=1)
        # Two that are as good as equal may come out in either order.
        clear = told[:, -1] - told[:, -2] > 1e-4
        expected = answers(features * kept).argmax(axis=1) == y
        np.testing.assert_array_equal(right[clear, size], expected[clear])


def one_vs_rest(pair: str, ending: str, outputs: str) -> tuple[Net, onnx.ModelProto]:
    """A layer for each of three classes, each bent by itself; its map is that of their scores."""
    net = Net(np.random.default_rng(5))
    layers = [a_layer(net, 1) for _ in range(3)]
    one = net.constant(np.float32(1))
    bounds = [net.constant(np.array([bound])) for bound in (1, 2)]
    shares = []
    for place, layer in enumerate(layers):
        names = {"z": layer, "one": one, "s": f"s{place}", "r": f"r{place}", "p": f"p{place}"}
        names |= {"from": bounds[0], "to": bounds[1]}
        net.body.append(pair.format(**names))
        shares.append(names["p"])
    net.maps["z"] = tuple(
        np.concatenate([net.maps[layer][place] for layer in layers], axis=-1) for place in (0, 1)
    )
    net.body.append(f"q = Concat <axis = 1> ({', '.join(shares)})")
    return net, net.model(ending, outputs)


PAIRS = {
    "a sigmoid each": "{p} = Sigmoid ({z})",
    "one of two probabilities": (
        "{s} = Sigmoid ({z})  {r} = Sub ({one}, {s})  {s}{r} = Concat <axis = 1> ({r}, {s})  "
        "{p} = Slice ({s}{r}, {from}, {to}, {from})"
    ),
    "without the axis of one": (
        "{s} = Squeeze ({z}, {from})  {r} = Sigmoid ({s})  {p} = Unsqueeze ({r}, {from})"
    ),
}


@pytest.mark.parametrize(
    ("ending", "outputs", "task"),
    [
        ("y = ArgMax <axis = 1, keepdims = 0> (q)", "int64[N] y", Task.SINGLE),
        ("y = LpNormalization <axis = 1, p = 1> (q)", "float[N, 3] y", Task.SINGLE),
        ("y = Identity (q)", "float[N, 3] y", Task.MULTILABEL),
    ],
)
@pytest.mark.parametrize("pair", PAIRS)
def test_scores_that_are_bent_one_by_one_are_judged_before(pair, ending, outputs, task) -> None:
    net, model = one_vs_rest(PAIRS[pair], ending, outputs)
    found = find_classifier(model)
    assert found.head is not None
    assert (found.head.features, found.head.num_classes, found.head.logits) == ("f", 3, "q")
    assert found.scores.task is task
    weight, bias = net.maps["z"]
    linear = read_head(model, found.head, 2)
    np.testing.assert_allclose(linear.weight, weight, atol=1e-5)
    np.testing.assert_allclose(linear.bias, bias, atol=1e-5)
    hardened = insert_mask(model, found.head, MASK, {})
    shares = 1 / (1 + np.exp(-((np.maximum(X, 0) * MASK) @ weight + bias)))
    expected = {"A": shares.argmax(axis=1), "L": shares / shares.sum(axis=1, keepdims=True)}
    np.testing.assert_allclose(run(hardened), expected.get(ending[4], shares), atol=1e-5)
    assert strip_mask(hardened).SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize(
    ("ending", "refusal"),
    [
        # Softmaxes that are no vote: multiplied, beside scores, along the samples, and bent before.
        ("p = Softmax (a)  q = Softmax (b)  y = Mul (p, q)", "could be the head"),
        ("p = Softmax (a)  q = Softmax (b)  y = Sub (p, q)", "could be the head"),
        ("p = Softmax (a)  y = Add (p, b)", "could be the head"),
        ("p = Softmax <axis = 0> (a)  q = Softmax (b)  y = Add (p, q)", "could be the head"),
        ("t = Tanh (a)  p = Softmax (t)  q = Softmax (b)  y = Add (p, q)", "could be the head"),
        # Scores weighed by others, or with a way around where they meet.
        ("p = Sigmoid (a)  y = Mul (p, b)", "could be the head"),
        ("p = Add (a, b)  y = Max (p, a)", "could be the head"),
        # One of two is bent, or turned around.
        ("p = Sigmoid (a)  y = Concat <axis = 1> (p, b)", "could be the head"),
        ("s = Sigmoid (a)  p = Sub (one, s)  q = Sigmoid (b)  y = Concat <axis = 1> (p, q)", ""),
        # A mean along the samples, and one that loses its axis.
        ("p = ReduceMean <axes = [0]> (b)  y = Sub (a, p)", "could be the head"),
        ("p = ReduceMean <axes = [1], keepdims = 0> (b)  y = Sub (a, p)", "could be the head"),
        # What a layer reads of another is read elsewhere, too.
        ("c = Gemm (a, v)  p = Tanh (a)  q = Add (c, b)  y = Add (q, p)", "could be the head"),
        # Along the samples, or of other features.
        ("y = Concat <axis = 0> (a, b)", "could be the head"),
        ("g = Tanh (x)  c = Gemm (g, w)  y = Add (a, c)", "could be the head"),
    ],
)
def test_what_is_no_map_of_the_same_features_is_left_to_choose(ending: str, refusal: str) -> None:
    net = Net(np.random.default_rng(0))
    names = {"a": a_layer(net, 2), "b": a_layer(net, 2)}
    net.tensors |= {"w": np.ones((DEPTH, 2), np.float32), "one": np.float32(1)}
    net.tensors |= {"v": np.ones((2, 2), np.float32)}
    net.body += [f"{name} = Identity ({value})" for name, value in names.items()]
    with pytest.raises(HeadError, match=refusal or "could be the head"):
        find_head(net.model(ending))
