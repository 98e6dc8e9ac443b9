"""Each pass finds what it needs, leaves what it says, keeps what there was, changes no answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from cloakify.graph.attack_steps import build, steps
from cloakify.graph.gradient.rule import has_rule
from cloakify.graph.lowering.decompositions.catalogue import write_out
from cloakify.graph.lowering.fold_shapes import fold_constants
from cloakify.graph.lowering.functions import expand_functions
from cloakify.graph.lowering.opset import WORKING_OPSET
from cloakify.graph.lowering.pass_list import PASSES, UNRUN, Pass, Property
from cloakify.graph.lowering.run_once import run_once
from cloakify.graph.lowering.specialise import lower
from cloakify.graph.lowering.state import Lowering
from cloakify.graph.model.dataflow import leading_to
from cloakify.graph.model.weights import drop_inputs
from cloakify.onnxfile.walk import iter_graphs

P = Property
HEAD = '<ir_version: 8, opset_import: ["" : {}, "own" : 1, "com.microsoft" : 1]> '

MODELS = {
    # Shape arithmetic, an operator of old, one of the model's own, and nodes behind what is wanted.
    "old": (
        HEAD.format(9)
        + """f (float[N, 2, 4, 4] x) => (float[N, M] y, int64[N] label)
        <float[4] s = {1, 1, 2, 2}, int64 zero = {0}, int64[1] rest = {-1}> {
            u = Upsample <mode = "nearest"> (x, s)
            t = own.twice (u)
            n = Shape (x)
            b = Gather <axis = 0> (n, zero)
            f = Unsqueeze <axes = [0]> (b)
            r = Concat <axis = 0> (f, rest)
            y = Reshape (t, r)
            label = ArgMax <axis = 1, keepdims = 0> (y)
        }
        <domain: "own", opset_import: ["" : 9]>
        twice (a) => (c) { d = Add (a, a)  c = Tanh (d) }""",
        {"x": (3, 2, 4, 4)},
        ["y"],
    ),
    # A choice that the shapes make, steps of a sequence, a function of the standard, names of ours.
    "modern": (
        HEAD.format(20)
        + """f (float[N, L, 3] x) => (float[N, 2] logits)
        <float[1, 8, 3] w, float[1, 8, 2] r, int64 one = {1}, int64 two = {2}> {
            cloakify_labels = Transpose <perm = [1, 0, 2]> (x)
            a, cloakify_loss = LSTM <hidden_size = 2> (cloakify_labels, w, r)
            h = Squeeze (cloakify_loss, )
            n = Shape (x)
            l = Gather (n, one)
            long = Greater (l, two)
            g = If (long) <
                then_branch = t () => (float[N, 2] p) { p = Mish (h) },
                else_branch = e () => (float[N, 2] q) { q = Exp (h) }
            >
            j = own.bent (g)
            i = HardSwish (j)
            logits = com.microsoft.FusedMatMul <alpha = 0.5, transB = 1> (i, v)
        }
        <domain: "own", opset_import: ["" : 13]> bent (a) => (c) { c = Tanh (a) }""",
        {"x": (3, 4, 3)},
        ["logits", "cloakify_loss"],
    ),
    # A list of tensors.
    "listed": (
        HEAD.format(18)
        + """f (float[N, 4] x) => (float[N, M] y) <int64 two = {2}, int64 zero = {0}> {
            q = SplitToSequence <axis = 1> (x, two)
            a = SequenceAt (q, zero)
            s = SequenceConstruct (a, x)
            t = SequenceInsert (s, a, zero)
            c = ConcatFromSequence <axis = 1> (t)
            y = Tanh (c)
        }""",
        {"x": (3, 4)},
        ["y"],
    ),
    # Sixteen bits, scales a group, a window beyond the data.
    "half": (
        HEAD.format(18)
        + """f (float16[N, 4, 5, 5] x) => (float16[N, M] y) {
            p = MaxPool <ceil_mode = 1, kernel_shape = [1, 1], strides = [3, 3]> (x)
            g = GroupNormalization <num_groups = 2> (p, s, b)
            f = Flatten (g)
            c = Cast <to = 1> (f)
            t = Tanh (c)
            y = Cast <to = 10> (t)
        }""",
        {"x": (2, 4, 5, 5)},
        ["y"],
    ),
    # Products of small numbers, unsigned and signed, which no processor cuts off.
    "quantised": (
        HEAD.format(21)
        + """f (float[N, 3] x) => (float[N, 2] y)
        <float s = {0.25}, uint8 o = {7}, int8 i = {-1},
         int8[3, 3] v = {1, -2, 3, -4, 5, 6, 7, -8, 9}, int8[3, 2] w = {3, -1, 2, 5, -6, 0}> {
            q = QuantizeLinear (x, s, o)
            p = QLinearMatMul (q, s, o, v, s, i, s, o)
            m = MatMulInteger (p, w, o)
            y = Cast <to = 1> (m)
        }""",
        {"x": (2, 3)},
        ["y"],
    ),
}  # fmt: skip


def model_of(name: str) -> ModelProto:
    text, _, _ = MODELS[name]
    model = onnx.parser.parse_model(text.replace("(cloakify_loss, )", "(cloakify_loss, first)"))
    random = np.random.default_rng(0)
    tensors = {
        "modern": {
            "w": random.standard_normal((1, 8, 3)).astype(np.float32),
            "r": random.standard_normal((1, 8, 2)).astype(np.float32),
            "v": random.standard_normal((2, 2)).astype(np.float32),
            "first": np.array([0]),
        },
        "half": {
            "s": np.array([1, 2], np.float16),
            "b": np.array([0.5, -0.5], np.float16),
        },
    }.get(name, {})
    del_names = set(tensors)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in del_names]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for key, values in tensors.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, key))
    return model


def nodes(model: ModelProto) -> list[NodeProto]:
    return [node for graph in iter_graphs(model.graph) for node in graph.node]


def names(model: ModelProto) -> set[str]:
    graph = model.graph
    made = {name for node in nodes(model) for name in node.output}
    return made | {value.name for value in (*graph.input, *graph.initializer)}


def copied(lowering: Lowering) -> Lowering:
    model = ModelProto()
    model.CopyFrom(lowering.model)
    return Lowering(model, lowering.weights, lowering.inputs, shapes=lowering.shapes)


# Names that cloakify gives inputs and outputs of working graphs.
OURS = {
    value
    for module in (build, steps)
    for key, value in vars(module).items()
    if key.isupper() and isinstance(value, str)
}


def calls_no_functions(at: Lowering) -> bool:
    own = {(function.domain, function.name) for function in at.model.functions}
    return not any((node.domain, node.op_type) in own for node in nodes(at.model))


def ends_at_wanted(at: Lowering) -> bool:
    assert at.outputs is not None
    return len(leading_to(at.model.graph.node, at.outputs).nodes) == len(at.model.graph.node)


def is_recent(at: Lowering) -> bool:
    return all(e.version >= WORKING_OPSET for e in at.model.opset_import if e.domain == "")


def inputs_are_fixed(at: Lowering) -> bool:
    found = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in at.model.graph.input
    }
    return all(found[name] == shape for name, shape in at.inputs.items())


def has_no_halves(at: Lowering) -> bool:
    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    graph = at.model.graph
    tensors = [*graph.initializer, *at.weights.values()]
    values = (*graph.input, *graph.output)
    casts = [a.i for node in nodes(at.model) for a in node.attribute if a.name == "to"]
    kinds = [tensor.data_type for tensor in tensors]
    kinds += [value.type.tensor_type.elem_type for value in values]
    return not half & {*kinds, *casts, *at.types.values()}


def has_no_bodies(at: Lowering) -> bool:
    before = [node.op_type for node in nodes(at.model)]
    model = expand_functions(copied(at).model, has_rule)
    return [node.op_type for node in nodes(model)] == before


def is_static(at: Lowering) -> bool:
    return all(
        name in at.shapes and at.types.get(name)
        for node in at.model.graph.node
        for name in node.output
        if name
    )


def has_one_sign(lowering: Lowering) -> bool:
    types = {tensor.name: tensor.data_type for tensor in lowering.model.graph.initializer}
    places = {"QLinearMatMul": (3, 5), "MatMulInteger": (1, 3)}
    return TensorProto.INT8 not in [
        types[name]
        for node in nodes(lowering.model)
        for place in places.get(node.op_type, ())
        for name in node.input[place : place + 1]
    ]


HOLDS: dict[Property, Callable[[Lowering], bool]] = {
    P.CALLS_NO_FUNCTIONS: calls_no_functions,
    P.LEAVES_NAMES: lambda at: not OURS & names(at.model),
    P.ENDS_AT_WANTED: ends_at_wanted,
    P.RECENT_OPSET: is_recent,
    P.FIXED_INPUTS: inputs_are_fixed,
    P.NO_HALVES: has_no_halves,
    P.NO_BODIES: has_no_bodies,
    P.STATIC_SHAPES: is_static,
    P.FOLDED: lambda at: not fold_constants(copied(at)),
    P.ONE_SIGN: has_one_sign,
    P.NO_COMPOSITES: lambda at: not write_out(copied(at).model, at.shapes, at.types),
}


def run(lowering: Lowering, x: np.ndarray) -> list[np.ndarray]:
    """Return what a working copy answers, as float."""
    whole = ModelProto()
    whole.CopyFrom(lowering.model)
    drop_inputs(whole, lowering.weights)
    whole.graph.initializer.extend(lowering.weights.values())
    (value,) = whole.graph.input
    x = x.astype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    wanted = lowering.outputs or [output.name for output in whole.graph.output]
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    return [found.astype(np.float32) for found in run_once(whole, {value.name: x})]


@pytest.mark.parametrize("name", MODELS)
def test_each_pass_keeps_what_the_ones_before_it_gave(name: str) -> None:
    _, shapes, wanted = MODELS[name]
    lowering = lower(model_of(name), shapes, has_rule, wanted, [])
    x = np.random.default_rng(1).standard_normal(shapes["x"])
    expected = run(lowering, x)
    holding: set[Property] = set()
    for step in PASSES:
        assert step.needs <= holding, step.name
        step.run(lowering)
        holding = holding - step.breaks | step.gives
        for property in holding:
            assert HOLDS[property](lowering), (step.name, property)
        for found, before in zip(run(lowering, x), expected, strict=True):
            np.testing.assert_allclose(found, before, rtol=2e-3, atol=2e-3, err_msg=step.name)
    assert set(Property) - holding == {P.ENDS_AT_WANTED}


@pytest.mark.parametrize("property", [P for P in Property if P is not Property.FIXED_INPUTS])
def test_each_property_is_lacking_somewhere(property: Property) -> None:
    """What held of every model from the start would say nothing of the pass that gives it."""
    given_at = next(place for place, step in enumerate(PASSES) if property in step.gives)
    lacking = []
    for name, (_, shapes, wanted) in MODELS.items():
        before = lower(model_of(name), shapes, has_rule, wanted, PASSES[:given_at])
        lacking.append(not HOLDS[property](before))
    assert any(lacking)


def test_passes_have_names_of_their_own() -> None:
    assert len({step.name for step in PASSES}) == len(PASSES)
    assert PASSES[: len(UNRUN)] == UNRUN
    assert all(isinstance(step, Pass) for step in PASSES)
