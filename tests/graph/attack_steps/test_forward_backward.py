"""The two halves of a gradient model, one after the other, are the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.analysis.inputs import find_input
from cloakify.graph.attack_steps.build import (
    GRADIENT,
    LOGITS,
    LOGITS_GRADIENT,
    GradientSpec,
    build_gradient,
)
from cloakify.graph.attack_steps.forward_backward import cut_in_halves
from cloakify.runtime import Device, Session

MODELS = Path(__file__).parents[3] / "sample_models"
CPU = Device("cpu")


def whole(model: onnx.ModelProto, shape: tuple[int, ...]) -> onnx.ModelProto:
    name, logits = find_input(model).name, find_head(model).head.logits
    return build_gradient(model, {name: shape}, GradientSpec(name, logits, loss=None))


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("fashion_pooled", (1, 28, 28)),
        ("fashion_wide", (1, 28, 28)),
        ("fashion_keras", (28, 28, 1)),
    ],
)
def test_the_halves_give_what_the_whole_gives(name, sample):
    model = onnx.load(MODELS / f"{name}.onnx")
    gradient = whole(model, (2, *sample))
    halves = cut_in_halves(gradient)
    for half in (halves.forward, halves.backward):
        onnx.checker.check_model(half, full_check=True)
    data = find_input(model).name
    rng = np.random.default_rng(0)
    x = rng.random((2, *sample), np.float32)
    seed = rng.standard_normal((2, 10)).astype(np.float32)
    expected = Session(gradient, CPU, threads=1).run({data: x, LOGITS_GRADIENT: seed})
    first = Session(halves.forward, CPU, threads=1).run({data: x})
    kept = {name: first[name] for name in halves.kept}
    second = Session(halves.backward, CPU, threads=1).run(kept | {LOGITS_GRADIENT: seed})
    np.testing.assert_array_equal(first[LOGITS], expected[LOGITS])
    # The runtime fuses other sums into convolutions where it sees both halves: last bits differ.
    scale = float(np.abs(expected[GRADIENT]).max())
    np.testing.assert_allclose(second[GRADIENT], expected[GRADIENT], rtol=0, atol=2e-6 * scale)


def test_each_half_has_its_own_weights_and_only_what_is_read_is_kept():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> f (float[N, 2] x) => (float[N, 2] y)
        <float[2] a = {1, 2}, float[2, 2] w = {1, 2, 3, 4}>
        { b = Add (x, a)  c = Relu (b)  s = Mul (c, x)  y = MatMul (s, w) }
    """)
    halves = cut_in_halves(whole(model, (3, 2)))
    assert halves.kept == ("c",)
    assert [value.name for value in halves.backward.graph.input] == ["x", LOGITS_GRADIENT, "c"]
    assert "a" in {tensor.name for tensor in halves.forward.graph.initializer}
    assert "a" not in {tensor.name for tensor in halves.backward.graph.initializer}
