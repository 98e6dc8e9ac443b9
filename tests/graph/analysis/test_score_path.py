"""From a layer's output to the scores that a model answers with: against the model's own answer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from cloakify.graph.analysis.classifier_search import find_classifier
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.class_logits import with_class_scores
from cloakify.graph.edit.taps import tap
from cloakify.masking.linear_head import read_head

CLASSES = 4
LAYERS = {
    "Gemm": ("float[N, 3] x", "p = Tanh (x)  l = Gemm (p, w, b)", "float[3, 4] w", (), (7, 3)),
    "MatMul": (
        "float[N, 3] x",
        "p = Tanh (x)  m = MatMul (p, w)  l = Add (m, b)",
        "float[3, 4] w",
        (),
        (7, 3),
    ),
    "Conv": (
        "float[N, 3, 1, 1] x",
        "p = Tanh (x)  l = Conv (p, k, b)",
        "float[4, 3, 1, 1] k",
        (1, 1),
        (7, 3, 1, 1),
    ),
}
STEPS = st.lists(
    st.sampled_from(["Neg", "Add", "Sub", "from", "Mul", "Div", "scale", "turn", "shift", "norm"])
    | st.permutations(range(CLASSES)).map(tuple)
    | st.sampled_from([("cut", 1, 4), ("cut", 0, 3), ("cut", -1, -9)]),
    max_size=4,
)


def chain(layer: str, steps: list[object], rng: np.random.Generator) -> onnx.ModelProto:
    """Build a layer with steps behind it, each class by class."""
    x, body, weight, behind, _ = LAYERS[layer]
    classes, tensors, lines, last = CLASSES, {}, [body], "l"

    def constant(values: object, kind: type = np.float32) -> str:
        name = f"c{len(tensors)}"
        tensors[name] = np.asarray(values, kind)
        return name

    for place, step in enumerate(steps):
        each = rng.uniform(0.2, 2, (classes, *(1 for _ in behind))) * rng.choice([-1, 1], 1)
        here = f"t{place}"
        if step == "Neg":
            lines.append(f"{here} = Neg ({last})")
        elif step == "from":
            lines.append(f"{here} = Sub ({constant(each)}, {last})")
        elif step == "norm":
            # Scale, shift, mean and variance of a batch normalisation.
            numbers = [rng.uniform(0.5, 2, classes) * sign for sign in (each.flat[0], 1, 1, 1)]
            numbers[3] = np.abs(numbers[3])
            lines.append(
                f"{here} = BatchNormalization ({last}, {', '.join(map(constant, numbers))})"
            )
        elif step in ("scale", "turn", "shift"):
            number = constant([-0.5 if step == "turn" else 0.5])
            lines.append(f"{here} = {'Add' if step == 'shift' else 'Mul'} ({last}, {number})")
        elif isinstance(step, str):
            lines.append(f"{here} = {step} ({last}, {constant(each)})")
        elif step[0] == "cut":
            by = 1 if step[1] >= 0 else -1
            count = len(range(*slice(step[1], step[2], by).indices(classes)))
            if count < 2:
                lines.append(f"{here} = Identity ({last})")
            else:
                bounds = [constant([number], np.int64) for number in (*step[1:], 1, by)]
                lines.append(f"{here} = Slice ({last}, {', '.join(bounds)})")
                classes = count
        else:
            order = constant([each for each in step if each < classes], np.int64)
            lines.append(f"{here} = Gather <axis: int = 1> ({last}, {order})")
        last = here
    lines.append(f"y = Softmax <axis: int = 1> ({last})")
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> f ({x}) => (float[N, {classes}] y) '
        f"<float[4] b = {{0.1, -0.4, 0.2, 0.5}}> {{ {'  '.join(lines)} }}"
    )
    shape = [int(size) for size in weight[weight.index("[") + 1 : weight.index("]")].split(",")]
    tensors[weight.split()[-1]] = rng.standard_normal(shape).astype(np.float32)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in tensors.items()
    )
    return onnx.shape_inference.infer_shapes(model)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(LAYERS)), STEPS, st.integers(0, 2**32 - 1))
def test_the_answer_is_that_of_the_scores(layer: str, steps: list[object], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = chain(layer, steps, rng)
    x = rng.standard_normal(LAYERS[layer][-1]).astype(np.float32)
    head = find_head(model).head
    (answer,) = ReferenceEvaluator(model).run(None, {"x": x})
    (logits,) = ReferenceEvaluator(tap(model, [head.logits])).run(None, {"x": x})
    assert answer.shape[1] == head.num_classes
    ends = np.sort(logits.reshape(len(x), -1), axis=1)[:, -2:]
    clear = ends[:, 1] - ends[:, 0] > 1e-4
    rows = (len(x), -1)
    same = logits.reshape(rows).argmax(axis=1) == answer.reshape(rows).argmax(axis=1)
    assert same[clear].all()
    # And the layer read as numbers says the same.
    linear = read_head(model, head, x.ndim)
    np.testing.assert_allclose(
        linear.logits(np.tanh(x).reshape(len(x), -1)), logits.reshape(rows), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("after", "largest"),
    [
        ("c = Max (l, low)  r = Sqrt (c)  y = Neg (r)", False),
        ("c = Max (l, low)  r = Sqrt (c)  n = Neg (r)  y = Softmax (n)", False),
        ("c = Max (l, low)  y = Sqrt (c)", True),
        ("c = Max (l, low)  r = Sqrt (c)  y = ArgMin <axis = 1, keepdims = 0> (r)", False),
        ("c = Max (l, low)  r = Neg (c)  y = ArgMin <axis = 1, keepdims = 0> (r)", True),
    ],
)
def test_distances_that_are_turned_around_later_win_by_the_smallest(after, largest):
    """Squared distances by a product are a layer's scores; what wins is what the model answers."""
    y = "int64[N] y" if "Arg" in after else "float[N, 4] y"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> f (float[N, 3] x) => ({y})
        <float low = {{0.000001}}> {{ h = Abs (x)  l = MatMul (h, w)  {after} }}"""
    )
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.1, 1, (3, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    found = find_classifier(model)
    x = rng.normal(size=(20, 3)).astype(np.float32)
    judged = with_class_scores(model, found)
    logits, answer = ReferenceEvaluator(tap(judged, [found.scores.logits, "y"])).run(None, {"x": x})
    answer = answer if "Arg" in after else answer.argmax(axis=1)
    np.testing.assert_array_equal(logits.argmax(axis=1), answer)
    assert found.scores.boundary.rising == largest
