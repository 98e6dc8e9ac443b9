"""Where gates can stand, putting them in, taking them out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from cloakify.errors import ModelError, UsageError
from cloakify.graph.analysis.gate_sites import BiasInput, GateSite, choose_sites, find_gate_sites
from cloakify.graph.analysis.head_search import find_head
from cloakify.graph.edit.gates import (
    gate_name,
    gates_digest,
    has_gates,
    insert_gates,
    open_gates,
    read_gates,
    strip_gates,
)
from cloakify.graph.edit.taps import tap
from cloakify.graph.lowering.run_once import run_once
from tests.support.gate_models import CNN, TRANSFORMER, filled

with_shifts = pytest.mark.parametrize("shifts", [False, True])


def sites_of(model: ModelProto, shifts: bool = False) -> list[GateSite]:
    return find_gate_sites(model, find_head(model).head, shifts=shifts)


def random_gates(sites: list[GateSite], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0.5, 1.5, site.channels).astype(np.float32) for site in sites]


def test_sites_of_a_cnn() -> None:
    sites = sites_of(filled(CNN))
    assert [(site.op_type, site.output, site.channels, site.bias) for site in sites] == [
        # The convolution before the batch normalisation is gated behind that.
        ("BatchNormalization", "normal", 4, None),
        ("BatchNormalization", "normal", 4, BiasInput("shift", "normal", 2, (1, 4, 1, 1))),
        ("Conv", "depth", 4, None),
        ("Gemm", "hidden", 5, None),
        ("Gemm", "hidden", 5, BiasInput("b3", "hidden", 2, None)),
    ]
    assert [site.shape for site in sites] == [(1, 4, 1, 1), (4,), (1, 4, 1, 1), (5,), (5,)]
    assert all(site.foldable for site in sites)
    assert sites[0].scaled == (("scale", 0), ("shift", 0))
    assert sites[1].scaled == (("shift", 0),)
    assert sites[3].scaled == (("w3", 0), ("b3", -1))


def test_sites_of_a_transformer() -> None:
    sites = sites_of(filled(TRANSFORMER))
    found = [(site.op_type, site.output, site.foldable, site.bias) for site in sites]
    assert found == [
        ("LayerNormalization", "normal", True, None),
        ("LayerNormalization", "normal", True, BiasInput("shift", "normal", 2, None)),
        ("MatMul", "q", True, None),
        ("MatMul", "q", True, BiasInput("bq", "q", 0, None)),
        # Keys and values are projected by one and the same weight.
        ("MatMul", "k", False, None),
        ("MatMul", "v", False, None),
        ("MatMul", "mixed_b", True, None),
        ("MatMul", "mixed_b", True, BiasInput("bo", "mixed_b", 1, None)),
    ]
    assert sites[6].scaled == (("wo", 1), ("bo", -1))


def test_every_gate_has_its_shift() -> None:
    for text in (CNN, TRANSFORMER):
        sites = sites_of(filled(text), shifts=True)
        gates, shifts = sites[::2], sites[1::2]
        assert gates == [site for site in sites_of(filled(text)) if site.bias is None]
        assert all(shift.adds and not shift.bias for shift in shifts)
        pairs = list(zip(gates, shifts, strict=True))
        assert all((a.output, a.shape) == (b.output, b.shape) for a, b in pairs)
    sites = sites_of(filled(CNN), shifts=True)
    # The bias takes a shift up; a layer that has none can get one.
    folds = [(site.scaled, site.free_bias) for site in sites[1::2]]
    assert folds == [((("shift", 0),), None), ((), ("depth", 2)), ((("b3", -1),), None)]
    found = [(site.output, site.foldable) for site in sites_of(filled(TRANSFORMER), shifts=True)]
    # A product without a sum has nowhere to add to.
    assert found[4:8] == [("k", False), ("k", False), ("v", False), ("v", False)]


def test_sites_by_position() -> None:
    model = filled(CNN)
    head = find_head(model).head
    by_channel, found = (find_gate_sites(model, head, by_position=flag) for flag in (False, True))
    assert [(site.output, site.bias) for site in found] == [
        (site.output, site.bias) for site in by_channel
    ]
    assert [site.shape for site in found] == [(1, 4, 6, 6), (4,), (1, 4, 4, 4), (5,), (5,)]
    assert [site.channels for site in found] == [144, 4, 64, 5, 5]
    assert [site.foldable for site in found] == [False, True, False, True, True]
    # Whatever the positions' gates are, taking them out gives the source.
    gates = random_gates(found)
    gated = insert_gates(model, found, gates, {})
    onnx.checker.check_model(gated, full_check=True)
    assert strip_gates(gated).SerializeToString() == model.SerializeToString()
    # The same at every position of a channel: the gates of channels.
    gates = random_gates(by_channel)
    spread = [
        np.broadcast_to(values.reshape(site.shape), wide.shape).reshape(-1)
        for values, site, wide in zip(gates, by_channel, found, strict=True)
    ]
    x = {"x": np.random.default_rng(1).random((2, 3, 6, 6), np.float32)}
    (expected,) = run_once(insert_gates(model, by_channel, gates, {}), x)
    (got,) = run_once(insert_gates(model, found, spread, {}), x)
    assert got.tobytes() == expected.tobytes()


def test_biases_that_take_no_gates() -> None:
    model = filled(CNN)
    gemm = model.graph.node[7]
    assert gemm.op_type == "Gemm"
    gemm.attribute.append(onnx.helper.make_attribute("beta", 2.0))
    # What is multiplied by something else on the way is no bias.
    assert [site.bias for site in sites_of(model) if site.output == "hidden"] == [None]
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "b3")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.ones((1, 1), np.float32), "b3"))
    del gemm.attribute[-1]
    (only,) = (site for site in sites_of(model) if site.output == "hidden")
    assert only.bias is None and not only.foldable


def test_layers_by_pattern() -> None:
    sites = sites_of(filled(TRANSFORMER))
    assert choose_sites(sites, "all") == sites
    assert [site.output for site in choose_sites(sites, "m*")] == ["mixed_b"] * 2
    assert choose_sites(sites, "last") == sites[-2:]
    with pytest.raises(UsageError, match="matches no layer; there are 'normal'"):
        choose_sites(sites, "conv*")


@with_shifts
@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_gates_of_one_change_no_bit(text: str, shifts: bool) -> None:
    model = filled(text)
    sites = sites_of(model, shifts)
    idle = [np.full(site.channels, -0.0 if site.adds else 1.0) for site in sites]
    gated = insert_gates(model, sites, idle, {})
    onnx.checker.check_model(gated, full_check=True)
    x = {model.graph.input[0].name: np.random.default_rng(1).random((2, 3, 6, 6), np.float32)}
    if text is TRANSFORMER:
        x = {"x": np.random.default_rng(1).random((2, 5, 4), np.float32)}
    (before,), (after,) = run_once(model, x), run_once(gated, x)
    assert before.tobytes() == after.tobytes()


@with_shifts
@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_stripping_gives_the_source_back(text: str, shifts: bool) -> None:
    model = filled(text)
    sites = sites_of(model, shifts)
    gates = random_gates(sites)
    gated = insert_gates(model, sites, gates, {"method": "tuned"})
    assert has_gates(gated) and not has_gates(model)
    assert strip_gates(gated).SerializeToString() == model.SerializeToString()
    for found, given in zip(read_gates(gated), gates, strict=True):
        np.testing.assert_array_equal(found, given)
    assert gates_digest(read_gates(gated)) == gates_digest(gates)
    factors = [values for site, values in zip(sites, gates, strict=True) if not site.adds]
    for found, given in zip(read_gates(gated, shifts=False), factors, strict=True):
        np.testing.assert_array_equal(found, given)


@with_shifts
def test_open_gates_are_inputs(shifts: bool) -> None:
    model = filled(CNN)
    sites = sites_of(model, shifts)
    gates = random_gates(sites)
    gated = insert_gates(model, sites, gates, {})
    opened = open_gates(model, sites)
    x = np.random.default_rng(2).random((2, 3, 6, 6), np.float32)
    feeds = {
        gate_name(k, site): values.reshape(site.shape)
        for k, (site, values) in enumerate(zip(sites, gates, strict=True))
    }
    (expected,), (found,) = run_once(gated, {"x": x}), run_once(opened, {"x": x, **feeds})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("text", [CNN, TRANSFORMER])
def test_gates_multiply_outputs_and_biases(text: str) -> None:
    """Only the biases' gates of all layers: the same as the model with other biases."""
    model = filled(text)
    sites = sites_of(model)
    gates = random_gates(sites)
    for number, site in enumerate(sites):
        if site.bias is None:
            gates[number] = np.ones(site.channels, np.float32)
    x = {
        "x": np.random.default_rng(3).random((2, 3, 6, 6) if text is CNN else (2, 5, 4), np.float32)
    }
    (found,) = run_once(insert_gates(model, sites, gates, {}), x)
    scaled = {site.bias.value: g for site, g in zip(sites, gates, strict=True) if site.bias}
    for tensor in model.graph.initializer:
        if tensor.name in scaled:
            values = onnx.numpy_helper.to_array(tensor) * scaled[tensor.name]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    (expected,) = run_once(model, x)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize("by_position", [False, True])
def test_shifts_are_added_behind_the_gates(ir_version: int, by_position: bool) -> None:
    """Written out in NumPy from what the source's layers put out."""
    model = filled(CNN)
    model.ir_version = ir_version
    if ir_version < 4:
        for tensor in model.graph.initializer:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    sites = find_gate_sites(model, find_head(model).head, by_position=by_position, shifts=True)
    rng = np.random.default_rng(5)
    gates = [rng.uniform(-1, 1, site.channels).astype(np.float32) for site in sites]
    gated = insert_gates(model, sites, gates, {})
    onnx.checker.check_model(gated, full_check=True)
    put_out = [site.output for site in sites[::2]]
    inner = [f"cloakify_ungated_{k}" for k in range(0, len(sites), 2)]
    x = {"x": rng.random((2, 3, 6, 6), np.float32)}
    for name, before, gate, shift in zip(put_out, inner, gates[::2], gates[1::2], strict=True):
        shape = next(site.shape for site in sites if site.output == name)
        plain, found = run_once(tap(gated, [before, name]), x)
        expected = plain * gate.reshape(shape) + shift.reshape(shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert strip_gates(gated).SerializeToString() == model.SerializeToString()


def test_refusals() -> None:
    model = filled(CNN)
    sites = sites_of(model)
    gated = insert_gates(model, sites, random_gates(sites), {})
    with pytest.raises(ModelError, match="holds cloakify gates already"):
        insert_gates(gated, sites, random_gates(sites), {})
    with pytest.raises(ModelError, match="has 4 channels, not"):
        insert_gates(model, sites, [np.ones(3)] * len(sites), {})
    with pytest.raises(ModelError, match="no cloakify gates"):
        strip_gates(model)
    node = next(node for node in gated.graph.node if node.name == "cloakify_gate_mul_1")
    node.op_type = "Div"
    with pytest.raises(ModelError, match="number 1 is not one"):
        read_gates(gated)
    sites = sites_of(model, shifts=True)
    shifted = insert_gates(model, sites, random_gates(sites), {})
    node = next(node for node in shifted.graph.node if node.name == "cloakify_shift_add_1")
    for op_type, reads in (("Mul", 0), ("Add", 1)):
        node.op_type = op_type
        if reads:
            node.input[0], node.input[1] = node.input[1], node.input[0]
        with pytest.raises(ModelError, match="number 1 is not one"):
            read_gates(shifted)
