"""Layers whose gates stay nodes: the axis of their channels, by what gates do, and slopes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from cloakify.graph.analysis.ending import BareEnding
from cloakify.graph.analysis.gate_sites import GateSite, find_gate_sites
from cloakify.graph.attack_steps.gate_gradient import SUFFIX, build_gate_gradient
from cloakify.graph.edit.gates import gate_name, insert_gates, open_gates, strip_gates
from cloakify.graph.edit.taps import tap
from cloakify.graph.lowering.run_once import run_once

N = 4
RECURRENT = "t = Transpose <perm = [1, 0, 2]> (x)"
TO_INTEGERS = "q, qs, qz = DynamicQuantizeLinear (x)"
# Each: how samples are shaped, the layer that puts out v, its axis of channels from behind, their
# number, and its constants.
LAYERS: dict[str, tuple[tuple[int, ...], str, int, int, dict[str, tuple[int, ...]]]] = {
    "LSTM": (
        (5, 3),
        RECURRENT + " o, v, l = LSTM <hidden_size = 6> (t, W, R, B)",
        -1, 6, {"W": (1, 24, 3), "R": (1, 24, 6), "B": (1, 48)},
    ),
    "LSTM, all states": (
        (5, 3),
        RECURRENT + " v = LSTM <hidden_size = 6> (t, W, R)",
        -1, 6, {"W": (1, 24, 3), "R": (1, 24, 6)},
    ),
    "GRU, both ways": (
        (5, 3),
        RECURRENT + ' o, v = GRU <hidden_size = 6, direction = "bidirectional"> (t, W, R)',
        -1, 6, {"W": (2, 18, 3), "R": (2, 18, 6)},
    ),
    "RNN": (
        (5, 3),
        RECURRENT + ' o, v = RNN <hidden_size = 6, activations = ["Tanh"]> (t, W, R)',
        -1, 6, {"W": (1, 6, 3), "R": (1, 6, 6)},
    ),
    "columns": ((3, 2), "v = MatMul (W, x)", -2, 6, {"W": (6, 3)}),
    "Einsum": ((5, 3), 'v = Einsum <equation = "ntc,dc->ntd"> (x, W)', -1, 6, {"W": (6, 3)}),
    "Einsum, the constant first": (
        (3,), 'v = Einsum <equation = "cd, nc -> nd"> (W, x)', -1, 6, {"W": (3, 6)},
    ),
    "RMSNormalization": ((5, 6), "v = RMSNormalization (x, W)", -1, 6, {"W": (6,)}),
    "MatMulInteger": (
        (3,),
        TO_INTEGERS + " i = MatMulInteger (q, W8, qz) c = Cast <to = 1> (i) v = Mul (c, qs)",
        -1, 6, {"W8": (3, 6)},
    ),
    "ConvInteger": (
        (3, 4, 4),
        TO_INTEGERS + " i = ConvInteger (q, W8, qz) c = Cast <to = 1> (i) v = Mul (c, qs)",
        -3, 6, {"W8": (6, 3, 3, 3)},
    ),
    "FusedConv": (
        (3, 4, 4),
        'v = com.microsoft.FusedConv <activation = "Relu", kernel_shape = [3, 3]> (x, W, B)',
        -3, 6, {"W": (6, 3, 3, 3), "B": (6,)},
    ),
    "FusedGemm": (
        (3,),
        'v = com.microsoft.FusedGemm <activation = "Relu", transB = 1> (x, W, B)',
        -1, 6, {"W": (6, 3), "B": (6,)},
    ),
    "FusedMatMul": (
        (5, 3), "v = com.microsoft.FusedMatMul <alpha = 0.5> (x, W)", -1, 6, {"W": (3, 6)},
    ),
    "MatMulNBits": (
        (32,),
        "v = com.microsoft.MatMulNBits <K = 32, N = 6, bits = 4, block_size = 32> (x, Wu, S)",
        -1, 6, {"Wu": (6, 1, 16), "S": (6,)},
    ),
    "SkipLayerNormalization": (
        (5, 6), "v = com.microsoft.SkipLayerNormalization (x, x, W)", -1, 6, {"W": (6,)},
    ),
}  # fmt: skip


def made(name: str) -> tuple[ModelProto, np.ndarray, list[GateSite]]:
    shape, text, _, _, constants = LAYERS[name]
    size = ", ".join(map(str, shape))
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]> net (float[N, {size}] x)'
        f" => (float[N, 3] y) {{ {text} b = Tanh (v) {turned(name)} y = MatMul (f, H) }}"
    )
    rng = np.random.default_rng(1)
    for constant, sizes in constants.items():
        values = rng.standard_normal(sizes).astype(np.float32)
        if constant.endswith(("8", "u")):
            values = rng.integers(1, 120, sizes).astype(np.uint8 if constant == "Wu" else np.int8)
        model.graph.initializer.append(numpy_helper.from_array(values, constant))
    x = rng.standard_normal((N, *shape)).astype(np.float32)
    (hidden,) = run_once(tap(with_head(model, 1), ["b"]), {"x": x})
    model = with_head(model, hidden.size // N)
    return model, x, find_gate_sites(model, BareEnding("y", ("f",)), shifts=True)


def turned(name: str) -> str:
    """Samples first, if they are not: recurrent layers have them before the hidden state."""
    rank = {"LSTM, all states": 4, "LSTM": 3, "GRU, both ways": 3, "RNN": 3}.get(name)
    if rank is None:
        return "f = Flatten (b)"
    axes = [rank - 2, *(axis for axis in range(rank) if axis != rank - 2)]
    return f"s = Transpose <perm = {axes}> (b) f = Flatten (s)"


def with_head(model: ModelProto, features: int) -> ModelProto:
    whole = ModelProto()
    whole.CopyFrom(model)
    values = np.random.default_rng(2).standard_normal((features, 3)) / np.sqrt(features)
    whole.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), "H"))
    return whole


@pytest.mark.parametrize("name", LAYERS)
def test_channels_are_scaled_and_shifted(name: str) -> None:
    model, x, sites = made(name)
    _, _, axis, channels, _ = LAYERS[name]
    gate_site, shift_site = sites
    assert (gate_site.output, gate_site.channels, gate_site.foldable) == ("v", channels, False)
    assert shift_site.adds and not shift_site.foldable and not shift_site.by_position
    rng = np.random.default_rng(3)
    gates = [rng.uniform(0.5, 1.5, channels).astype(np.float32) for _ in sites]
    gated = insert_gates(model, sites, gates, {})
    plain, found = run_once(tap(gated, ["cloakify_ungated_0", "v"]), {"x": x})
    (source,) = run_once(tap(model, ["v"]), {"x": x})
    np.testing.assert_allclose(plain, source, rtol=1e-5, atol=1e-6)
    spread = (channels, *[1] * (-1 - axis))
    expected = plain * gates[0].reshape(spread) + gates[1].reshape(spread)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert strip_gates(gated).SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("name", LAYERS)
def test_slopes_of_gates_are_those_of_moved_gates(name: str) -> None:
    model, x, sites = made(name)
    rng = np.random.default_rng(4)
    opened = open_gates(model, sites)
    gates = {
        gate_name(k, site): rng.uniform(0.5, 1.5, site.shape).astype(np.float32)
        for k, site in enumerate(sites)
    }
    built = build_gate_gradient(opened, {"x": x.shape}, "y", list(gates))
    feeds = {"x": x, "cloakify_distribution": rng.uniform(0, 1, (N, 3)).astype(np.float32)}
    names = [output.name for output in built.graph.output]

    def run(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, run_once(built, {**feeds, **values}), strict=True))

    found = run(gates)
    for gate, values in gates.items():
        way = rng.standard_normal(values.shape).astype(np.float32)
        ends = [
            run({**gates, gate: values + step * way})["cloakify_loss"] for step in (-0.01, 0.01)
        ]
        slope = float((ends[1].astype(np.float64) - ends[0]).sum()) / 0.02
        exact = float((found[gate + SUFFIX] * way).sum())
        assert slope == pytest.approx(exact, rel=0.01, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        # Without a constant of its own, or where the last axis is no channel of the constant alone.
        'v = Einsum <equation = "nc,nc->nc"> (x, x)',
        'v = Einsum <equation = "nc,c->nc"> (x, W)',
        'v = Einsum <equation = "nc,dc->dn"> (x, E)',
    ],
)
def test_what_has_no_channels_has_no_gates(text: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 17]> net (float[N, 3] x) => (y) {{ {text} '
        "y = Tanh (v) }"
    )
    for name, shape in (("W", (3,)), ("E", (6, 3))):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    assert find_gate_sites(model, BareEnding("y", ("v",))) == []
