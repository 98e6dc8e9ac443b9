"""What rules say that they support is what they can write, asked with and without known shapes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import ModelProto

from cloakify.errors import CloakifyError, NoGradientError, UnsupportedOperatorError
from cloakify.graph.gradient.coverage import gradient_coverage
from cloakify.graph.gradient.gradients import gradients_of
from cloakify.graph.gradient.rule import Situation, has_rule, rule_of
from cloakify.graph.lowering.decompositions.catalogue import KINDS
from cloakify.graph.lowering.specialise import specialise
from tests.support.onnx_cases import cases

SHAPE = (2, 4, 6, 6)
RANDOM = np.random.default_rng(0)
CONSTANTS = {
    "four": np.arange(1, 5, dtype=np.float32),
    "six": np.ones(6, np.float32),
    "half": np.array(0.5, np.float32),
    "grid": RANDOM.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32),
    "w": RANDOM.standard_normal((1, 8, 1)).astype(np.float32),
    "recurrent": RANDOM.standard_normal((1, 8, 2)).astype(np.float32),
    "doubled": np.array([1, 1, 2, 2], np.float32),
    "zero": np.array(0),
    "one": np.array(1),
    "three": np.array(3),
    "first": np.array([0]),
    "next": np.array([1]),
    "last": np.array([-1]),
    "others": np.array([0, 2, 3]),
    "places": np.array([2, 3]),
    "many": np.array([288, 1, 1]),
    "flat": np.array([0, -1]),
    "square": np.array([12, 12]),
    "on": np.array(True),
    "off": np.array(False),
    "whole": np.array([0], np.int8),
}

# What is computed from the values of x: a kernel of one map, a number for each channel, an index.
KERNEL = "k = ReduceMean <keepdims = 1> (x, first)  "
VECTOR = "c = ReduceMean <keepdims = 0> (x, others)  "
INDEX = "r = Reshape (x, last)  a = ArgMax <axis = 0, keepdims = 1> (r)  "
CHOICE = """y = If (c) <then_branch = t () => (float[A] p) { p = {} (x) },
                       else_branch = e () => (float[B] q) { q = Tanh (x) }>"""
ROUNDS = """y = Loop ({}, on, x) <body = b (int64 i, bool d, float[A] s) => (bool e, float[B] t)
                                   { e = Identity (d)  t = Tanh (s) }>"""

# A body that yields y of x, and what is said of it: None where there is a gradient.
BODIES: list[tuple[str, str | None]] = [
    ("y = Relu (x)", None),
    ("d = Det (x)  e = Unsqueeze (d, places)  y = Mul (x, e)", "Det"),
    # Nothing comes back through an ArgMax: what stands before it is of no matter.
    ("d = Det (x)  a = ArgMax <axis = 1> (d)  b = Cast <to = 1> (a)  "
     "e = Unsqueeze (b, places)  y = Mul (x, e)", None),
    (KERNEL + "y = Conv (x, k)", "computes its weights from data"),
    (KERNEL + "t = Transpose <perm = [1, 0, 2, 3]> (k)  y = ConvTranspose (x, t)", "weights"),
    ("y = BatchNormalization (x, four, four, four, four)", None),
    ("y, m, v = BatchNormalization <training_mode = 1> (x, four, four, four, four)",
     "is in training mode"),
    (VECTOR + "y = BatchNormalization (x, c, four, four, four)", "computes its parameters"),
    ("y, m = LayerNormalization (x, six)", None),
    ("n, m = LayerNormalization (x, six)  y = Add (n, m)", "means or deviations"),
    ("n, m = LayerNormalization (x, six)  q = Relu (m)  y = Relu (n)", None),
    ("y = InstanceNormalization (x, four, four)", None),
    (VECTOR + "y = InstanceNormalization (x, c, four)", "computes its parameters from data"),
    ("y = MaxPool <kernel_shape = [2, 2], storage_order = 1> (x)", None),
    ("y, p = MaxPool <kernel_shape = [2, 2], storage_order = 1> (x)", "storage_order 1"),
    ('y = MaxPool <kernel_shape = [2, 2], dilations = [2, 2], auto_pad = "SAME_UPPER"> (x)',
     "is dilated and has auto_pad"),
    ("y = Resize (x, , doubled)", None),
    ("s = Shape (x)  n = Gather (s, places)  m = Add (n, n)  y = Resize <axes = [2, 3]> (x, , , m)",
     None),
    ('y = Resize <keep_aspect_ratio_policy = "not_larger", axes = [2, 3]> (x, , , square)',
     "keeps the aspect ratio"),
    ("s = Shape (x)  n = Gather (s, places)  m = Slice (n, first, next)  y = Slice (x, first, m)",
     None),
    (INDEX + "y = Slice (x, first, a)", "Slice"),
    (INDEX + "b = Mul (a, zero)  y = ReduceSum <keepdims = 1> (x, b)", "computes its axes"),
    ("y = Dropout (x, half, off)", None),
    ("y = Dropout (x, half, on)", "is in training mode"),
    ("c = Cast <to = 9> (one)  y = Dropout (x, half, c)", "is in training mode"),
    ("y = GridSample (x, grid)", None),
    ('y = GridSample <mode = "bicubic"> (x, grid)', "reads in mode"),
    ("r = Reshape (x, many)  y = LSTM <hidden_size = 2> (r, w, recurrent)", "takes 288 steps"),
    ("y = HardSwish (x)", None),
    ("s = Shape (x)  n = Gather (s, one)  c = Greater (n, three)  " + CHOICE.replace("{}", "Exp"),
     None),
    ("s = Shape (x)  n = Gather (s, one)  c = Greater (n, three)  " + CHOICE.replace("{}", "Det"),
     "Det"),
    (INDEX + "b = Cast <to = 9> (a)  c = Squeeze (b)  " + CHOICE.replace("{}", "Exp"),
     "chooses by the values of the data"),
    (ROUNDS.replace("{}", "three"), None),
    (INDEX + "n = Squeeze (a)  " + ROUNDS.replace("{}", "n"), "Loop"),
    ("q = QuantizeLinear (x, half, whole)  y = DequantizeLinear (q, half, whole)", None),
    ("s = SequenceConstruct (x, x)  y = SequenceAt (s, first)", None),
    (INDEX + "s = SequenceConstruct (x, x)  i = Squeeze (a)  y = SequenceAt (s, i)", "Sequence"),
    ("s = SequenceConstruct (x, x)  o = Optional (s)  t = OptionalGetElement (o) "
     "y = SequenceAt (t, first)", "Sequence"),
]  # fmt: skip


def model_of(body: str) -> ModelProto:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> f (float[N, 4, H, W] x) => (float[M] y) '
        f"{{ {body} }}"
    )
    read = {name for node in model.graph.node for name in node.input}
    read |= {"half", "zero"}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name)
        for name, values in CONSTANTS.items()
        if name in read
    )
    return model


def built(model: ModelProto, x: str, shape: tuple[int, ...], y: str) -> str | None:
    """Return what the refusal to build a gradient says, or ``None`` where it is built."""
    working = specialise(model, {x: shape}, has_rule, [y])
    logits = working.tensor(y)
    seed = gs.Variable("seed", logits.dtype, list(logits.shape))
    working.graph.inputs.append(seed)
    try:
        gradients_of(working.graph, [(logits, seed)], [working.tensor(x)])
    except UnsupportedOperatorError as error:
        return str(error)
    except NoGradientError:
        # All on the way is supported; it only leads nowhere.
        return None
    return None


@pytest.mark.parametrize(("body", "reason"), BODIES)
def test_inspections_say_what_attacks_meet(body: str, reason: str | None) -> None:
    model = model_of(body)
    missing = gradient_coverage(model, "x", "y").missing
    try:
        refused = built(model, "x", SHAPE, "y")
    except UnsupportedOperatorError as error:
        # Lowering met it before any rule was asked.
        refused = str(error)
    if reason is None:
        assert refused is None and missing == ()
    else:
        assert refused is not None and "\n" not in refused
        assert any(reason in each for each in missing), missing
        assert reason in refused or "shape depends on the values" in refused, refused


def test_all_refusals_are_named_at_once() -> None:
    body = KERNEL + "a = Conv (x, k)  d = Det (x)  e = Unsqueeze (d, places)  b = Add (a, e)  "
    body += "t = Transpose <perm = [1, 0, 2, 3]> (k)  f = Conv (b, t)  y = Dropout (f, half, on)"
    refused = built(model_of(body.replace("Conv (b, t)", "Relu (b)")), "x", SHAPE, "y")
    assert refused is not None
    for part in ("no gradient rule for Det (node 'd')", "Conv 'a' computes", "Dropout 'y' is in"):
        assert part in refused, refused


@pytest.mark.slow
def test_every_operator_case() -> None:
    told: Counter[str] = Counter()
    for case in cases().values():
        (x,) = [value.name for value in case.model.graph.input]
        for output in case.model.graph.output:
            if output.type.tensor_type.elem_type != onnx.TensorProto.DOUBLE:
                continue
            try:
                refused = built(case.model, x, case.x.shape, output.name)
            except UnsupportedOperatorError as error:
                refused = str(error)
            except CloakifyError:
                # ONNX Runtime, which lowering folds constants with, does not run the case.
                told["not run"] += 1
                continue
            missing = gradient_coverage(case.model, x, output.name).missing
            assert (refused is None) == (missing == ()), (case.name, refused, missing)
            told["supported" if refused is None else "refused"] += 1
    assert told["supported"] > 1200 and told["refused"] > 70, told


@pytest.mark.parametrize("value", ["tensor", "graph", "tensors", "nothing", "numbers"])
@pytest.mark.parametrize(
    ("domain", "op_type"), [(kind.domain, name) for kind in KINDS for name in kind.op_types]
)
def test_any_attribute_may_stand_at_what_is_written_out(
    domain: str, op_type: str, value: str
) -> None:
    constant = gs.Constant("", np.arange(3))
    attribute = {
        "tensor": constant,
        "graph": gs.Graph(),
        "tensors": [constant, constant],
        "nothing": [],
        "numbers": [1.5, 2.5],
    }[value]
    inputs = [gs.Variable("x")] * 3
    node = gs.Node(op_type, attrs={"odd": attribute}, inputs=inputs, domain=domain or None)
    rule = rule_of(node)
    assert rule is not None
    never = Situation(bool, bool, bool, is_lowered=False)
    # Of tensors whose shapes are unknown nothing is known yet.
    assert rule.supports(node, never) is None
