"""Nodes that CUDA has no kernels for, told from a table, against where ONNX Runtime places them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.backend.test.case.node import collect_testcases

from cloakify.graph.attack_steps.build import GradientSpec, build_gradient
from cloakify.graph.attack_steps.losses import LOSSES
from cloakify.graph.attack_steps.steps import ITERATION_STEPS
from cloakify.graph.lowering.opset import WORKING_OPSET
from cloakify.runtime.cuda_kernels import kernel_table
from cloakify.runtime.cuda_placement import cuda_placement
from tests.runtime import stand_in
from tests.support.on_cuda import appended_fallbacks


def placed(body: str, opset: int = 18, signature: str = "") -> list[tuple[str, str]]:
    """Return operator and reason of what the CPU would run of a graph from x to y."""
    signature = signature or "(float[2, 3, 8, 8] x) => (float[N, M, H, W] y)"
    text = f'<ir_version: 10, opset_import: ["" : {opset}]> f {signature} {body}'
    found = cuda_placement(onnx.parser.parse_model(text))
    return [(entry.op_type, entry.reason) for entry in found.fallbacks]


def test_the_table_holds_what_it_says() -> None:
    (conv, *_) = [kernel for kernel in kernel_table().kernels["", "Conv"] if kernel.first == 11]
    assert conv.last == 21
    assert conv.types == {"T": {"double", "float", "float16"}}
    (gelu,) = kernel_table().kernels["com.microsoft", "BiasGelu"]
    assert (gelu.first, gelu.last, gelu.inputs, gelu.outputs) == (1, None, ("T", "T"), ("T",))


@pytest.mark.parametrize(
    ("body", "opset", "expected"),
    [
        ("{ y = Relu (x) }", 18, []),
        ("{ y = Cosh (x) }", 18, [("Cosh", "no CUDA kernel")]),
        ("{ y = MaxPool <kernel_shape = [2, 2]> (x) }", 21, []),
        (
            "{ y = MaxPool <kernel_shape = [2, 2]> (x) }",
            22,
            [("MaxPool", "no CUDA kernel for its form since opset 22")],
        ),
        (
            "{ h = Cast <to = 5> (x) i = Abs (h) j = Neg (i) k = Clip (j) y = Cast <to = 1> (k) }",
            18,
            [("Clip", "no CUDA kernel for int16")],
        ),
        # What it has no kernel for, and a body, is written out: HardSwish and Mish have neither
        # fate, and GroupNormalization no kernel anywhere.
        (
            "<float[3] s = {1, 1, 1}> { y = GroupNormalization <num_groups = 1> (x, s, s) }",
            21,
            [],
        ),
        ("{ n = Shape (x) y = Reshape (x, n) }", 18, []),
    ],
)
def test_what_has_no_kernel(body: str, opset: int, expected: list[tuple[str, str]]) -> None:
    assert placed(body, opset) == expected


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ("pads = [1, 1, 1, 1]", None),
        ("pads = [1, 1, 0, 0]", "no CUDA kernel for asymmetric padding"),
        ('auto_pad = "SAME_UPPER"', "no CUDA kernel for asymmetric padding"),
        ('auto_pad = "VALID"', None),
    ],
)
def test_uneven_padding(attributes: str, reason: str | None) -> None:
    body = f"<float[3, 1, 3, 3] w> {{ y = ConvTranspose <{attributes}> (x, w) }}"
    assert placed(body) == ([] if reason is None else [("ConvTranspose", reason)])


def test_arithmetic_on_shapes_is_no_fallback_until_it_meets_the_data() -> None:
    halved = """{
        n = Shape (x)  two = Constant <value = int64 {2}> ()  m = Div (n, two)
        f = Cast <to = 1> (m)  s = ReduceSum <keepdims = 0> (f)
        h = Mul (x, s)  y = Exp (h)
    }"""
    text = (
        f'<ir_version: 10, opset_import: ["" : 18]> f (float[N, 3] x) => (float[N, 3] y) {halved}'
    )
    found = cuda_placement(onnx.parser.parse_model(text))
    assert found.arithmetic == 3
    # ONNX Runtime would rather have the model's input there, too, and what comes of it.
    names = [(entry.op_type, entry.reason) for entry in found.fallbacks]
    assert names == [(name, "beside arithmetic on shapes") for name in ("Mul", "Exp")]


NETWORK = """
    <ir_version: 10, opset_import: ["" : 18]>
    f (float[N, 3, 9, 9] x) => (float[N, 4] y)
    {
        c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, k)
        r = Relu (c)
        e = Conv <strides = [2, 2], pads = [1, 1, 1, 1], group = 6> (r, d)
        g = GlobalAveragePool (e)
        v = Flatten (g)
        y = MatMul (v, w)
    }
"""


def network() -> onnx.ModelProto:
    model = onnx.parser.parse_model(NETWORK)
    for name, shape in {"k": (6, 3, 3, 3), "d": (6, 1, 3, 3), "w": (6, 4)}.items():
        weight = onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        model.graph.initializer.append(weight)
    return model


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("step", [None, "step", *ITERATION_STEPS])
def test_every_step_of_attacks_has_kernels(step: str | None, norm: str, independent: bool) -> None:
    for loss in LOSSES:
        spec = GradientSpec("x", "y", None, loss, step, norm, independent)
        built = build_gradient(network(), {"x": (2, 3, 9, 9)}, spec)
        assert appended_fallbacks(built) == []
        assert cuda_placement(built).fallbacks == ()


def of_nodes() -> list[onnx.ModelProto]:
    """Return the single operators of onnx's own tests, in the opsets that attacks run in."""
    models = []
    for case in collect_testcases(None):
        versions = {entry.domain: entry for entry in case.model.opset_import}
        # Bodies of functions that onnx can't write out in its turn are beside the point.
        expanded = case.name.endswith(("_expanded", "_expanded_ver18"))
        if set(versions) != {""} or expanded or has_strange_types(case.model):
            continue
        for opset in (18, WORKING_OPSET, versions[""].version):
            if opset <= versions[""].version:
                model = onnx.ModelProto()
                model.CopyFrom(case.model)
                model.opset_import[0].version = opset
                model.ir_version = min(model.ir_version, 10)
                models.append(model)
    return models


def has_strange_types(model: onnx.ModelProto) -> bool:
    """Tell whether there are sequences, optional values, or floats of 8 bits and fewer."""
    values = (*model.graph.input, *model.graph.output)
    kinds = {value.type.tensor_type.elem_type for value in values}
    names = TensorProto.DataType.items()
    narrow = {kind for name, kind in names if re.search("FLOAT[48]|INT[24]", name)}
    return TensorProto.UNDEFINED in kinds or bool(kinds & narrow)


@pytest.mark.slow
@pytest.mark.skipif(stand_in.missing() is not None, reason=str(stand_in.missing()))
def test_onnx_runtime_places_operators_as_told(tmp_path: Path) -> None:
    models = of_nodes()
    differing = []
    for model, found in zip(models, stand_in.places(models, tmp_path), strict=True):
        if isinstance(found, str):
            # No model of that opset, or one that no provider runs.
            continue
        told = cuda_placement(model)
        if len(found["CPU"]) != told.arithmetic + len(told.fallbacks):
            differing.append((model.graph.name, model.opset_import[0].version, found["CPU"]))
    assert differing == [], differing


@pytest.mark.skipif(stand_in.missing() is not None, reason=str(stand_in.missing()))
def test_onnx_runtime_places_attacks_as_told(tmp_path: Path) -> None:
    model = network()
    attack = build_gradient(model, {"x": (2, 3, 9, 9)}, GradientSpec("x", "y", step="apgd"))
    uneven = onnx.ModelProto()
    uneven.CopyFrom(attack)
    (spread,) = [node for node in uneven.graph.node if node.op_type == "ConvTranspose"]
    (pads,) = [entry for entry in spread.attribute if entry.name == "pads"]
    pads.ints[:] = [1, 1, 0, 0]
    output = [entry for entry in spread.attribute if entry.name == "output_padding"]
    for entry in output:
        spread.attribute.remove(entry)
    found = stand_in.places([model, attack, uneven], tmp_path)
    assert [places["CPU"] for places in found] == [[], [], ["ConvTranspose"]]
    for built, there in zip((model, attack, uneven), found, strict=True):
        told = cuda_placement(built)
        assert told.nodes == len(there["CUDA"]) + len(there["CPU"])
        assert [entry.op_type for entry in told.fallbacks] == there["CPU"]


@pytest.mark.parametrize("opset", [-(1 << 40), 0, 1 << 40])
def test_any_version_that_a_file_says_is_placed(opset: int) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> f (float[3] x) => (float[3] y) '
        "{ h = Relu (x)  y = Cosh (h) }"
    )
    model.opset_import[0].version = opset
    assert "Cosh" in {entry.op_type for entry in cuda_placement(model).fallbacks}


def test_a_constant_of_an_attribute_that_is_left_out() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18, "own" : 1]> '
        "f (float[3] x) => (float[3] y) { y = own.g (x) } "
        '<domain: "own", opset_import: ["" : 18]> g <a> (u) => (v) '
        "{ c = Constant <value_float: float = @a> ()  v = Add (u, c) }"
    )
    assert cuda_placement(model).fallbacks == ()
